"""End states of recorded simulations: the recording is replayed, and so, once per task, are the reference actions.

Owns what is compared with what. Knows nothing of rewards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from harness.core.tau2.end_state import EndState
from harness.core.tau2.message import Message
from harness.core.tau2.task import Criteria, Task
from harness.tasks.tau2.differing import Differing
from harness.tasks.tau2.environment import Environment

KEPT = 4096
"""Reference environments that are cached; they hold touched records only."""


class UnfitEnd(Exception):  # noqa: N818
    """Comparison or assertions raise at a simulation's end but not after the reference actions: the simulation is the cause."""


class EndStates:
    """End states in one domain. `sync_reference`: keep the sides in step between reference actions."""

    def __init__(
        self,
        environment: Callable[[bool, Task], Environment],
        *,
        sync_reference: bool = False,
        diagnose_database: bool = True,
    ) -> None:
        self._environment = environment
        self._sync_reference = sync_reference
        self._diagnose_database = diagnose_database
        self._references: OrderedDict[int, tuple[Task, Environment]] = OrderedDict()

    def __call__(self, task: Task, messages: Sequence[Message], *, solo: bool) -> EndState:
        """Replay and compare. Raises TranscriptError, UnfitEnd, or what an assertion raises on any end."""
        criteria = task.evaluation_criteria or Criteria()
        environment = self._environment(solo, task)
        environment.initialize(task.initial_state)
        differences = environment.replay(messages)
        matches = None
        reference = None
        if self._diagnose_database or "DB" in criteria.reward_basis:
            unjudgeable = criteria.actions is None and criteria.env_assertions is None
            matches = True if unjudgeable else None
            reference = None if unjudgeable else self._reference(task, criteria)
        assertions = criteria.env_assertions
        try:
            if reference is not None:
                matches = environment.same_databases(reference)
            met = tuple(environment.holds(assertion) for assertion in assertions) if assertions else None
        except Exception as error:
            # Arguments of any type reach records, and through them comparisons and assertions, which may raise anything.
            if self._can_be_evaluated(task, criteria):
                raise UnfitEnd(f"its end cannot be judged: {type(error).__name__}: {error}") from error
            raise
        return EndState(database_matches=matches, assertions_met=met, differences=differences)

    def differing(self, task: Task, messages: Sequence[Message], *, solo: bool) -> list[Differing]:
        """The fields in which the databases at the end differ from those after the reference actions; empty without any of these.

        Raises TranscriptError, or what comparing such records raises.
        """
        criteria = task.evaluation_criteria or Criteria()
        if criteria.actions is None and criteria.env_assertions is None:
            return []
        environment = self._environment(solo, task)
        environment.initialize(task.initial_state)
        environment.replay(messages)
        return list(self._reference(task, criteria).differing(environment))

    def _can_be_evaluated(self, task: Task, criteria: Criteria) -> bool:
        """Whether comparison and assertions work after the reference actions, so that the task is not the cause."""
        environment = self._played(task, criteria)
        try:
            environment.same_databases(self._reference(task, criteria))
            for assertion in criteria.env_assertions or ():
                environment.holds(assertion)
        except Exception:  # noqa: BLE001
            return False
        return True

    def _played(self, task: Task, criteria: Criteria) -> Environment:
        environment = self._environment(False, task)
        environment.initialize(task.initial_state)
        environment.replay((task.initial_state and task.initial_state.message_history) or ())
        environment.refer(criteria.actions or (), sync=self._sync_reference)
        return environment

    def _reference(self, task: Task, criteria: Criteria) -> Environment:
        known = self._references.get(id(task))
        if known is not None and known[0] is task:
            self._references.move_to_end(id(task))
            return known[1]
        environment = self._played(task, criteria)
        self._references[id(task)] = (task, environment)
        while len(self._references) > KEPT:
            self._references.popitem(last=False)
        return environment
