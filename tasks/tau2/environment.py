"""A domain's environment during one simulation: two sides, how they are kept in step, and how calls reach them.

Owns the effects of calls, of initialisation and of replays, as upstream has them. Knows nothing of models or rewards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.tau2.end_state import Difference
from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.task import Action, Assertion, FunctionCall, InitialState
from harness.tasks.tau2.content import as_text
from harness.tasks.tau2.differing import Differing
from harness.tasks.tau2.toolkit import Toolkit

HANDED_ON = "Environment.make_tool_call() got multiple values"


class TranscriptError(ValueError):
    """A recorded transcript whose calls and answers do not belong together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The environment's answer to a call."""

    content: str
    error: bool


def no_sync(agent: Any, user: Any) -> None:
    """The two sides share nothing."""


class Environment:
    """One simulation's environment. In solo mode the agent has the user's tools too."""

    def __init__(
        self,
        *,
        agent: Toolkit,
        user: Toolkit | None,
        sync: Callable[[Any, Any], None] = no_sync,
        solo: bool = False,
        text: Callable[[Any], str] = as_text,
    ) -> None:
        self.agent = agent
        self.user = user
        self.solo = solo
        self._sync = sync
        self._text = text
        self.sync()

    def sync(self) -> None:
        """Apply the effects of one side's calls to the other: a paid bill, an enabled line."""
        self._sync(self.agent.target, self.user.target if self.user else None)

    def has_tool(self, name: str) -> bool:
        """Whether either side has the tool."""
        return name in self.agent.tools or (self.user is not None and name in self.user.tools)

    def changes_state(self, name: str) -> bool:
        """Whether a tool changes state; true for an unknown one."""
        tool = self.agent.tools.get(name) or (self.user.tools.get(name) if self.user else None)
        return tool is None or tool.changes_state

    def call(self, call: ToolCall) -> Answer:
        """Answer a call and synchronise the sides. An exception of the tool becomes an answer with `error`."""
        try:
            value = self._use(call)
            self.sync()
            return Answer(content=self._text(value), error=False)
        except Exception as error:  # noqa: BLE001
            return Answer(content=f"Error: {error}", error=True)

    def _use(self, call: ToolCall | Action) -> Any:
        _refuse_taken(call.arguments)
        if call.requestor == "user":
            if self.solo:
                raise ValueError("User tool calls are not allowed in solo mode")
            if self.user is None:
                raise ValueError("User tools not available")
            return self.user.use(call.name, call.arguments)
        if self.solo and self.user is not None and call.name in self.user.tools:
            return self.user.use(call.name, call.arguments)
        return self.agent.use(call.name, call.arguments)

    def refer(self, actions: Sequence[Action], *, sync: bool) -> None:
        """Apply reference actions; one that fails is skipped, as upstream does."""
        for action in actions:
            try:
                self._use(action)
                if sync:
                    self.sync()
            except Exception:  # noqa: BLE001
                continue  # tools may raise anything; upstream skips all of it

    def run(self, call: FunctionCall) -> Any:
        """Call a function of either side. Raises ValueError where there is none, and what the function raises."""
        side = self.agent if call.env_type == "assistant" else self.user
        function = side.function(call.func_name) if side else None
        if function is None:
            raise ValueError(f"the {call.env_type} side has no function {call.func_name!r}")
        result = function(**call.arguments)
        self.sync()
        return result

    def holds(self, assertion: Assertion) -> bool:
        """Whether an assertion is met now. Raises ValueError for a function that returns no truth value."""
        result = self.run(assertion)
        if not isinstance(result, bool):
            raise ValueError(f"{assertion.func_name} returned {type(result).__name__}, not a truth value")
        return result == assertion.assert_value

    def initialize(self, state: InitialState | None) -> None:
        """Initialisation data, then initialisation actions; the caller replays the message history. Raises ValueError for data
        that do not fit, and what an action raises."""
        data = state.initialization_data if state else None
        # Upstream points both sides at the database that was updated, and its verdicts depend on it.
        if data and data.agent_data is not None:
            self.agent.merge(data.agent_data)
            if self.user:
                self.user.share_database_of(self.agent)
        if data and data.user_data is not None:
            if self.user is None:
                raise ValueError("initialization data for a user who has no database")
            self.user.merge(data.user_data)
            self.agent.share_database_of(self.user)
        for action in (state.initialization_actions if state else None) or ():
            self.run(action)

    def replay(self, messages: Sequence[Message]) -> tuple[Difference, ...]:
        """Repeat the recorded calls that change state; returns those whose answer is not the recorded one.

        Calls of unknown tools changed nothing and are skipped. Raises TranscriptError for calls without answers.
        """
        differences: list[Difference] = []
        for call, recorded in exchanges(messages):
            if self.has_tool(call.name) and self.changes_state(call.name):
                answer = self.call(call)
                if not same_answer(answer, recorded):
                    differences.append(Difference(call=call, then=recorded.content or "", now=answer.content))
        self.sync()
        return tuple(differences)

    def same_databases(self, other: Environment) -> bool:
        """Whether both sides' databases equal another environment's."""
        if not self.agent.same_database(other.agent):
            return False
        return self.user is None or other.user is None or self.user.same_database(other.user)

    def differing(self, found: Environment) -> Iterator[Differing]:
        """The fields in which `found`'s databases differ from these, the expected ones."""
        yield from self.agent.differing(found.agent)
        if self.user is not None and found.user is not None:
            yield from (Differing(f"user: {one.path}", *one[1:]) for one in self.user.differing(found.user))


def _refuse_taken(arguments: Mapping[str, Any]) -> None:
    """Upstream passes arguments on beside three of its own, so these names are errors for every tool."""
    if "requestor" in arguments:
        raise TypeError(f"tau2.environment.environment.{HANDED_ON} for keyword argument 'requestor'")
    for name in arguments:
        if name in ("self", "tool_name"):
            raise TypeError(f"{HANDED_ON} for argument '{name}'")


def exchanges(messages: Sequence[Message]) -> Iterator[tuple[ToolCall, Message]]:
    """Every call with its answer, in order. Raises TranscriptError where they do not alternate as they must."""
    rest = iter(messages)
    for message in rest:
        if message.role == "tool":
            raise TranscriptError(f"the answer {message.id!r} follows no call")
        if message.role == "system":
            continue
        for call in message.tool_calls or ():
            answer = next(rest, None)
            if answer is None or answer.role != "tool":
                raise TranscriptError(f"the call {call.name!r} ({call.id!r}) has no answer")
            if answer.id != call.id:
                raise TranscriptError(f"the call {call.id!r} is followed by the answer to {answer.id!r}")
            yield call, answer


def same_answer(now: Answer, then: Message) -> bool:
    """Whether two answers are equal: as text, or as JSON values where both are JSON; two errors are equal whatever their text.

    Text is compared before the error flags: some recorders do not set them.
    """
    if now.content == (then.content or ""):
        return True
    if now.error or then.error:
        return now.error == then.error
    try:
        return bool(json.loads(now.content) == json.loads(then.content or ""))
    except (ValueError, RecursionError):
        return False
