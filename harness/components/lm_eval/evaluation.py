"""An evaluation that several components may share: its tasks are built once, and each checkpoint is asked once. Knows no metric."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import JsonValue

from harness.core.component import Engine, Estimate, Progress, Subject
from harness.core.digest import digest_json
from harness.core.errors import HarnessError
from harness.tasks.suites.build import Built, Wanted, build
from harness.tasks.suites.identity import definition
from harness.tasks.suites.index import lm_eval_version
from harness.tasks.suites.scoring import Questions, TaskScores, aggregate

if TYPE_CHECKING:
    from harness.lm_eval.checkpoint_lm import Packed


class Prompting(NamedTuple):
    """How prompts are made around a task's own text."""

    system_instruction: str | None
    apply_chat_template: bool
    fewshot_as_multiturn: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One checkpoint's answers: values by task, lm-eval's results by task and group, the engine, and counts of what was cut."""

    scores: Mapping[str, TaskScores]
    results: Mapping[str, Mapping[str, Any]]
    engine: Engine
    counts: Mapping[str, int]


class _Asked(NamedTuple):
    """Questions under one tokenizer (prompts depend on it through a chat template alone), and their plans."""

    questions: Questions
    plans: dict[tuple[str, int], Packed]


class Evaluation:
    """Built tasks, shared by components that ask the same; caches the answers (or the error) of the last subject."""

    def __init__(
        self,
        built: Sequence[Built],
        prompting: Prompting,
        *,
        seed: int,
        batch_tokens: int | None,
        timeout_s: float,
    ) -> None:
        self.built = tuple(built)
        self.prompting = prompting
        self.seed = seed
        self.batch_tokens = batch_tokens
        self.timeout_s = timeout_s
        self.definition: dict[str, JsonValue] = {
            "lm_eval": lm_eval_version(),
            "prompting": list(prompting),
            "tasks": {one.name: definition(one, seed) for one in built},
        }
        self._asked: dict[str, _Asked] = {}
        self._last: tuple[weakref.ref[Subject], Answers | HarnessError] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without the cached answers."""
        return {**self.__dict__, "_last": None}

    def on(self, subject: Subject, progress: Progress, scratch: Path) -> Answers:
        """The subject's answers. Raises HarnessError, again for every component that shares them."""
        n_items = sum(one.n_items for one in self.built)
        if self._last is not None and self._last[0]() is subject:
            progress.advance(items=n_items, tokens=0)
            known = self._last[1]
            if isinstance(known, HarnessError):
                raise known
            return known
        try:
            answers = self._ask(subject, progress, scratch, n_items)
        except HarnessError as error:
            self._last = (weakref.ref(subject), error)
            raise
        self._last = (weakref.ref(subject), answers)
        return answers

    def _ask(self, subject: Subject, progress: Progress, scratch: Path, n_items: int) -> Answers:
        from harness.lm_eval.checkpoint_lm import CheckpointLM, engine_of

        asked = self._questions(subject)
        n_requests = sum(len(requests) for requests in asked.questions.asked.values())
        lm = CheckpointLM(
            subject,
            plans=asked.plans,
            scratch=scratch,
            progress=_ByItem(progress, n_requests=n_requests, n_items=n_items),
            batch_tokens=self.batch_tokens,
            seed=self.seed,
            timeout_s=self.timeout_s,
        )
        answers = {kind: lm.answer(kind, requests) for kind, requests in asked.questions.asked.items()}
        scores = asked.questions.score(self.built, answers)
        results: dict[str, Mapping[str, Any]] = {}
        for one in self.built:
            results |= aggregate(one, scores)
        counts = {"n_truncated": lm.n_truncated, "n_at_limit": lm.n_at_limit}
        return Answers(scores=scores, results=results, engine=engine_of(lm.engines), counts=counts)

    def _questions(self, subject: Subject) -> _Asked:
        """The prompts: built once, or with a chat template once per tokenizer (the last one is kept)."""
        how = self.prompting
        key = subject.tokenizer_id() if how.apply_chat_template else ""
        if key not in self._asked:
            template = None
            if how.apply_chat_template:
                from harness.lm_eval.generation import render_chat

                template = partial(render_chat, subject.tokenizer())
            questions = Questions(
                self.built,
                seed=self.seed,
                system_instruction=how.system_instruction,
                apply_chat_template=how.apply_chat_template,
                fewshot_as_multiturn=how.fewshot_as_multiturn,
                chat_template=template,
                tokenizer_name=key,
            )
            self._asked = {key: _Asked(questions, {})}
        return self._asked[key]

    def estimate(self, subject: Subject) -> Estimate:
        """Requests, prompt tokens, and the most tokens that may be generated. Raises HarnessError."""
        from harness.lm_eval.generation import make_prompt, prompt_ids

        tokenizer = subject.tokenizer()
        requests = prompt_tokens = written = 0
        for kind, asked in self._questions(subject).questions.asked.items():
            requests += len(asked)
            if kind == "generate_until":
                prompts = [make_prompt(tokenizer, *r.args[:2], max_model_len=None, seed=self.seed) for r in asked]
                prompt_tokens += sum(len(prompt.ids) for prompt in prompts)
                written += sum(int(prompt.payload["max_tokens"]) for prompt in prompts)
            else:
                lengths = {text: len(prompt_ids(tokenizer, text)) for text in {"".join(r.args) for r in asked}}
                prompt_tokens += sum(lengths["".join(r.args)] for r in asked)
        return Estimate(requests=requests, prompt_tokens=prompt_tokens, generated_tokens=written)


class _ByItem:
    """Converts progress in requests to progress in questions: a question of four choices is four requests."""

    def __init__(self, progress: Progress, *, n_requests: int, n_items: int) -> None:
        self._progress = progress
        self._n_requests, self._n_items = n_requests, n_items
        self._done = self._told = 0

    def advance(self, *, items: int, tokens: int) -> None:
        self._done += items
        now = self._n_items * min(self._done, self._n_requests) // max(1, self._n_requests)
        self._progress.advance(items=now - self._told, tokens=tokens)
        self._told = now


_SHARED: weakref.WeakValueDictionary[str, Evaluation] = weakref.WeakValueDictionary()


def shared(
    wanted: Sequence[Wanted],
    prompting: Prompting,
    *,
    seed: int,
    batch_tokens: int | None,
    timeout_s: float,
) -> Evaluation:
    """The evaluation of these tasks, the same one for every component that asks the same. Raises SpecError or DataError."""
    tasks = [_plain(one) for one in wanted]
    key = digest_json([tasks, list(prompting), seed, batch_tokens, timeout_s])
    found = _SHARED.get(key)
    if found is None:
        built = [build(one) for one in wanted]
        found = Evaluation(built, prompting, seed=seed, batch_tokens=batch_tokens, timeout_s=timeout_s)
        _SHARED[key] = found
    return found


def _plain(wanted: Wanted) -> list[JsonValue]:
    """What identifies the built tasks as JSON; size and time of local data files are included, as a changed file is other data."""
    files: list[JsonValue] = []
    for source in wanted.data.values():
        for one in [source.path or "", *(file for some in source.files.values() for file in some)]:
            path = Path(one)
            if one and path.is_file():
                files.append([one, path.stat().st_size, path.stat().st_mtime_ns])
    return [
        wanted.task,
        wanted.num_fewshot,
        wanted.limit,
        dict(wanted.gen_kwargs),
        {name: source.model_dump(mode="json") for name, source in wanted.data.items()},
        wanted.seed,
        wanted.allow_code_execution,
        list(wanted.include),
        files,
    ]
