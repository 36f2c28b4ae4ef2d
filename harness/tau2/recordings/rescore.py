"""Judges recorded simulations again, without a model or a network. One that cannot be judged does not affect the others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.core.errors import DataError
from harness.core.tau2.end_state import EndState
from harness.core.tau2.fault import Fault
from harness.core.tau2.simulation import STOPPED, Recorded, Simulation, Unreadable
from harness.core.tau2.task import Task
from harness.core.tau2.upstream import OURS, Upstream
from harness.reward_models.tau2.faults import unjudgeable
from harness.reward_models.tau2.result import Key, Result
from harness.reward_models.tau2.reward import NEEDS_JUDGE, Verdict, unjudged
from harness.tasks.tau2.checks import whose_checks
from harness.tasks.tau2.domain import Domain
from harness.tasks.tau2.recording import Recording, read_recording
from harness.tasks.tau2.sources import AUTO, open_domain
from harness.tasks.tau2.task_file import read_tasks, revision
from harness.tau2.judging.reviewer import Reviewed
from harness.tau2.judging.verdict import Assessment, assess
from harness.tau2.recordings.twice import counted_once, shared_remarks


class NlJudge(StrEnum):
    """How natural-language assertions are judged. `none`: not at all; `pass`: all count as met, for parity checks only."""

    NONE = "none"
    PASS = "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """A simulation with the verdict in its file and the verdict computed now.

    `unknown_calls`: names in its calls of tools that the domain does not have.
    `checks_of`: the tasks that its recorded checks belong to, if that is not the task that it names.
    """

    id: str
    task_id: str
    recorded: Recorded
    assessment: Assessment
    trial: int = 0
    reviewed: Reviewed | None = None
    unknown_calls: tuple[str, ...] = ()
    checks_of: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict now."""
        return self.assessment.verdict

    @property
    def end(self) -> EndState | None:
        """The end state that was judged, where there was one."""
        return self.assessment.end

    @property
    def fault(self) -> Fault | None:
        """The cause of a failure, after the review that is stored in the file or was made now (`reviewed`)."""
        return self.assessment.fault

    @property
    def result(self) -> Result:
        """The simulation as a summary takes it."""
        return Result(key=Key(self.task_id, self.trial), verdict=self.verdict, fault=self.fault)

    @property
    def n_differs(self) -> int:
        """Replayed calls whose answers differ from the recording."""
        return self.end.n_differs if self.end else 0

    @property
    def changed(self) -> bool:
        """Whether the reward differs from the one in the file; False where either is unknown."""
        now, then = self.verdict.reward, self.recorded.reward
        return now is not None and then is not None and abs(now - then) > 1e-9

    def as_json(self, prepared: PreparedRecording, nl_judge: NlJudge) -> dict[str, Any]:
        """One line of `--out`."""
        line: dict[str, Any] = {
            "id": self.id,
            "task_id": self.task_id,
            "reward": self.verdict.reward,
            "components": dict(self.verdict.components),
            "nl_judge": nl_judge.value,
            "domain": prepared.domain.name,
            "source": prepared.domain.source,
            "task_revision": prepared.task_revision,
        }
        if self.checks_of:
            line["checks_of"] = list(self.checks_of)
        if self.unknown_calls:
            line["unknown_calls"] = dict(Counter(self.unknown_calls))
        if self.fault is not None:
            line["fault"] = self.fault.as_json()
        if self.reviewed is not None:
            line.update(self.reviewed.as_json())
        if prepared.upstream.names():
            line["upstream"] = prepared.upstream.names()
        return line if self.verdict.reason is None else {**line, "reason": self.verdict.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRecording:
    """A recording with its domain and tasks, checked before anything is judged. `tasks_from`: the origin of the tasks, for messages.

    `task_revision`: identity of the tasks that the simulations are of. `recorded_revision`: the same for the tasks in the recording, or
    the one it states; None where it has neither. `named_tasks`: the tasks that the recording's task ids refer to; `mixed_up`: some
    simulation's recorded checks belong to another task than it names, so that no task id can be trusted.
    """

    recording: Recording
    domain: Domain
    tasks: Mapping[str, Task]
    tasks_from: str
    task_revision: str
    recorded_revision: str | None
    upstream: Upstream = OURS
    named_tasks: Mapping[str, Task] = field(default_factory=dict)
    mixed_up: bool = False

    @property
    def other_tasks(self) -> bool:
        """Whether the recorded rewards are of another revision of the tasks, so that they are not comparable with those computed now."""
        return self.recorded_revision is not None and self.recorded_revision != self.task_revision


def prepare(
    path: Path,
    *,
    domain: str | None,
    data: Path | None,
    tasks_file: Path | None,
    upstream: Upstream = OURS,
    source: str = AUTO,
    retrieval: str | None = None,
    recording: Recording | None = None,
) -> PreparedRecording:
    """Read a recording and find its tasks: a task file, else those in the recording, else the domain's.

    `recording`: the content of `path` if it was read before. Raises DataError for anything but a single bad simulation.
    """
    recording = recording or read_recording(path)
    name = domain or recording.domain
    if not name:
        raise DataError(f"{path} does not say which domain it is of; name it with `domain`")
    opened = open_domain(name, data=data, source=source, upstream=upstream, retrieval=retrieval, scoring=True)
    if tasks_file is not None:
        tasks, whence = tuple(read_tasks(tasks_file)), str(tasks_file)
    elif recording.tasks is not None:
        tasks, whence = recording.tasks, "the recording"
    else:
        tasks, whence = tuple(opened.tasks()), str(data) if data else opened.source
    opened.check(tasks)
    used = {simulation.task_id for simulation in recording.simulations}
    recorded = recording.task_revision
    if recording.tasks is not None:
        recorded = revision([task for task in recording.tasks if task.id in used])
    judged = {task.id: task for task in tasks}
    named = {task.id: task for task in recording.tasks} if recording.tasks is not None else judged
    return PreparedRecording(
        recording=recording,
        domain=opened,
        tasks=judged,
        tasks_from=whence,
        task_revision=revision([task for task in tasks if task.id in used]),
        recorded_revision=recorded,
        upstream=upstream,
        named_tasks=named,
        mixed_up=not upstream.task_ids
        and any(whose_checks(one.recorded.checks, one.task_id, named) for one in recording.simulations),
    )


def each_counted_once(prepared: Sequence[PreparedRecording]) -> tuple[list[PreparedRecording], list[str]]:
    """The recordings without copies within a file, and remarks on copies and on simulations in two files. Raises DataError."""
    counted = [counted_once(one.recording) for one in prepared]
    once = [replace(one, recording=made.recording) for one, made in zip(prepared, counted, strict=True)]
    remarks = [remark for made in counted for remark in made.remarks]
    return once, remarks + shared_remarks([one.recording for one in once])


def rescore(prepared: PreparedRecording, *, nl_judge: NlJudge) -> Iterator[Rescored]:
    """Judge every simulation of a recording, in its order.

    Raises DataError at the first that cannot be judged (`upstream.strict`) or lacks a judge (`upstream.judge_required`).
    """
    for simulation in prepared.recording.simulations:
        item = rescore_one(prepared, simulation, nl_judge=nl_judge)
        judgeless = item.verdict.reason == NEEDS_JUDGE
        stop = prepared.upstream.judge_required if judgeless else prepared.upstream.strict
        if stop and item.verdict.reward is None:
            raise DataError(f"{prepared.recording.path}: {item.id} cannot be judged: {item.verdict.reason}")
        yield item


def rescore_one(prepared: PreparedRecording, simulation: Simulation | Unreadable, *, nl_judge: NlJudge) -> Rescored:
    """Judge one simulation. It never raises for what the simulation holds."""
    others: tuple[str, ...] = ()
    if isinstance(simulation, Simulation) and not prepared.upstream.task_ids:
        others = whose_checks(simulation.recorded.checks, simulation.task_id, prepared.named_tasks)
    return Rescored(
        id=simulation.id,
        task_id=simulation.task_id,
        trial=simulation.trial or 0 if isinstance(simulation, Simulation) else 0,
        recorded=simulation.recorded,
        assessment=_assessed(prepared, simulation, others, nl_judge=nl_judge),
        unknown_calls=_unknown_calls(prepared, simulation),
        checks_of=others,
    )


def _assessed(
    prepared: PreparedRecording, simulation: Simulation | Unreadable, others: Sequence[str], *, nl_judge: NlJudge
) -> Assessment:
    unsure = prepared.mixed_up and not simulation.recorded.checks
    if others:
        # Without a cause: the conversation was about another task.
        return Assessment(verdict=unjudged(f"its recorded checks are of {_these(others)}, not of its task"))
    if isinstance(simulation, Unreadable):
        return Assessment(verdict=unjudged(simulation.reason), by_rules=unjudgeable(simulation.reason))
    if unsure and simulation.termination_reason in STOPPED:
        return Assessment(verdict=unjudged("it has no recorded checks, and its file names wrong tasks"))
    task = prepared.tasks.get(simulation.task_id)
    if task is None:
        why = f"its task is not among those of {prepared.tasks_from}"
        return Assessment(verdict=unjudged(why), by_rules=unjudgeable(why))
    assertions = (task.evaluation_criteria and task.evaluation_criteria.nl_assertions) or ()
    found = assess(
        prepared.domain,
        task,
        simulation,
        solo=prepared.recording.solo,
        nl_met=[True] * len(assertions) if nl_judge is NlJudge.PASS else None,
        upstream=prepared.upstream,
    )
    return replace(found, by_rules=None) if unsure else found


def _these(ids: Sequence[str]) -> str:
    return f"task {ids[0]!r}" + (f" (or {len(ids) - 1} like it)" if len(ids) > 1 else "")


def _unknown_calls(prepared: PreparedRecording, simulation: Simulation | Unreadable) -> tuple[str, ...]:
    """The names of the tools that a simulation called and that the domain does not have, as often as it did."""
    if isinstance(simulation, Unreadable):
        return ()
    known = {*prepared.domain.tools, *prepared.domain.user_tools, *prepared.domain.retrieving}
    if prepared.recording.solo:
        known.add("done")
    return tuple(
        call.name
        for message in simulation.messages
        if message.role in ("assistant", "user")
        for call in message.tool_calls or ()
        if call.name not in known
    )


def as_lines(results: Sequence[tuple[PreparedRecording, Sequence[Rescored]]], nl_judge: NlJudge) -> bytes:
    """The content of `--out`."""
    lines = [
        json.dumps(item.as_json(prepared, nl_judge), allow_nan=False)
        for prepared, rescored in results
        for item in rescored
    ]
    return "".join(f"{line}\n" for line in lines).encode()
