"""One simulation: agent, user and environment take turns until one of them stops or a limit is reached.

Upstream's order and limits (docs/tau2.md). Owns whose turn is next and how it ends. Knows no endpoints and no rewards; an EndpointError is
raised to the caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from harness.core.chat import ChatModel, ChatRequest, ContextOverflow, Usage
from harness.core.tau2.message import Message, Requestor
from harness.core.tau2.simulation import STOP, USER_STOPS, Termination
from harness.core.tau2.task import Task
from harness.core.tau2.upstream import OURS, Upstream
from harness.tasks.tau2.environment import Environment
from harness.tau2.simulate.prompts import Prompts
from harness.tau2.simulate.utterance import AnswerLimits, ParticipantError, message_of
from harness.tau2.simulate.views import Wire, seen_by

GREETING = Message(role="assistant", content="Hi! How can I help you today?")
YIELD_EVERY = 32
"""Tool calls after which the event loop runs other simulations."""

Side = Literal["assistant", "user", "environment"]
Greeting = Literal["send", "hide"]
"""Whether the agent's model is sent its own opening message, which it did not write. The user is sent it in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits at which a simulation ends. One step is one message of agent or user, or one run of tools."""

    max_steps: int = 200
    max_errors: int = 10
    timeout_s: float | None = None
    answer: AnswerLimits = field(default_factory=AnswerLimits)

    def identity(self) -> dict[str, float | None]:
        """As JSON, by the names of the settings."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "answer"}
        return {**own, "max_calls": self.answer.calls}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all simulations of a run have in common. `environment` makes a fresh one."""

    environment: Callable[[], Environment]
    prompts: Prompts
    agent_tools: Sequence[Mapping[str, Any]]
    user_tools: Sequence[Mapping[str, Any]]
    agent: ChatModel
    user: ChatModel | None
    limits: Limits
    solo: bool = False
    greeting: Greeting = "send"
    upstream: Upstream = OURS
    asked: Callable[[], None] = field(default=lambda: None)
    """Called after every request to a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A simulation that ended. `usages` has one entry per message, None where no model wrote it; `reason`: a message about the end.

    `spent`: what all answers of a side cost, including one that could not become a message.
    """

    messages: tuple[Message, ...]
    usages: tuple[Usage | None, ...]
    spent: Mapping[Requestor, Usage]
    termination: Termination
    reason: str | None
    steps: int
    errors: int
    seconds: float


class Simulator:
    """One running simulation; `run` is to be called once."""

    def __init__(self, setting: Setting, task: Task, *, seed: int | None, tag: str = "") -> None:
        self._setting = setting
        self._seed = seed
        self._tag = tag
        self._environment = setting.environment()
        self._environment.initialize(task.initial_state)
        history = tuple((task.initial_state and task.initial_state.message_history) or ())
        self._environment.replay(history)
        system: dict[Requestor, str] = {"assistant": setting.prompts.agent(task, solo=setting.solo)}
        if not setting.solo:
            system["user"] = setting.prompts.user(task)
        self._views: dict[Requestor, list[Wire]] = {
            side: [{"role": "system", "content": text}] for side, text in system.items()
        }
        self._messages: list[Message] = []
        self._usages: list[Usage | None] = []
        self._spent: dict[Requestor, Usage] = dict.fromkeys(self._views, Usage())
        self._heard = setting.greeting == "send"
        for message in history or (() if setting.solo else (GREETING,)):
            self._add(message)
        self._begun = len(self._messages)
        self._turn: Side = "assistant"
        self._end: Termination | None = None
        self._reason: str | None = None
        self._steps = self._errors = 0

    async def run(self) -> Played:
        """Take turns to the end. Raises EndpointError, and other errors of the chat models."""
        started = time.perf_counter()
        if self._messages:
            self._resume_history()
        else:
            await self._speak("assistant")  # as upstream counts, a solo agent's first message is not a step
        while self._end is None:
            if self._turn == "environment":
                await self._use_tools()
            else:
                await self._speak(self._turn)
            self._steps += 1
            self._check_limits(time.perf_counter() - started)
        return Played(
            messages=tuple(self._messages),
            usages=tuple(self._usages),
            spent=self._spent,
            termination=self._end,
            reason=self._reason,
            steps=self._steps,
            errors=self._errors,
            seconds=time.perf_counter() - started,
        )

    @property
    def spent(self) -> Mapping[Requestor, Usage]:
        """What the answers of each side cost so far."""
        return self._spent

    @property
    def agent_is_first_asked(self) -> bool:
        """Whether the agent's model is being asked for the first time, after a greeting that it did not write."""
        answered = any(message.role == "assistant" for message in self._messages[self._begun :])
        return self._turn == "assistant" and self._begun > 0 and not answered

    def _add(self, message: Message, usage: Usage | None = None) -> None:
        self._messages.append(message)
        self._usages.append(usage)
        self._heard = self._heard or message.role != "assistant" or bool(message.tool_calls)
        for side, view in self._views.items():
            upstream = self._setting.upstream
            seen = seen_by(side, message, names=upstream.call_names, thoughts=not upstream.thoughts)
            if seen is not None and (side == "user" or self._heard):
                view.append(seen)

    def _resume_history(self) -> None:
        """Set whose turn it is after the greeting or after a task's message history."""
        last = self._messages[-1]
        if last.role == "tool":
            self._turn = last.requestor
        elif last.tool_calls:
            self._turn = "environment"
        elif last.role == "user":
            self._turn = "assistant"
            if _stops(last):
                self._finish("user_stop")
        else:
            self._turn = "assistant" if self._setting.solo else "user"

    def _finish(self, end: Termination, reason: str | None = None) -> None:
        self._end, self._reason = end, reason

    def _check_limits(self, seconds: float) -> None:
        """Apply the limits, as upstream does: not while tools are to be run; a limit replaces a stop, a timeout does not."""
        if self._end in ("agent_error", "user_error") or (self._turn == "environment" and self._end is None):
            return
        limits = self._setting.limits
        if self._steps >= limits.max_steps:
            self._finish("max_steps", f"{limits.max_steps} steps")
        if self._errors >= limits.max_errors:
            self._finish("too_many_errors", f"{self._errors} tool errors")
        if self._end is None and limits.timeout_s is not None and seconds >= limits.timeout_s:
            self._finish("timeout", f"{seconds:.1f} s")

    async def _speak(self, side: Requestor) -> None:
        setting = self._setting
        agent = side == "assistant"
        model = setting.agent if agent else setting.user
        assert model is not None, "only a simulation without a user has no model for one"
        request = ChatRequest(
            messages=tuple(self._views[side]),
            tools=setting.agent_tools if agent else setting.user_tools,
            tool_choice="required" if agent and setting.solo else None,
            seed=self._seed,
            tag=self._tag,
        )
        try:
            answer = await model.answer(request)
            self._spent[side] += answer.usage
            message = message_of(answer, side, setting.limits.answer, aloud=setting.upstream.thoughts)
            if agent and setting.solo:
                message = _solo(message, keep_calls=setting.upstream.solo_stop)
        except (ContextOverflow, ParticipantError) as error:
            what = "the context overflowed: " if isinstance(error, ContextOverflow) else ""
            self._finish("agent_error" if agent else "user_error", f"{what}{error}")
            return
        finally:
            setting.asked()
        self._add(message, answer.usage)
        self._turn = "environment" if message.tool_calls else ("assistant" if side == "user" else "user")
        if agent and setting.solo and STOP in message.text:
            self._finish("agent_stop")
        elif not agent and _stops(message):
            self._finish("user_stop")

    async def _use_tools(self) -> None:
        caller = self._messages[-1]
        side: Requestor = "user" if caller.role == "user" else "assistant"
        for number, call in enumerate(caller.tool_calls or (), start=1):
            answer = self._environment.call(call)
            self._errors += answer.error
            self._add(Message(role="tool", id=call.id, content=answer.content, error=answer.error, requestor=side))
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        self._turn = side


def _stops(message: Message) -> bool:
    """Whether a message of the user ends the simulation: text alone, with one of the tokens in it."""
    return not message.tool_calls and any(token in message.text for token in USER_STOPS)


def _solo(message: Message, *, keep_calls: bool) -> Message:
    """A message of an agent without a user. One that calls `done` or contains STOP ends the simulation, so its calls are dropped (they
    would never be executed).

    `keep_calls`: with STOP in the text they are kept, as in upstream. Raises ParticipantError for text alone.
    """
    if any(call.name == "done" for call in message.tool_calls or ()):
        return replace(message, content=STOP, tool_calls=None)
    if not message.tool_calls:
        raise ParticipantError("a message without a tool call, and there is no user to read it")
    return replace(message, tool_calls=None) if STOP in message.text and not keep_calls else message
