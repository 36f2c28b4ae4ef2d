"""A file of simulations opened for reading: each with its task and, if the domain is available, a verdict computed now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DataError
from harness.core.tau2.simulation import Simulation, Unreadable
from harness.core.tau2.task import Task
from harness.tasks.tau2.differing import Differing
from harness.tasks.tau2.recording import Recording, read_recording
from harness.tau2.recordings.checks import Check, checks
from harness.tau2.recordings.rescore import NlJudge, PreparedRecording, Rescored, prepare, rescore_one
from harness.tau2.recordings.upstream_format import reward_info


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A recording, ready to be read. `prepared` is None where nothing can be judged here; `why_not` has the reason."""

    recording: Recording
    prepared: PreparedRecording | None
    why_not: str | None = None

    def verdict(self, simulation: Simulation | Unreadable) -> Rescored | None:
        """The verdict and the fault of one simulation now; None where nothing can be judged."""
        return None if self.prepared is None else rescore_one(self.prepared, simulation, nl_judge=NlJudge.NONE)

    def task(self, simulation: Simulation | Unreadable) -> Task | None:
        """The task of a simulation, where it is known."""
        tasks = self.prepared.tasks.values() if self.prepared else self.recording.tasks or ()
        return next((task for task in tasks if task.id == simulation.task_id), None)

    def unmet(self, simulation: Simulation | Unreadable) -> list[Check]:
        """The checks of a simulation that it does not meet now; none where nothing can be judged."""
        now, task = self.verdict(simulation), self.task(simulation)
        if now is None or now.verdict.reward is None or task is None or not isinstance(simulation, Simulation):
            return []
        return [one for one in checks(reward_info(task, simulation, now.verdict, end=now.end)) if not one.met]

    def differing(self, simulation: Simulation | Unreadable) -> list[Differing]:
        """Where the databases at its end differ from those after the reference actions; empty where that cannot be determined."""
        task = None if self.prepared is None else self.prepared.tasks.get(simulation.task_id)
        if self.prepared is None or task is None or not isinstance(simulation, Simulation):
            return []
        try:
            return list(self.prepared.domain.differing(task, simulation.messages, solo=self.recording.solo))
        except Exception:  # noqa: BLE001 - data of a recording may make tools and comparisons raise anything
            return []

    def find(
        self, *, task_id: str | None = None, trial: int | None = None, identity: str | None = None
    ) -> list[Simulation | Unreadable]:
        """The simulations of a task, a trial, an id; all where none is named. Raises DataError where there is none."""
        found: list[Simulation | Unreadable] = list(self.recording.simulations)
        for what, wanted, of in (("task", task_id, task_of), ("trial", trial, trial_of), ("id", identity, id_of)):
            if wanted is None:
                continue
            known = list(dict.fromkeys(str(of(one)) for one in found))
            found = [one for one in found if of(one) == wanted]
            if not found:
                some = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
                raise DataError(f"{self.recording.path}: no simulation of {what} {wanted!r}; there are {some}")
        return found


def task_of(simulation: Simulation | Unreadable) -> str:
    """The task's id."""
    return simulation.task_id


def id_of(simulation: Simulation | Unreadable) -> str:
    """The simulation's id."""
    return simulation.id


def trial_of(simulation: Simulation | Unreadable) -> int | None:
    """The trial from 0, where it is known."""
    return simulation.trial if isinstance(simulation, Simulation) else None


def open_recording(path: Path, *, domain: str | None, data: Path | None, tasks_file: Path | None) -> Opened:
    """A file of simulations. Raises DataError for one that cannot be read; an unavailable domain only sets `why_not`."""
    recording = read_recording(path)
    try:
        prepared = prepare(path, domain=domain, data=data, tasks_file=tasks_file, recording=recording)
    except DataError as error:
        return Opened(recording=recording, prepared=None, why_not=str(error))
    return Opened(recording=prepared.recording, prepared=prepared)
