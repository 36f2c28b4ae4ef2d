"""A question's prompt, target and choices for people, and the choice that a model took. Bounded in length; no scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NORMS: Mapping[str, Callable[[str], int]] = {
    "acc": lambda choice: 1,
    "acc_norm": len,
    "acc_bytes": lambda choice: len(choice.encode()),
}
"""Metric -> what lm-eval divides a choice's log-probability by before it takes the highest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionText:
    """`prompt`: the end of the model's prompt; `target`: the right answer; `choices`: of a multiple-choice question."""

    prompt: str
    target: str | None
    choices: tuple[str, ...] = ()


def question_texts(task: Any, instances: Sequence[Any], *, limit: int) -> dict[int, QuestionText]:
    """Document -> its texts, of at most `limit` characters each, from lm-eval's requests."""
    firsts: dict[int, Any] = {}
    for instance in instances:
        known = firsts.setdefault(instance.doc_id, instance)
        if instance.idx < known.idx:
            firsts[instance.doc_id] = instance
    return {doc: _texts(task, instance, limit) for doc, instance in firsts.items()}


def _texts(task: Any, instance: Any, limit: int) -> QuestionText:
    asked = instance.args[0]
    choices: tuple[str, ...] = ()
    try:
        if task.OUTPUT_TYPE == "multiple_choice":
            choices = tuple(str(choice) for choice in task.doc_to_choice(instance.doc))
            right = task.doc_to_text(instance.doc) if task.multiple_input else task.doc_to_target(instance.doc)
            target = _named(right, choices)
        elif task.OUTPUT_TYPE == "loglikelihood":
            target = instance.args[1]
        else:
            target = _plain(task.doc_to_target(instance.doc))
    except Exception:  # noqa: BLE001 - a task's own code may raise anything, and its score does not depend on this
        target = None
    return QuestionText(
        prompt=end_of(asked if isinstance(asked, str) else "", limit),
        target=None if target is None else target[:limit],
        choices=tuple(choice[:limit] for choice in choices),
    )


def _named(right: Any, choices: Sequence[str]) -> str | None:
    if isinstance(right, list):
        return " | ".join(name for one in right if (name := _named(one, choices)) is not None) or None
    if isinstance(right, str):
        return right
    index = int(right)
    return choices[index] if 0 <= index < len(choices) else None


def _plain(target: Any) -> str | None:
    if isinstance(target, list | tuple):
        return " | ".join(map(str, target)) or None
    return None if target is None else str(target)


def end_of(text: str, limit: int) -> str:
    """The last `limit` characters: the question stands at the end of a prompt, examples and instructions before it."""
    return text if len(text) <= limit else f"… {text[-limit:]}"


def taken(metric: str, choices: Sequence[str], nats: Sequence[float]) -> str | None:
    """The choice that a metric ("acc_norm,none") counts as the answer; None for a metric that takes none by likelihood."""
    norm = NORMS.get(metric.partition(",")[0])
    if norm is None or not choices or len(nats) < len(choices):
        return None
    scores = [one / max(norm(choice), 1) for one, choice in zip(nats, choices, strict=False)]
    return choices[max(range(len(choices)), key=scores.__getitem__)]


def limit_of(n: int) -> int:
    """Characters of a text where there are `n` questions: about 4 MB in all, and within [200, 1500] each."""
    return min(1_500, max(200, 4_000_000 // max(n, 1)))


Texts = Mapping[int, QuestionText]
