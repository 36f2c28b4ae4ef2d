"""A simulation's reward: the product of the components that gate it. Knows no tools and no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.tau2.end_state import EndState
from harness.core.tau2.simulation import STOPPED, Simulation
from harness.core.tau2.task import REWARD_TYPES, RewardType, Task
from harness.reward_models.tau2 import components as of

NEEDS_JUDGE = "needs a judge"
SUCCESS = 1.0 - 1e-6
"""A reward from here on is a success, as upstream counts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A reward in [0, 1] with its components; a None reward has a reason, a None component has nothing to judge."""

    reward: float | None
    components: Mapping[RewardType, float | None]
    basis: tuple[RewardType, ...] = ()
    reason: str | None = None

    @property
    def gates(self) -> dict[RewardType, float | None]:
        """The components that entered the product."""
        return {name: self.components[name] for name in self.basis}


NOTHING: Mapping[RewardType, float | None] = dict.fromkeys(REWARD_TYPES)


def unjudged(reason: str) -> Verdict:
    """A simulation that could not be judged: no reward, and the reason. It is not a 0."""
    return Verdict(reward=None, components=NOTHING, reason=reason)


def judge(task: Task, simulation: Simulation, end: EndState | None, *, nl_met: Sequence[bool] | None) -> Verdict:
    """The verdict. `end` may be None where `needs_end_state` is false, else ValueError is raised; `nl_met` None: no judge.

    A component without criteria passes. A gate without its judge leaves the reward None, also where another gate is 0: a
    mean with those zeros and without the ones that the judge would have passed would be biased.
    """
    criteria = task.evaluation_criteria
    if simulation.termination_reason not in STOPPED:
        return Verdict(reward=0.0, components=NOTHING, reason=f"ended by {simulation.termination_reason}")
    if criteria is None:
        return Verdict(reward=1.0, components=NOTHING)
    if end is None:
        raise ValueError("a simulation that ended by itself needs its end state")
    values: dict[RewardType, float | None] = {
        "DB": of.database(end),
        "ENV_ASSERTION": of.env_assertion(end),
        "ACTION": of.action(criteria, simulation.messages),
        "COMMUNICATE": of.communicate(criteria, simulation.messages),
        "NL_ASSERTION": of.nl_assertion(criteria, nl_met),
    }
    basis = tuple(name for name in REWARD_TYPES if name in criteria.reward_basis)
    if "NL_ASSERTION" in basis and criteria.nl_assertions and nl_met is None:
        return Verdict(reward=None, components=values, basis=basis, reason=NEEDS_JUDGE)
    gates = [value for name in basis if (value := values[name]) is not None]
    return Verdict(reward=math.prod(gates), components=values, basis=basis)


def needs_end_state(task: Task, simulation: Simulation) -> bool:
    """Whether a verdict on this simulation depends on the environment at all."""
    return simulation.termination_reason in STOPPED and task.evaluation_criteria is not None
