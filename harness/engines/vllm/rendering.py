"""Whether a server's prompts have the same token ids as those of the checkpoint's own tokenizer and chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.errors import CheckpointError
from harness.core.serving import Servable
from harness.engines.vllm.api import Api, RefusedError

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "find_order",
        "description": "Find an order by its number.",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string", "description": "such as #W1"}},
            "required": ["number"],
        },
    },
}
CALL: dict[str, Any] = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "find_order", "arguments": {"number": "#W1"}},
}
USER: dict[str, Any] = {"role": "user", "content": "Where is my order #W1? It\u2019s 2 days late."}
CONVERSATIONS: tuple[tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]], ...] = (
    ((USER,), ()),
    (
        (
            {"role": "system", "content": "You help with orders."},
            USER,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call00001", "name": "find_order", "content": '{"status": "sent"}'},
            {"role": "assistant", "content": "It was sent."},
            {"role": "user", "content": "Thank you."},
        ),
        (TOOL,),
    ),
)
"""(messages, tools) to compare: one for every template, and one for templates with tools."""


def _variants(messages: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """The forms in which servers pass a conversation to a template: content as text or as parts, an empty one as "" or None."""
    plain = [dict(message) for message in messages]
    without = [{**message, "content": message["content"] or None} for message in plain]
    parts = [
        {**message, "content": [{"type": "text", "text": message["content"]}] if message["content"] else []}
        for message in plain
    ]
    bare = [{**message, "content": message["content"] or None} for message in parts]
    return [plain, without, parts, bare]


def rendering_difference(api: Api, name: str, wanted: Servable) -> str | None:
    """A message on how the server's prompts differ from the checkpoint's own; None where they agree, or neither renders.

    Raises EngineError for a server that does not tokenize conversations.
    """
    assert wanted.render is not None
    for messages, tools in CONVERSATIONS:
        own: list[list[int]] = []
        for variant in _variants(messages):
            try:
                own.append(list(wanted.render(variant, tools)))
            except CheckpointError:
                raise
            except Exception:  # noqa: BLE001 - a template may raise anything to refuse a conversation
                continue
        try:
            served = api.tokenize(name, _wire(messages), tools)
        except RefusedError as error:
            if error.status in (401, 403, 404, 405, 501):
                raise
            served = None
        if served is None and own:
            return "it refuses a conversation that the checkpoint's own chat template renders"
        if served is not None and not own:
            return "it renders a conversation that the checkpoint's own chat template refuses"
        if served is not None and served not in own:
            return (
                f"of a conversation{' with tools' if tools else ''} it makes a prompt of {len(served)} tokens that is not "
                f"the {len(own[0])} tokens of the checkpoint's own tokenizer and chat template"
            )
    return None


def _wire(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as an endpoint takes them: arguments of calls as JSON text."""
    found = []
    for message in messages:
        calls = [
            {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
            for call in message.get("tool_calls", ())
        ]
        found.append({**message, **({"tool_calls": calls} if calls else {})})
    return found
