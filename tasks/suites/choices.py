"""The probabilities of a question's choices as metrics that move before accuracy does (DataDecide, arXiv 2504.11393). Pure.

Of a choice with log-likelihood L over n tokens and c characters the probability is exp(L), per token exp(L / n), per character
exp(L / c): of the text that was scored, the delimiter before it included, as for bits per byte. With the probabilities p:

correct_prob       sum over the right choices
norm_correct_prob  that, over the sum of all
margin             the best right one minus the best wrong one
total_prob         sum of all
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("correct_prob", "norm_correct_prob", "margin", "total_prob")
PER = ("", "_per_token", "_per_char")
CHOICE_METRICS = tuple(kind + per for kind in KINDS for per in PER)
"""Names of the metrics; all are within [0, 1] but margin, within [-1, 1], and total_prob, within [0, number of choices]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice of a question: nats, tokens and characters of the text that was scored."""

    nats: float
    n_tokens: int
    n_chars: int
    right: bool


def choice_metrics(choices: Sequence[Choice]) -> dict[str, float]:
    """Every metric by name, for one question. Without a right choice there is total_prob alone, without a wrong one no margin."""
    found: dict[str, float] = {}
    for per in PER:
        logs = [_log_probability(choice, per) for choice in choices]
        right = [log for log, choice in zip(logs, choices, strict=True) if choice.right]
        wrong = [log for log, choice in zip(logs, choices, strict=True) if not choice.right]
        found[f"total_prob{per}"] = math.fsum(map(math.exp, logs))
        if right:
            found[f"correct_prob{per}"] = math.fsum(map(math.exp, right))
            largest = max(logs)  # taken out, since the probability of a long text is smaller than any float
            found[f"norm_correct_prob{per}"] = math.fsum(math.exp(log - largest) for log in right) / math.fsum(
                math.exp(log - largest) for log in logs
            )
        if right and wrong:
            found[f"margin{per}"] = math.exp(max(right)) - math.exp(max(wrong))
    return found


def _log_probability(choice: Choice, per: str) -> float:
    if per == "_per_token":
        return choice.nats / choice.n_tokens
    return choice.nats / choice.n_chars if per == "_per_char" else choice.nats


def has_choice_metrics(task: object) -> bool:
    """Whether a task of lm-eval asks for the likelihoods of choices."""
    return getattr(task, "OUTPUT_TYPE", None) == "multiple_choice"
