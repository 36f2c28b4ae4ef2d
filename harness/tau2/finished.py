"""From a run's outcomes to what a measurement is made of: each with the cause of its failure. Reads the run's file back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.core.chat import Usage
from harness.core.tau2.fault import Cause, Fault
from harness.core.tau2.simulation import Simulation
from harness.reward_models.tau2.faults import attribute
from harness.reward_models.tau2.measure import Finished
from harness.tasks.tau2.recording import read_recording
from harness.tau2.record import INFRASTRUCTURE, Outcome
from harness.tau2.rescore import changing
from harness.tau2.run import needs_judge
from harness.tau2.run_plan import Plan


def finished(plan: Plan, outcomes: Iterable[Outcome], path: Path) -> list[Finished]:
    """One per outcome, in order. `path`: the run's simulations, for the transcripts of those that failed."""
    transcripts: dict[tuple[str, int], Simulation] = {}
    if path.exists():
        transcripts = {
            (simulation.task_id, simulation.trial): simulation
            for simulation in read_recording(path).simulations
            if isinstance(simulation, Simulation) and simulation.trial is not None
        }
    tasks = {task.id: task for task in plan.tasks}
    changes = changing(plan.domain)
    found = []
    for outcome in outcomes:
        task_id, trial = outcome.key.task_id, outcome.key.trial
        simulation = transcripts.get((task_id, trial))
        fault = _unfinished(outcome)
        if outcome.finished and simulation is not None:
            fault = attribute(tasks[task_id], simulation, outcome.verdict, changing=changes)
        found.append(
            Finished(
                task_id=task_id,
                trial=trial,
                verdict=outcome.verdict,
                fault=fault,
                turns=outcome.n_messages,
                tokens={name: _tokens(usage) for name, usage in _spent(outcome).items()},
                cost={name: usage.cost for name, usage in _spent(outcome).items() if usage.cost is not None},
            )
        )
    return found


def _unfinished(outcome: Outcome) -> Fault | None:
    """The cause that whoever ran it recorded, where it has no reward: the endpoint's or the judge's failure."""
    if outcome.finished or outcome.excluded or needs_judge(outcome):
        return None
    words = outcome.reason or outcome.verdict.reason or "no reason given"
    cause: Cause = "infrastructure" if outcome.termination == INFRASTRUCTURE else "judge"
    return Fault(cause=cause, rule="recorded", words=words)


def _spent(outcome: Outcome) -> dict[str, Usage]:
    return {"agent": outcome.agent, "user": outcome.user, "judge": outcome.judge}


def _tokens(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens
