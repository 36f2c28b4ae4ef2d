"""Probabilities of choices as metrics of any multiple-choice task: equal to what `hf`'s log-likelihoods give, item by item."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import suite_samples as samples
import tiny
import yaml
from served import ServedSubject

from harness.checkpoints.find import find_checkpoints
from harness.components.lm_eval.component import LmEvalComponent
from harness.core.component import Outcome, SilentProgress
from harness.core.errors import SpecError
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec
from harness.tasks.suites.choices import CHOICE_METRICS
from harness.tasks.suites.scoring import right_choices

CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_choice": "choices",
    "doc_to_target": "gold",
}
ROWS = [
    {"q": "The quick brown", "choices": ["fox jumps", "dog", "a lazy question"], "gold": 0},
    {"q": "def add(a, b):", "choices": ["return a + b", "print(i)", "x"], "gold": 2},
    {"q": "What is the capital of France? ", "choices": ["Paris, of course", "héllo wörld"], "gold": 1},
]
"""A question ends in a space, and choices differ in tokens and in bytes."""


class Text(NamedTuple):
    """A choice as lm-eval scores it, and whether it is right."""

    context: str
    continuation: str
    right: bool


def by_hf(questions: Sequence[Sequence[Text]]) -> list[dict[str, float]]:
    """The metrics of each question from the log-likelihoods of lm-eval's own `hf`, spelt out."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(tiny.llama(), tokenizer=tiny.tokenizer(), logits_cache=False)
    found = []
    for texts in questions:
        pairs = [(t.context, t.continuation) for t in texts]
        requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
        nats = [float(answer[0]) for answer in lm.loglikelihood(requests, disable_tqdm=True)]
        spaces = [t.context[len(t.context.rstrip()) :] for t in texts]
        units = {
            "": [1] * len(texts),
            "_per_token": [len(lm._encode_pair(*pair)[1]) for pair in pairs],
            "_per_char": [len(space + t.continuation) for space, t in zip(spaces, texts, strict=True)],
        }
        made = {}
        for per, lengths in units.items():
            p = [math.exp(n / length) for n, length in zip(nats, lengths, strict=True)]
            right = [one for one, t in zip(p, texts, strict=True) if t.right]
            wrong = [one for one, t in zip(p, texts, strict=True) if not t.right]
            made[f"total_prob{per}"] = sum(p)
            if right:
                made[f"correct_prob{per}"] = sum(right)
                made[f"norm_correct_prob{per}"] = sum(right) / sum(p)
            if right and wrong:
                made[f"margin{per}"] = max(right) - max(wrong)
        found.append(made)
    return found


def mean(found: Sequence[dict[str, float]], metric: str) -> float:
    values = [one[metric] for one in found if metric in one]
    return sum(values) / len(values)


def write_task(folder: Path, rows: Sequence[dict[str, Any]], *, name: str = "own_task", **keys: Any) -> None:
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": samples.write(folder / f"{name}.jsonl", rows)}},
        "test_split": "test",
        "metric_list": [{"metric": "acc"}],
        **CHOICES,
        **keys,
    }
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(task))


def load(folder: Path, *, task: str = "own_task", **component: Any) -> LmEvalComponent:
    where = {"include_path": [str(folder / "tasks")]} if (folder / "tasks").exists() else {}
    spec = {"components": [{"name": "own", "kind": "lm_eval", "task": task, **where, **component}]}
    (made,) = prepare(parse_spec(spec)).components
    assert isinstance(made, LmEvalComponent)
    return made


def measure(component: LmEvalComponent, folder: Path) -> Outcome:
    subject = ServedSubject(tiny.llama(), tiny.tokenizer(), SpecError("no server here"))
    return component.measure(subject, SilentProgress(), folder / "work")


def texts_of(rows: Sequence[dict[str, Any]], golds: Sequence[Sequence[int]]) -> list[list[Text]]:
    return [
        [Text(row["q"], f" {choice}", place in gold) for place, choice in enumerate(row["choices"])]
        for row, gold in zip(rows, golds, strict=True)
    ]


def check(folder: Path, expected: list[dict[str, float]], **component: Any) -> None:
    """Every metric, chosen by `metric:` and in the detail of the usual one, question by question."""
    usual = measure(load(folder, **component), folder).measurement
    assert usual.metric == "acc"
    for metric in CHOICE_METRICS:
        outcome = measure(load(folder, metric=metric, **component), folder)
        made = outcome.measurement
        assert (made.metric, made.higher_is_better) == (metric, True)
        for value, one in zip(outcome.items["value"], expected, strict=True):
            assert value == pytest.approx(one[metric], rel=1e-4), metric
        assert made.raw == pytest.approx(mean(expected, metric), rel=1e-4)
        assert usual.detail["choices"][metric] == made.raw == made.detail["choices"][metric]  # type: ignore[index,call-overload]
        assert made.stderr is not None


def test_they_are_what_hf_s_log_likelihoods_give(tmp_path: Path) -> None:
    write_task(tmp_path, ROWS)
    check(tmp_path, by_hf(texts_of(ROWS, [[row["gold"]] for row in ROWS])))


def test_they_count_examples_in_the_prompt_as_context(tmp_path: Path) -> None:
    write_task(tmp_path, ROWS, num_fewshot=1, fewshot_config={"sampler": "first_n", "samples": [ROWS[1]]})
    shot = f"{ROWS[1]['q']} {ROWS[1]['choices'][2]}\n\n"
    texts = [[t._replace(context=shot + t.context) for t in one] for one in texts_of(ROWS, [[r["gold"]] for r in ROWS])]
    check(tmp_path, by_hf(texts))


def test_unconditional_likelihoods_are_no_choices(tmp_path: Path) -> None:
    write_task(tmp_path, ROWS, metric_list=[{"metric": "acc"}, {"metric": "acc_mutual_info"}])
    expected = by_hf(texts_of(ROWS, [[row["gold"]] for row in ROWS]))
    for metric in ("total_prob", "norm_correct_prob_per_token"):
        outcome = measure(load(tmp_path, metric=metric), tmp_path)
        assert outcome.items["value"] == pytest.approx([one[metric] for one in expected], rel=1e-4)


def test_several_right_answers_are_taken_together(tmp_path: Path) -> None:
    golds = [[0, 2], [1], [1, 0]]
    rows = [{**row, "gold": gold} for row, gold in zip(ROWS, golds, strict=True)]
    write_task(tmp_path, rows)
    expected = by_hf(texts_of(rows, golds))
    outcome = measure(load(tmp_path, metric="norm_correct_prob_per_char"), tmp_path)
    assert outcome.items["value"] == pytest.approx([one["norm_correct_prob_per_char"] for one in expected], rel=1e-4)
    margin = measure(load(tmp_path, metric="margin"), tmp_path)
    assert margin.items["value"][:2] == pytest.approx([one["margin"] for one in expected[:2]], rel=1e-4)
    assert (margin.measurement.status, margin.measurement.n_scored) == ("partial", 2)
    assert margin.items["value"][2] is None and margin.items["status"] == ["ok", "ok", "failed"]
    words = "no value by margin: it names no right choice, or no wrong one"
    assert margin.measurement.reason == f"1 of 3 questions have {words}" and margin.items["reason"][2] == words


def test_choices_in_the_context_are_scored_by_what_follows(tmp_path: Path) -> None:
    """WinoGrande: the same continuation after either name."""
    rows = samples.winogrande()
    data = {"winogrande": samples.all_data(tmp_path / "data")["winogrande"]}
    texts = []
    for row in rows:
        before, after = row["sentence"].split("_")
        options = [row["option1"], row["option2"]]
        texts.append(
            [Text(before + o, f" {after.strip()}", row["answer"] == str(i + 1)) for i, o in enumerate(options)]
        )
    check(tmp_path, by_hf(texts), task="winogrande", data=data)


def test_truthful_qa_s_labels_say_which_choices_are_right(tmp_path: Path) -> None:
    """`doc_to_target` names the first alone; accuracy by mc2 is the share of all right ones."""
    rows = [
        {
            "question": row["q"],
            "mc1_targets": {"choices": row["choices"][:2], "labels": [1, 0]},
            "mc2_targets": {"choices": row["choices"], "labels": [1, 0, 1][: len(row["choices"])]},
        }
        for row in ROWS
    ]
    files = {"validation": samples.write(tmp_path / "mc.jsonl", rows)}
    for task, n_right in (("truthfulqa_mc2", [2, 2, 1]), ("truthfulqa_mc1", [1, 1, 1])):
        component = load(tmp_path, task=task, metric="norm_correct_prob", data={task: {"files": files}})
        outcome = measure(component, tmp_path / task)
        if task == "truthfulqa_mc2":
            own = measure(load(tmp_path, task=task, metric="acc", data={task: {"files": files}}), tmp_path / task)
            assert outcome.items["value"] == pytest.approx(own.items["value"], rel=1e-6)
        (built,) = component.evaluation.built
        (asked,) = built.tasks.values()
        assert [len(right_choices(asked, doc)) for doc in asked.eval_docs] == n_right


def test_a_question_whose_answer_is_not_among_its_choices_has_no_value_and_says_why(tmp_path: Path) -> None:
    rows = [*ROWS, {"q": "The", "choices": ["fox", "dog"], "gold": 7}]
    write_task(tmp_path, rows)
    write_task(tmp_path, [{**rows[-1], "gold": "neither"}], name="none")
    made = measure(load(tmp_path, metric="correct_prob"), tmp_path).measurement
    assert (made.status, made.n_items, made.n_scored) == ("partial", 4, 3)
    assert made.reason == "1 of 4 questions have no value by correct_prob: it names no right choice, or no wrong one"
    assert measure(load(tmp_path, metric="total_prob"), tmp_path).measurement.status == "ok"
    made = measure(load(tmp_path, task="none", metric="correct_prob"), tmp_path).measurement
    assert made.status == "failed" and "names no right choice" in (made.reason or "")
    assert "choices" in made.detail


@pytest.mark.parametrize("by_size", [True, False])
def test_a_group_weighs_its_tasks_as_its_own_metric_does_and_has_paired_errors(by_size: bool, tmp_path: Path) -> None:
    write_task(tmp_path, ROWS, name="three")
    write_task(tmp_path, [*ROWS, *ROWS[:2]], name="five")
    group = {
        "group": "both",
        "task": ["three", "five"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": by_size}],
    }
    (tmp_path / "tasks/both.yaml").write_text(yaml.safe_dump(group))
    found = by_hf(texts_of(ROWS, [[row["gold"]] for row in ROWS]))
    made = measure(load(tmp_path, task="both", metric="margin_per_char"), tmp_path).measurement
    three, five = mean(found, "margin_per_char"), mean([*found, *found[:2]], "margin_per_char")
    assert made.raw == pytest.approx((3 * three + 5 * five) / 8 if by_size else (three + five) / 2, rel=1e-4)
    assert made.stderr is not None and made.stderr > 0
    for step in (10, 20):
        tiny.save(tmp_path / f"run/checkpoint-{step}", tiny.llama(step), tiny.tokenizer())
    where = {"include_path": [str(tmp_path / "tasks")], "kind": "lm_eval", "task": "both"}
    spec = parse_spec({"components": [{"name": "m", "metric": "margin_per_char", **where}, {"name": "acc", **where}]})
    last = run(prepare(spec), find_checkpoints([str(tmp_path / "run")]), out=tmp_path / "out").feed[-1]
    component = last.components[0]
    assert component.change_stderr is not None and component.n_paired == 8 and last.gain_stderr is not None
    assert component.change == pytest.approx((component.raw or 0) - read_raw(tmp_path, 10), abs=1e-12)


def read_raw(folder: Path, step: int) -> float:
    from harness import read_feed

    return next(v.vector[0] for v in read_feed(folder / "out") if v.step == step) or 0.0


def test_another_checkpoint_s_question_is_paired_by_every_metric_at_no_further_request(tmp_path: Path) -> None:
    write_task(tmp_path, ROWS)
    one, two = load(tmp_path), load(tmp_path, metric="total_prob_per_token")
    assert one.evaluation is two.evaluation and one.definition != two.definition
    subject = ServedSubject(tiny.llama(), tiny.tokenizer(), SpecError("no server here"))
    assert one.evaluation.on(subject, SilentProgress(), tmp_path) is two.evaluation.on(
        subject, SilentProgress(), tmp_path
    )


def test_a_misspelt_metric_names_these_too_and_tasks_without_choices_have_none(tmp_path: Path) -> None:
    write_task(tmp_path, ROWS)
    keys = {"output_type": "loglikelihood", "doc_to_text": "{{q}}", "doc_to_target": "{{choices[0]}}"}
    write_task(tmp_path, ROWS, name="plain", **{**keys, "doc_to_choice": None})
    with pytest.raises(SpecError, match=r"one of acc,none, or of its choices' probabilities correct_prob, .*per_char"):
        load(tmp_path, metric="correct_probability")
    assert load(tmp_path).metric == "acc", "the usual metric stays the only one"
    with pytest.raises(SpecError, match=r"has no metric 'margin'; metric is one of acc,none$"):
        load(tmp_path, task="plain", metric="margin")


def test_a_metric_of_the_task_s_own_with_such_a_name_is_the_task_s(tmp_path: Path) -> None:
    write_task(tmp_path, ROWS, metric_list=[{"metric": "margin", "aggregation": "mean", "higher_is_better": True}])
    (tmp_path / "tasks/judge.py").write_text("def judge(doc, results):\n    return {'margin': 0.125}\n")
    path = tmp_path / "tasks/own_task.yaml"
    path.write_text(path.read_text() + "process_results: !function judge.judge\n")
    made = measure(load(tmp_path, metric="margin"), tmp_path).measurement
    assert made.raw == 0.125
