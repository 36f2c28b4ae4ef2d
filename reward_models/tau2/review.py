"""A reviewer's answer on one simulation, as a record: upstream's tags and severities. Parsing only; no model.

Tolerant of wrapping (a fence, words around the JSON), strict on content: an answer with an unknown tag, source, severity or
turn is an error (`ReviewError`), not a review without findings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from harness.core.tau2.fault import Fault

Tag = Literal[
    "hallucination",
    "incorrect_interpretation",
    "guideline_violation",
    "revealed_info_early",
    "inconsistent_behavior",
    "tool_call_schema_error",
    "tool_call_argument_error",
    "irrelevant_tool_call",
    "premature_termination",
    "missed_required_action",
    "wrong_sequence",
    "other",
]
Source = Literal["agent", "user"]
Severity = Literal["minor", "critical", "critical_helped", "critical_hindered"]
TAGS: tuple[Tag, ...] = get_args(Tag)
SEVERITIES: dict[Source, tuple[Severity, ...]] = {
    "agent": ("minor", "critical"),
    "user": ("minor", "critical_helped", "critical_hindered"),
}
MAX_CHARACTERS = 200_000
FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class ReviewError(ValueError):
    """An answer that is no review. The message says what is wrong, for the reviewer's next attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One error of agent or simulated user. `critical_helped`: the user made it too easy; `critical_hindered`: too hard."""

    source: Source
    tags: tuple[Tag, ...]
    severity: Severity
    turn: int | None
    reasoning: str
    correct_behavior: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """All errors that a reviewer found in one simulation."""

    findings: tuple[Finding, ...]
    summary: str = ""

    def fault(self) -> Fault | None:
        """The first error that decided the outcome, the user's before the agent's; None where none did."""
        hindered = [item for item in self.findings if item.severity == "critical_hindered"]
        decisive = hindered or [item for item in self.findings if item.severity == "critical"]
        first = min(decisive, key=lambda item: (item.turn is None, item.turn or 0), default=None)
        if first is None:
            return None
        words = f"{', '.join(first.tags)}: {first.reasoning}"
        return Fault(cause=first.source, rule="reviewer", words=words, turn=first.turn)

    def as_json(self) -> dict[str, Any]:
        """The review with upstream's keys; `parse_value` reads it back."""
        by_user = [item for item in self.findings if item.source == "user"]
        return {
            "summary": self.summary,
            "agent_error": len(by_user) < len(self.findings),
            "user_error": bool(by_user),
            "critical_user_error": any(item.severity != "minor" for item in by_user),
            "has_errors": bool(self.findings),
            "errors": [
                {
                    "source": item.source,
                    "error_tags": list(item.tags),
                    "severity": item.severity,
                    "turn_idx": item.turn,
                    "reasoning": item.reasoning,
                    "correct_behavior": item.correct_behavior,
                }
                for item in self.findings
            ],
        }


def parse_review(text: str, *, n_turns: int) -> Review:
    """The review in a model's answer on a transcript of `n_turns` messages. Raises ReviewError."""
    return parse_value(_json(text), n_turns=n_turns)


def parse_value(value: Mapping[str, Any], *, n_turns: int) -> Review:
    """The same of a JSON value, as it stands in a simulation's line. Raises ReviewError."""
    errors = value.get("errors")
    if not isinstance(errors, list):
        raise ReviewError('the answer needs "errors", a list; an empty one where there are none')
    summary = value.get("summary", "")
    if not isinstance(summary, str):
        raise ReviewError('"summary" must be text')
    findings = tuple(_finding(error, f"errors[{n}]", n_turns) for n, error in enumerate(errors))
    return Review(findings=findings, summary=summary)


def _json(text: str) -> dict[str, Any]:
    if len(text) > MAX_CHARACTERS:
        raise ReviewError(f"the answer is longer than {MAX_CHARACTERS} characters")
    fenced = FENCE.findall(text)
    start, end = text.find("{"), text.rfind("}")
    for candidate in (text, *fenced, text[start : end + 1] if 0 <= start < end else ""):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    raise ReviewError("the answer holds no JSON object")


def _finding(value: Any, where: str, n_turns: int) -> Finding:
    if not isinstance(value, dict):
        raise ReviewError(f"{where} must be an object")
    source: Source = _one_of(value.get("source"), tuple(SEVERITIES), f"{where}.source")
    tags = value.get("error_tags")
    tags = [tags] if isinstance(tags, str) else tags
    if not isinstance(tags, list) or not tags:
        raise ReviewError(f"{where}.error_tags must name at least one tag")
    turn = value.get("turn_idx")
    if turn is not None and (isinstance(turn, bool) or not isinstance(turn, int) or not 0 <= turn < n_turns):
        raise ReviewError(f"{where}.turn_idx must be a turn of the conversation, 0 to {n_turns - 1}, or null")
    reasoning, correct = value.get("reasoning"), value.get("correct_behavior")
    if not isinstance(reasoning, str) or not reasoning.strip():
        raise ReviewError(f"{where}.reasoning must say why this is an error")
    if correct is not None and not isinstance(correct, str):
        raise ReviewError(f"{where}.correct_behavior must be text")
    return Finding(
        source=source,
        tags=tuple(dict.fromkeys(_one_of(tag, TAGS, f"{where}.error_tags") for tag in tags)),
        severity=_one_of(value.get("severity"), SEVERITIES[source], f"{where}.severity"),
        turn=turn,
        reasoning=reasoning,
        correct_behavior=correct,
    )


def _one_of(value: Any, known: tuple[Any, ...], where: str) -> Any:
    name = value.strip().casefold() if isinstance(value, str) else value
    if name not in known:
        raise ReviewError(f"{where}: {value!r} is none of {', '.join(known)}")
    return name
