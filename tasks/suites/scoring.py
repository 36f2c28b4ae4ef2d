"""From answers to values: lm-eval's own filters, metrics and aggregations over the documents that have an answer.

lm-eval's `evaluate` makes the same calls, but builds every prompt again for each model and cannot leave a document out.
Knows lm-eval's Task objects, no model.
"""

from __future__ import annotations

import math
import os
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from harness.core.answer import Answer, Failure, Likelihood
from harness.core.errors import SpecError
from harness.tasks.suites.build import Built, choice_metrics_of, n_docs
from harness.tasks.suites.choices import Choice, choice_metrics, has_choice_metrics
from harness.tasks.suites.index import quiet
from harness.tasks.suites.texts import Texts, limit_of, question_texts

BOOTSTRAP = 1000
"""Draws for the standard error of a metric that is not a mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """The right answer of a question: nats, tokens and bytes of the text that was scored."""

    nats: float
    n_tokens: int
    n_bytes: int


@dataclass(slots=True, kw_only=True)
class TaskScores:
    """One task on one model: metric ("acc,none") -> document -> value; documents without a value, with the cause."""

    name: str
    docs: list[int]
    values: dict[str, dict[int, Any]] = field(default_factory=lambda: defaultdict(dict))
    failed: dict[int, str] = field(default_factory=dict)
    gold: dict[int, Gold] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    nats: dict[int, list[float]] = field(default_factory=dict)
    """Of every request of a document that was answered by a likelihood, in order."""
    questions: Texts = field(default_factory=dict)


class Questions:
    """Every request of some tasks, built once for all models. `asked`: kind of request -> requests, in order."""

    def __init__(self, built: Sequence[Built], *, seed: int, **prompting: Any) -> None:
        """`seed`: of the examples' choice. `prompting`: what lm-eval's `build_all_requests` takes of chat templates."""
        self.asked: dict[str, list[Any]] = defaultdict(list)
        self._of: dict[str, list[Any]] = {}
        self._texts: dict[str, Texts] = {}
        for one in built:
            for name, task in one.tasks.items():
                _remember(task)
                with quiet():
                    task.set_fewshot_seed(seed=seed)  # the same examples, however often questions are built
                    task.build_all_requests(limit=one.limit, **prompting)
                self._of[name] = list(task.instances)
                for instance in self._of[name]:
                    self.asked[instance.request_type] += [instance] * (instance.repeats or 1)

    def score(self, built: Sequence[Built], answers: Mapping[str, Sequence[Answer]]) -> dict[str, TaskScores]:
        """The values of every task, given an answer to each request."""
        given: dict[int, list[Answer]] = defaultdict(list)
        for kind, instances in self.asked.items():
            for instance, answer in zip(instances, answers[kind], strict=True):
                given[id(instance)].append(answer)
        return {
            name: _score_task(task, self._of[name], given, self._texts_of(name, task), n=n_docs(task, one.limit))
            for one in built
            for name, task in one.tasks.items()
        }

    def _texts_of(self, name: str, task: Any) -> Texts:
        """The texts of its questions for people, made once."""
        if name not in self._texts:
            limit = limit_of(sum(len({instance.doc_id for instance in of}) for of in self._of.values()))
            with quiet():
                self._texts[name] = question_texts(task, self._of[name], limit=limit)
        return self._texts[name]


RENDERED = ("doc_to_text", "doc_to_target", "doc_to_choice")


class _Remembered:
    """A task's rendering of a document, cached. lm-eval compiles the template anew at each call: three times per question and
    model, and for every example in every prompt."""

    def __init__(self, render: Callable[..., Any]) -> None:
        self._render = render
        self._known: dict[tuple[int, int], tuple[Any, Any, Any]] = {}

    def __call__(self, doc: Any, template: Any = None) -> Any:
        key = (id(doc), id(template))
        if key not in self._known:  # both objects are kept, so that no other one gets their ids
            self._known[key] = (doc, template, self._render(doc, template))
        return self._known[key][2]


def _remember(task: Any) -> None:
    """Cache the rendering of a task of plain templates; one with code of its own is left alone."""
    if type(task).__name__ != "ConfigurableTask" or task.prompt is not None:
        return
    for name in RENDERED:
        if name not in vars(task):
            setattr(task, name, _Remembered(getattr(task, name)))


def _score_task(
    task: Any, instances: Sequence[Any], given: Mapping[int, list[Answer]], texts: Texts, *, n: int
) -> TaskScores:
    """`n`: number of documents; one without any request has failed."""
    by_doc: dict[int, list[Any]] = defaultdict(list)
    for instance in instances:
        by_doc[instance.doc_id].append(instance)
    silent = [doc for doc in range(n) if doc not in by_doc]
    scores = TaskScores(name=task.task_name, docs=[*by_doc, *silent], questions=texts)
    scores.failed.update(
        dict.fromkeys(silent, "nothing is asked of it: it has no choices, or its task makes no request")
    )
    good: dict[int, list[Any]] = {}
    for doc, some in by_doc.items():
        some.sort(key=lambda instance: instance.idx)
        lost = next((a for i in some for a in given[id(i)] if isinstance(a, Failure)), None)
        if lost is not None:
            scores.failed[doc] = lost.cause
            continue
        good[doc] = some
        for instance in some:
            instance.resps = [(a.nats, a.greedy) if isinstance(a, Likelihood) else a for a in given[id(instance)]]
            instance.filtered_resps = {}
        first = given[id(some[0])][0]
        if isinstance(first, str):
            scores.texts[doc] = first
        elif isinstance(first, Likelihood):
            scores.nats[doc] = [a.nats for i in some if isinstance(a := given[id(i)][0], Likelihood)]
        gold = _gold(task, some, [given[id(i)][0] for i in some])
        if gold is not None:
            scores.gold[doc] = gold
        if has_choice_metrics(task):
            for metric, value in _choices(task, some, [given[id(i)][0] for i in some]).items():
                scores.values[f"{metric},none"][doc] = value
    if good:
        with quiet():
            for ensemble in task._filters:
                ensemble.apply([instance for some in good.values() for instance in some])
    _judge(task, good, scores)
    for doc in scores.failed:  # also by an exception in a metric
        for values in scores.values.values():
            values.pop(doc, None)
    return scores


def _judge(task: Any, good: Mapping[int, list[Any]], scores: TaskScores) -> None:
    """Fill in the values of every metric; a document for which a metric raises has failed."""

    def judge(doc: int) -> dict[str, Any] | str:
        found: dict[str, Any] = {}
        try:
            for name in good[doc][0].filtered_resps:
                answers = [instance.filtered_resps[name] for instance in good[doc]]
                results = task.process_results(_own(task, good[doc][0].doc), answers)
                found |= {f"{metric},{name}": value for metric, value in results.items()}
        except SpecError:
            raise
        except Exception as error:  # noqa: BLE001 - one document's metric must not cost the others
            return f"its metric broke: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return found

    if getattr(task, "UNSAFE_CODE", False):
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as workers:
            judged = list(workers.map(judge, good))
    else:
        with quiet():
            judged = [judge(doc) for doc in good]
    for doc, found in zip(good, judged, strict=True):
        if isinstance(found, str):
            scores.failed[doc] = found
            continue
        for metric, value in found.items():
            scores.values[metric][doc] = value


def _own(task: Any, doc: Any) -> Any:
    """A copy for a task with metric code of its own, which may write into it; lm-eval's metrics do not."""
    return dict(doc) if isinstance(doc, dict) and callable(task.config.process_results) else doc


def _gold(task: Any, instances: Sequence[Any], answers: Sequence[Answer]) -> Gold | None:
    """The right continuation's likelihood, of several the first one's; None where the task has none."""
    if task.OUTPUT_TYPE == "loglikelihood":
        index = 0
    elif has_choice_metrics(task):
        right = right_choices(task, instances[0].doc)
        if not right:
            return None
        index = right[0]
    else:
        return None
    answer = answers[index] if index < len(instances) else None
    if not isinstance(answer, Likelihood):
        return None
    return Gold(nats=answer.nats, n_tokens=answer.n_tokens, n_bytes=len(_scored_text(instances[index]).encode()))


def _scored_text(instance: Any) -> str:
    """The continuation, with the spaces at its context's end: lm-eval scores them with it."""
    context, continuation = instance.args[:2]
    return str(context[len(context.rstrip()) :] + continuation)


def right_choices(task: Any, doc: Any) -> list[int]:
    """Indices of a question's right choices, as lm-eval takes them; none where the data name none of the choices.

    A task with scoring code of its own may have several although its `doc_to_target` names one: then the data have `labels`
    beside those choices, as TruthfulQA's have.
    """
    choices = task.doc_to_choice(doc)
    if callable(task.config.process_results) and isinstance(doc, Mapping):
        for column in doc.values():
            if isinstance(column, Mapping) and list(column.get("choices") or ()) == choices and "labels" in column:
                return [place for place, label in enumerate(column["labels"]) if label == 1]
    right = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    places = [_place(one, choices) for one in (right if isinstance(right, list) else [right])]
    return [place for place in dict.fromkeys(places) if 0 <= place < len(choices)]


def _place(right: Any, choices: Sequence[str]) -> int:
    """Index of a right choice that is given by its index or its text; -1 where it is none of them."""
    if isinstance(right, str):
        return choices.index(right) if right in choices else -1
    try:
        return int(right)
    except (TypeError, ValueError):
        return -1


def _choices(task: Any, instances: Sequence[Any], answers: Sequence[Answer]) -> dict[str, float]:
    """A question's choice metrics. lm-eval's requests for unconditional likelihoods come after those for the choices."""
    doc = instances[0].doc
    n, right = len(task.doc_to_choice(doc)), right_choices(task, doc)
    choices = [
        Choice(nats=answer.nats, n_tokens=answer.n_tokens, n_chars=len(_scored_text(instance)), right=place in right)
        for place, (instance, answer) in enumerate(zip(instances[:n], answers[:n], strict=True))
        if isinstance(answer, Likelihood)
    ]
    return choice_metrics(choices)


def aggregate(built: Built, scores: Mapping[str, TaskScores]) -> dict[str, dict[str, Any]]:
    """lm-eval's own result per task, and per group under the group's name: "acc,none" and "acc_stderr,none"."""
    results: dict[str, dict[str, Any]] = {}
    for name, task in built.tasks.items():
        found: dict[str, Any] = {"name": name, "alias": name, "sample_len": 0}
        for key, values in scores[name].values.items():
            metric, _, filter_name = key.partition(",")
            items = list(values.values())
            total = _aggregation(task, metric)
            found[key] = _total(total, items)
            found[f"{metric}_stderr,{filter_name}"] = _stderr_of_mean(total, items)
            found["sample_len"] = max(found["sample_len"], len(items))
        results[name] = found
    if built.group is not None:
        with quiet():
            for group in [*reversed(built.group.get_all_groups()), built.group]:
                results[group.name] = group.aggregate({n: r for n, r in results.items() if n in built.tasks})
        results[built.group.name] |= _choices_of_group(built, scores, results)
    return results


def _choices_of_group(
    built: Built, scores: Mapping[str, TaskScores], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The choice metrics of a group, with lm-eval's own formulas: its tasks weighted as for its first metric."""
    from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr, unweighted_mean_stderr

    found: dict[str, Any] = {}
    for key in choice_metrics_of(built):
        if key in results[built.name]:
            continue  # the group has a metric of that name
        sizes = [len(scores[name].values.get(key, {})) for name in built.tasks]
        if 0 in sizes:
            continue
        by_size = built.group.aggregate_metric_list[0].weight_by_size if built.group else True
        error = f"{key.removesuffix(',none')}_stderr,none"
        found[key] = aggregate_subtask_metrics([results[name][key] for name in built.tasks], sizes, by_size)
        errors = [results[name][error] for name in built.tasks]
        if "N/A" in errors:
            found[error] = "N/A"
        else:
            found[error] = float(pooled_sample_stderr(errors, sizes) if by_size else unweighted_mean_stderr(errors))
    return found


def _total(total: Callable[[Sequence[Any]], float], items: Sequence[Any]) -> float:
    """The metric over all documents; NaN where it overflows, as perplexity does on long texts."""
    try:
        return float(total(items))
    except ArithmeticError:
        return math.nan


def _aggregation(task: Any, metric: str) -> Callable[[Sequence[Any]], float]:
    from lm_eval.api.metrics import mean

    found: Callable[[Sequence[Any]], float] = task.aggregation().get(metric, mean)
    return found


def _stderr_of_mean(total: Any, items: Sequence[Any]) -> Any:
    """lm-eval's closed form, or its "N/A" where there is none."""
    from lm_eval.api.metrics import acc_all, mean, stderr_for_metric

    if total not in (mean, acc_all) or len(items) < 2:
        return "N/A"
    closed = stderr_for_metric(total, bootstrap_iters=1)
    return "N/A" if closed is None else float(closed(items))


def stderr(task: Any, metric: str, values: Mapping[int, Any]) -> float | None:
    """Of a metric that is not a mean: the standard deviation over BOOTSTRAP draws of the documents, seeded.

    None where it has none.
    """
    total = _aggregation(task, metric.partition(",")[0])
    items = list(values.values())
    if len(items) < 2:
        return None
    rng = random.Random(0)
    try:
        drawn = [float(total(rng.choices(items, k=len(items)))) for _ in range(BOOTSTRAP)]
    except (ArithmeticError, ValueError):
        return None
    centre = math.fsum(drawn) / len(drawn)
    spread = math.sqrt(math.fsum((value - centre) ** 2 for value in drawn) / (len(drawn) - 1))
    return spread if math.isfinite(spread) else None
