"""Answers to a task's samples: which of them count, and why others do not.

What has no score is counted with its cause: endpoint (a model gave no answer), sandbox, scorer, task (its code broke). These causes
are outside the checkpoint, and a later call asks again. A conversation too long for the checkpoint (context) is its own failure, scored 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.components.inspect.config import CHECKPOINT, InspectConfig
from harness.components.inspect.run import Ran
from harness.components.inspect.task import Built

OPEN = ("endpoint", "sandbox", "scorer", "task")
"""Causes outside the checkpoint."""
OWN_MODEL = f"harness/{CHECKPOINT}"
NO_SCORE = "it was given no score"
"""The reason where a scorer returned no score: asking again would give the same."""
SHOWN = 300
"""Characters of an answer or a reason that are stored with an item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One epoch of one sample. `cause` None: scored as the task scores it. `limit`: the limit that ended it."""

    sample: Any
    cause: str | None
    reason: str | None
    limit: str | None


def answers_of(built: Built, ran: Ran) -> list[Answer]:
    """Every epoch of every sample in the task's order, including those that are missing from the log."""
    found = {(str(one.id), one.epoch): one for one in ran.log.samples or ()}
    made = []
    for sample in built.samples:
        for epoch in range(1, built.epochs + 1):
            key = str(sample.id), epoch
            one = found.get(key)
            cause, reason = (
                ("task", "Inspect kept no record of it") if one is None else _cause(one, ran.unanswered.get(key))
            )
            limit = one.limit.type if one is not None and one.limit is not None else None
            made.append(Answer(sample=one, cause=cause, reason=reason, limit=limit))
    return made


def _cause(sample: Any, unanswered: str | None) -> tuple[str | None, str | None]:
    """Why a sample's score does not count; None where it does."""
    if unanswered is not None:
        return "endpoint", unanswered
    overflow = _overflow(sample)
    if sample.error is not None:
        words = " ".join(str(sample.error.message).split())[:SHOWN]
        trace = sample.error.traceback or ""
        if "/inspect/sandbox.py" in trace or "/_sandbox/" in trace or "sandboxenv_context" in trace:
            return "sandbox", words
        if overflow is not None:  # it broke on the answer that is none
            return "context", overflow
        scoring = any(event.event == "span_begin" and event.type == "scorer" for event in sample.events)
        return ("scorer" if scoring else "task"), words
    if overflow is not None:
        return "context", overflow
    if not sample.scores:
        return "scorer", NO_SCORE
    return None, None


def _overflow(sample: Any) -> str | None:
    """The endpoint's message if the checkpoint's last request failed because the conversation was too long; else None."""
    from harness.components.inspect.model import OVERFLOW

    own = [event for event in sample.events if event.event == "model" and event.model == OWN_MODEL]
    last = own[-1].output if own else sample.output
    return (last.metadata or {}).get(OVERFLOW)


def thought_alone(answer: Answer) -> bool:
    """Whether the last answer of a sample consists of reasoning alone: cut off, or misread by a reasoning parser."""
    if answer.cause is not None or answer.sample is None or not answer.sample.output.choices:
        return False
    message = answer.sample.output.choices[0].message
    parts = message.content if isinstance(message.content, list) else []
    return any(part.type == "reasoning" for part in parts) and not message.text.strip() and not message.tool_calls


def count(config: InspectConfig, built: Built, log: Any, answers: Sequence[Answer]) -> None:
    """Remove from the log the scores that do not count, score overflows of the checkpoint 0, and let Inspect recompute its metrics."""
    from inspect_ai.log import recompute_metrics

    like = _one_like(answers) or _none_of(built)
    changed = False
    reducers = log.eval.config.epochs_reducer or ["mean"]
    partial = {str(answer.sample.id) for answer in answers if answer.sample is not None and _uncounted(config, answer)}
    for answer in answers:
        sample = answer.sample
        if sample is None:
            continue
        if _uncounted(config, answer) or (reducers[0] != "mean" and str(sample.id) in partial):
            changed |= bool(sample.scores)
            sample.scores = None
        elif answer.cause == "context":
            changed = True
            sample.scores = {name: _nothing(score) for name, score in (sample.scores or like).items()}
            sample.error = None  # or Inspect leaves it out
    if changed:
        recompute_metrics(log)


def _uncounted(config: InspectConfig, answer: Answer) -> bool:
    """Whether an answer has no score that counts.

    An overflow has none where lower is better, as there is no worst score to give.
    """
    return answer.cause in OPEN or (answer.cause == "context" and not config.higher_is_better)


def _one_like(answers: Sequence[Answer]) -> Mapping[str, Any] | None:
    return next(
        (a.sample.scores for a in answers if a.sample is not None and a.sample.scores and a.cause is None), None
    )


def _none_of(built: Built) -> Mapping[str, Any]:
    """A failing score by each scorer, for where no sample has a score to model it on."""
    from inspect_ai._eval.task.results import ScorerInfo
    from inspect_ai.scorer import INCORRECT, Score
    from inspect_ai.scorer._scorer import unique_scorer_name

    found: dict[str, Any] = {}
    for one in built.task.scorer or ():
        info = ScorerInfo.from_scorer(one)
        if isinstance(built.task.metrics or info.metrics, list):
            found[unique_scorer_name(info.name, list(found))] = Score(value=INCORRECT)
    return found


def _nothing(score: Any) -> Any:
    """The worst score of the same type."""
    from inspect_ai.scorer import INCORRECT, Score

    def worst(value: Any) -> Any:
        if isinstance(value, bool):
            return False
        if isinstance(value, str):
            return INCORRECT
        if isinstance(value, Mapping):
            return {key: worst(entry) for key, entry in value.items()}
        return [worst(entry) for entry in value] if isinstance(value, list) else 0

    return Score(value=worst(score.value), explanation="the conversation was too long for the checkpoint")
