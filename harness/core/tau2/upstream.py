"""Our deliberate deviations from upstream, each of which can be turned back. Records only; docs/tau2.md says why they are.

A name of `--upstream` is a field's name with hyphens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from harness.core.errors import SpecError

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What is done as upstream (tau2-bench v1.0.1) does it. The default is none of it; MEANING says what each does."""

    instructions: bool = False
    exclusions: bool = False
    numbers: bool = False
    bounds: bool = False
    solo_stop: bool = False
    call_names: bool = False
    judge_view: bool = False
    judge_answers: bool = False
    judge_gates: bool = False
    judge_required: bool = False
    ends: bool = False
    replay: bool = False
    telecom_db: bool = False
    calculate: bool = False
    grep: bool = False
    strict: bool = False
    task_ids: bool = False
    thoughts: bool = False

    def names(self) -> list[str]:
        """The names of what is turned back, in order."""
        return [name for name in MEANING if getattr(self, name.replace("-", "_"))]


MEANING: dict[str, str] = {
    "instructions": "the agent's instructions are upstream's words (its package, or a text of your own as agent.instructions)",
    "exclusions": "what agent or user broke is tried four times and left out",
    "numbers": "NaN and infinity in arguments are read as Python reads them",
    "bounds": "an answer may have any number of calls and characters, and arguments nested 500 levels deep",
    "solo-stop": "a solo message that stops keeps its calls, which then have no answers and cannot be judged",
    "call-names": "calls in the history carry a second `name` beside `function`",
    "judge-view": "the judge sees roles and texts only, tool calls as None",
    "judge-answers": "the judge is asked once; its answer is plain JSON, and what it leaves out counts as met",
    "judge-gates": "the judge is asked only where NL_ASSERTION gates",
    "judge-required": "without a judge nothing is run or rescored whose reward needs one",
    "ends": "an end that assertions cannot be evaluated on has no reward",
    "replay": "a replayed call that answers otherwise than recorded leaves its simulation without a reward",
    "telecom-db": "DB has a value on telecom, from reference actions between which the two sides are not brought in step",
    "calculate": "calculate is unbounded: 9**9**9 keeps the whole process busy for ever",
    "grep": "banking's grep is unbounded: a pattern such as (a+)+$ keeps the whole process busy for ever",
    "strict": "rescore stops at the first simulation that cannot be judged",
    "task-ids": "a recording is judged by the tasks that it names, though its own recorded checks are of other tasks",
    "thoughts": "thoughts in the content are said aloud, and thoughts beside it are forgotten by the model itself",
}
"""Name -> what is then done."""
OURS = Upstream()


def upstream_of(values: Iterable[str]) -> Upstream:
    """The switches named, each value one name or several between commas; `all` is all. Raises SpecError."""
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in MEANING and name != ALL]
    if unknown:
        raise SpecError(f"`upstream` {unknown[0]!r} is unknown; it takes {ALL} or {', '.join(MEANING)}")
    chosen = set(MEANING if ALL in names else names)
    return Upstream(**{one.name: one.name.replace("_", "-") in chosen for one in fields(Upstream)})
