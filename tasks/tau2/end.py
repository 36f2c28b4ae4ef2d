"""End states of recorded simulations: the recording is replayed, and so, once per task, are the reference actions.

Owns what is compared with what. Knows nothing of rewards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from harness.core.tau2.end_state import EndState
from harness.core.tau2.message import Message
from harness.core.tau2.task import Criteria, Task
from harness.tasks.tau2.environment import Environment

KEPT = 4096
"""Reference environments that are remembered; they hold touched records only."""


class EndStates:
    """End states in one domain. `sync_reference`: keep the sides in step between reference actions."""

    def __init__(
        self,
        environment: Callable[[bool], Environment],
        *,
        sync_reference: bool = False,
        diagnose_database: bool = True,
    ) -> None:
        self._environment = environment
        self._sync_reference = sync_reference
        self._diagnose_database = diagnose_database
        self._references: OrderedDict[int, tuple[Task, Environment]] = OrderedDict()

    def __call__(self, task: Task, messages: Sequence[Message], *, solo: bool) -> EndState:
        """Replay and compare. Raises TranscriptError, or whatever an assertion raises."""
        criteria = task.evaluation_criteria or Criteria()
        environment = self._environment(solo)
        environment.initialize(task.initial_state)
        differs = environment.replay(messages)
        matches = None
        if self._diagnose_database or "DB" in criteria.reward_basis:
            unjudgeable = criteria.actions is None and criteria.env_assertions is None
            matches = True if unjudgeable else environment.same_databases(self._reference(task, criteria))
        assertions = criteria.env_assertions
        met = tuple(environment.holds(assertion) for assertion in assertions) if assertions else None
        return EndState(database_matches=matches, assertions_met=met, n_differs=differs)

    def _reference(self, task: Task, criteria: Criteria) -> Environment:
        known = self._references.get(id(task))
        if known is not None and known[0] is task:
            self._references.move_to_end(id(task))
            return known[1]
        environment = self._environment(False)
        environment.initialize(task.initial_state)
        environment.replay((task.initial_state and task.initial_state.message_history) or ())
        environment.refer(criteria.actions or (), sync=self._sync_reference)
        self._references[id(task)] = (task, environment)
        while len(self._references) > KEPT:
            self._references.popitem(last=False)
        return environment
