"""A tau2 simulation, or a question with its answer, as a sample of an Inspect log.

Pure; values of an unexpected type are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.report.simulations import number_of, scenario_of
from harness.tau2.recordings.checks import checks, compact, text_of

if TYPE_CHECKING:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessage

REWARD = "reward"
NO_PROMPT = "(what was asked is not kept in this run)"


def simulation_sample(line: Mapping[str, Any], epoch: int) -> EvalSample:
    """A simulation: task, transcript with calls, and its reward. One without a reward has an error and no score."""
    from inspect_ai.log import EvalError, EvalSample
    from inspect_ai.scorer import Score

    info = _mapping(line.get("reward_info"))
    fault = _mapping(line.get("fault")) or _mapping(_mapping(info.get("info")).get("fault"))
    reward = number_of(info.get("reward"))
    end = text_of(line.get("termination_reason")) or "not said"
    said = list(checks(info))
    task = _mapping(line.get("task"))
    words = [
        f"ended by {end}",
        *([f"{fault.get('cause')}: {text_of(fault.get('words'))}"] if fault else []),
        *([text_of(line.get("reason"))] if line.get("reason") else []),
        *(f"{'met' if one.met else 'NOT met'} {one.component}: {one.asked}" for one in said),
    ]
    transcript = list(_messages(line.get("messages")))
    metadata: dict[str, Any] = {
        "simulation": text_of(line.get("id")),
        "trial": line.get("trial"),
        "end": end,
        **({"fault": dict(fault)} if fault else {}),
        **({"breakdown": info["reward_breakdown"]} if isinstance(info.get("reward_breakdown"), Mapping) else {}),
    }
    score = None if reward is None else Score(value=reward, explanation="\n".join(words), metadata=metadata)
    return EvalSample(
        id=text_of(line.get("task_id")) or text_of(line.get("id")) or "unknown",
        epoch=epoch,
        input=scenario_of(task) or text_of(line.get("task_id")),
        target=[text_of(one) for one in _list(_mapping(task.get("evaluation_criteria")).get("nl_assertions"))],
        messages=transcript,
        output=_output(transcript),
        scores=None if score is None else {REWARD: score},
        metadata=metadata,
        error=EvalError(message="\n".join(words), traceback="", traceback_ansi="") if reward is None else None,
    )


def question_sample(row: Mapping[str, Any], *, epoch: int, value: float | None, metric: str, model: str) -> EvalSample:
    """A question: what was asked, the answer, what is right, and its value. One that was not scored has an error."""
    from inspect_ai.log import EvalError, EvalSample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    identity = text_of(row.get("id"))
    asked = text_of(row.get("prompt")) or NO_PROMPT
    answer = text_of(row.get("answer"))
    reason = text_of(row.get("reason"))
    spoken: list[ChatMessage] = [ChatMessageUser(id=f"{identity}/asked", content=asked)]
    if answer:
        spoken.append(ChatMessageAssistant(id=f"{identity}/answer", content=answer))
    return EvalSample(
        id=identity,
        epoch=epoch,
        input=asked,
        target=text_of(row.get("target")),
        messages=spoken,
        output=ModelOutput.from_content(model, answer) if answer else ModelOutput(model=model),
        scores=None
        if value is None
        else {metric: Score(value=value, answer=answer or None, explanation=reason or None)},
        metadata={name: one for name, one in row.items() if name in ("task", "cluster") and one is not None},
        error=EvalError(message=reason or "it was not scored", traceback="", traceback_ansi="")
        if value is None
        else None,
    )


def _messages(messages: Any) -> Iterator[ChatMessage]:
    """In order. Inspect has no tool calls of a user: those, and their answers, become marked text of the user."""
    from inspect_ai.model import (
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
        ContentReasoning,
        ContentText,
    )
    from inspect_ai.tool import ToolCall, ToolCallError

    names: dict[str, str] = {}
    for number, message in enumerate(_flat(messages), start=1):
        mine: dict[str, Any] = {"id": f"message-{number}"}
        role, content = message.get("role"), text_of(message.get("content"))
        calls = [one for one in map(_mapping, _list(message.get("tool_calls"))) if one]
        names.update({text_of(one.get("id")): text_of(one.get("name")) for one in calls})
        if role == "assistant":
            made = [
                ToolCall(
                    id=text_of(one.get("id")) or f"call-{number}-{index}",
                    function=text_of(one.get("name")),
                    arguments=dict(_mapping(one.get("arguments"))),
                    type="function",
                )
                for index, one in enumerate(calls)
            ]
            thought = text_of(message.get("reasoning_content"))
            parts = [ContentReasoning(reasoning=thought), ContentText(text=content)] if thought else content
            yield ChatMessageAssistant(content=parts, tool_calls=made or None, **mine)
        elif role == "tool" and message.get("requestor") != "user":
            identity = text_of(message.get("id"))
            yield ChatMessageTool(
                content=content,
                tool_call_id=identity or None,
                function=names.get(identity) or None,
                error=ToolCallError(type="unknown", message=content) if message.get("error") is True else None,
                **mine,
            )
        elif role == "system":
            yield ChatMessageSystem(content=content, **mine)
        elif role == "tool":
            what = names.get(text_of(message.get("id"))) or "the user's tool"
            error = "error of " if message.get("error") is True else ""
            yield ChatMessageUser(content=f"[{error}{what}, called by the user]\n{content}", **mine)
        elif role == "user":
            asked = [f"[the user calls {one.get('name')}({compact(one.get('arguments'))})]" for one in calls]
            yield ChatMessageUser(content="\n".join([*([content] if content else []), *asked]), **mine)
        else:
            yield ChatMessageUser(content=f"[not a message: {compact(dict(message))}]", **mine)


def _flat(messages: Any) -> Iterator[Mapping[str, Any]]:
    """The messages, with upstream's bundles of tool answers unpacked."""
    for message in _list(messages):
        if not isinstance(message, Mapping):
            yield {"role": "unreadable", "content": compact(message)}
        elif isinstance(message.get("tool_messages"), list):
            yield from (_mapping(one) for one in message["tool_messages"])
        else:
            yield message


def _output(transcript: list[ChatMessage]) -> Any:
    from inspect_ai.model import ChatMessageAssistant, ModelOutput

    last = next((one for one in reversed(transcript) if isinstance(one, ChatMessageAssistant)), None)
    return ModelOutput() if last is None else ModelOutput.from_message(last)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
