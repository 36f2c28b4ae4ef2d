"""A recording with newly computed rewards, in upstream's results format: `rescore --out NAME.json`."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.tau2.simulation import Simulation
from harness.reward_models.tau2.reward import Verdict
from harness.tasks.tau2.domain import kinds
from harness.tasks.tau2.recording import identity_of, read_raw
from harness.tasks.tau2.task_file import task_value
from harness.tau2.recordings.convert import Converted, written
from harness.tau2.recordings.rescore import NlJudge, PreparedRecording, Rescored
from harness.tau2.recordings.upstream_format import reward_info


def rescored_file(
    prepared: PreparedRecording, rescored: Sequence[Rescored], out: Path, *, nl_judge: NlJudge
) -> Converted:
    """The content for `out`: the recording with each verdict replaced by the one computed now.

    A simulation without a reward has no `reward_info`; its `info` has the reason as `not_judged`.
    """
    raw = read_raw(prepared.recording.path)
    simulations = {id(item): one for item, one in zip(rescored, _simulations(prepared, rescored), strict=True)}
    waiting: dict[str, deque[Rescored]] = defaultdict(deque)
    for item in rescored:
        waiting[item.id].append(item)
    named = kinds(prepared.domain)
    values: list[tuple[str, Any]] = []
    for name, value in raw.simulations:
        if not isinstance(value, Mapping):
            values.append((name, value))
            continue
        identity = identity_of(value, name)
        if waiting[identity]:
            item = waiting[identity].popleft()
            values.append((name, {**value, **_verdict(prepared, item, simulations[id(item)], value, named, nl_judge)}))
    used = {one.task_id for one in prepared.recording.simulations}
    tasks = [task_value(task) for task in prepared.tasks.values() if raw.tasks or task.id in used]
    new = replace(raw, simulations=tuple(values), tasks=tasks, task_revision=prepared.task_revision)
    return written(new, out, domain=raw.domain or prepared.domain.name, data=None)


def _simulations(prepared: PreparedRecording, rescored: Sequence[Rescored]) -> list[Simulation | None]:
    """The simulation of each verdict, None where it could not be read."""
    waiting: dict[str, deque[Any]] = defaultdict(deque)
    for one in prepared.recording.simulations:
        waiting[one.id].append(one)
    found = [waiting[item.id].popleft() for item in rescored]
    return [one if isinstance(one, Simulation) else None for one in found]


def _verdict(
    prepared: PreparedRecording,
    item: Rescored,
    simulation: Simulation | None,
    value: Mapping[str, Any],
    named: Mapping[str, str],
    nl_judge: NlJudge,
) -> dict[str, Any]:
    task = prepared.tasks.get(item.task_id)
    verdict: Verdict = item.verdict
    if verdict.reward is None or task is None or simulation is None:
        before = value.get("info")
        return {
            "reward_info": None,
            "info": {**(before if isinstance(before, Mapping) else {}), "not_judged": verdict.reason},
        }
    assertions = (task.evaluation_criteria and task.evaluation_criteria.nl_assertions) or ()
    info = reward_info(
        task,
        simulation,
        verdict,
        end=item.end,
        nl_met=[True] * len(assertions) if nl_judge is NlJudge.PASS else None,
        fault=item.fault,
        kinds=named,
    )
    judged_with = {
        "source": prepared.domain.source,
        "task_revision": prepared.task_revision,
        "nl_judge": nl_judge.value,
        **({"reason": verdict.reason} if verdict.reason else {}),
        **({"upstream": prepared.upstream.names()} if prepared.upstream.names() else {}),
    }
    review = item.reviewed.as_json() if item.reviewed is not None and item.reviewed.failure is None else {}
    return {"reward_info": {**info, "info": {**(info["info"] or {}), **judged_with}}, **review}
