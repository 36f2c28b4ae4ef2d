"""A scripted agent and user that play a task's reference actions, for demonstrations, tests and benchmarks.

Both are functions of a request alone, so they work in process and behind HTTP. The agent makes its calls one by one, tells the user
when it is its turn, sends every required string and waits; the user makes its calls and stops. The task is recognised by the request's
tag, else by the user's scenario, the ticket, or the task's id in a message of the user.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from harness.core.chat import ChatAnswer, ChatCall, ChatRequest, Usage
from harness.core.tau2.message import Requestor
from harness.core.tau2.simulation import STOP
from harness.core.tau2.task import Action, Task
from harness.tau2.simulate.loop import GREETING
from harness.tau2.simulate.prompts import scenario

NAMED = re.compile(r"\(task: (.*?)\)\Z", re.DOTALL)
CHARACTERS_PER_TOKEN = 4


def _parts(task: Task) -> list[tuple[Requestor, list[Action]]]:
    actions = (task.evaluation_criteria and task.evaluation_criteria.actions) or ()
    return [(side, list(found)) for side, found in groupby(actions, key=lambda action: action.requestor)]


def _call(action: Action, number: int) -> ChatAnswer:
    call = ChatCall(id=f"c{number}", name=action.name, arguments=json.dumps(action.arguments))
    return ChatAnswer(tool_calls=(call,), finish_reason="tool_calls")


def agent_script(task: Task, *, solo: bool) -> Iterator[ChatAnswer]:
    """The agent's answers, in order."""
    number = 0
    for side, actions in _parts(task):
        if side == "assistant" or solo:
            for action in actions:
                number += 1
                yield _call(action, number)
        else:
            yield ChatAnswer(content="Please do your part now.", finish_reason="stop")
    if solo:
        yield ChatAnswer(tool_calls=(ChatCall(id="done", name="done", arguments="{}"),), finish_reason="tool_calls")
        return
    wanted = (task.evaluation_criteria and task.evaluation_criteria.communicate_info) or ()
    yield ChatAnswer(content=" ".join(["That is all.", *wanted]), finish_reason="stop")


def user_script(task: Task) -> Iterator[ChatAnswer]:
    """The user's answers, in order."""
    yield ChatAnswer(content=f"Hello, I need help. (task: {task.id})", finish_reason="stop")
    number = 0
    for side, actions in _parts(task):
        if side == "user":
            for action in actions:
                number += 1
                yield _call(action, number)
            yield ChatAnswer(content="I have done my part.", finish_reason="stop")
    yield ChatAnswer(content=f"Thank you. {STOP}", finish_reason="stop")


class ReferencePlay:
    """Answers requests of agents and users on these tasks. `play(request)` is a script for ScriptedChat or a server."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = {task.id: task for task in tasks}
        self._scenarios: dict[str, list[Task]] = {}
        self._tickets: dict[str, list[Task]] = {}
        for task in tasks:
            self._scenarios.setdefault(scenario(task.user_scenario), []).append(task)
            if task.ticket is not None:
                self._tickets.setdefault(task.ticket, []).append(task)
        self._scripts: dict[tuple[str, str], list[ChatAnswer]] = {}

    def recognisable(self, *, solo: bool = False) -> list[Task]:
        """The tasks that are recognised without a tag: of those with the same scenario (solo: ticket) the first."""
        return [found[0] for found in (self._tickets if solo else self._scenarios).values()]

    def __call__(self, request: ChatRequest) -> ChatAnswer:
        """The next answer of the participant that is asked. Raises LookupError for a conversation about no known task.

        A request without a system prompt (`harness doctor` checks an endpoint so) gets a fixed answer.
        """
        if all(message["role"] != "system" for message in request.messages):
            return ChatAnswer(content="I play reference actions from a script.", finish_reason="stop")
        system = str(request.messages[0].get("content"))
        said = _between(system, "scenario")
        ticket = _between(system, "ticket")
        role = "user" if said is not None else "solo" if ticket is not None else "agent"
        task = self._by_tag(request.tag) or self._by_text(request.messages, said, ticket)
        script = self._scripts.get((role, task.id))
        if script is None:
            made = user_script(task) if role == "user" else agent_script(task, solo=role == "solo")
            script = self._scripts[role, task.id] = list(made)
        history = (task.initial_state and task.initial_state.message_history) or ()
        own = "user" if role == "user" else "assistant"
        before = sum(message.role == own for message in history)
        if role == "agent" and not history:
            before = sum(message.get("content") == GREETING.content for message in request.messages[1:2])
        spoken = sum(message["role"] == "assistant" for message in request.messages) - before
        answer = script[min(spoken, len(script) - 1)]
        size = sum(len(str(message.get("content") or "")) for message in request.messages)
        return ChatAnswer(
            content=answer.content,
            tool_calls=answer.tool_calls,
            finish_reason=answer.finish_reason,
            usage=Usage(prompt_tokens=size // CHARACTERS_PER_TOKEN, completion_tokens=8),
        )

    def _by_tag(self, tag: str) -> Task | None:
        return self._tasks.get(tag)

    def _by_text(self, messages: Sequence[Mapping[str, Any]], said: str | None, ticket: str | None) -> Task:
        if said is not None and said in self._scenarios:
            return self._scenarios[said][0]
        if ticket is not None and ticket in self._tickets:
            return self._tickets[ticket][0]
        for message in messages:
            named = NAMED.search(str(message.get("content"))) if message["role"] == "user" else None
            if named and named[1] in self._tasks:
                return self._tasks[named[1]]
        raise LookupError("a conversation about no task that this script knows")


def _between(text: str, tag: str) -> str | None:
    """The text between the last pair of tags, each on its own line; None where there is none."""
    opening, closing = f"<{tag}>\n", f"\n</{tag}>"
    if not text.endswith(closing) or opening not in text:
        return None
    return text[text.rindex(opening) + len(opening) : -len(closing)]
