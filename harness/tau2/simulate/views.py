"""A transcript as each side sees it, in OpenAI's format: the agent sees no calls of the user, the user only text of the agent.

Pure functions. Both views are derived from one list of messages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.core.tau2.message import Message, Requestor, ToolCall

Wire = dict[str, Any]


def _calls(calls: Sequence[ToolCall], *, names: bool) -> list[Wire]:
    return [
        {
            "id": call.id,
            **({"name": call.name} if names else {}),
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for call in calls
    ]


def _own(message: Message, *, names: bool, thoughts: bool) -> Wire:
    wire: Wire = {"role": "assistant", "content": message.content}
    if thoughts and message.written is not None:
        wire["content"] = message.written
    elif thoughts and message.reasoning:
        wire["reasoning_content"] = message.reasoning
    if message.tool_calls:
        wire["tool_calls"] = _calls(message.tool_calls, names=names)
    return wire


def seen_by(side: Requestor, message: Message, *, names: bool = False, thoughts: bool = True) -> Wire | None:
    """The message in OpenAI format as `side` sees it, or None if it is hidden from that side. The side being queried always has the role
    `assistant`.

    `thoughts`: its own reasoning is sent back as it came, in a field of its own or inside the content; the chat template decides what the
    model sees of it. `names`: calls have a second `name` besides `function`, as upstream sends them.
    """
    if message.role == "tool":
        if message.requestor != side:
            return None
        return {"role": "tool", "content": message.content, "tool_call_id": message.id}
    if message.role == side:
        return _own(message, names=names, thoughts=thoughts)
    if message.role == "system" or message.tool_calls or not message.text:
        return None
    return {"role": "user", "content": message.content}
