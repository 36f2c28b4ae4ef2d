"""Messages of a simulation and the calls in them. Records only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Requestor = Literal["assistant", "user"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool called by the agent (`assistant`) or the simulated user."""

    name: str
    arguments: dict[str, Any]
    id: str = ""
    requestor: Requestor = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. A tool's answer has role `tool` and the `id` of its call.

    `reasoning`: the model's thoughts before it, which are sent to that model alone; `written`: the content as received, with the
    thoughts inside it, None where they came apart (kept while a simulation runs).
    """

    role: Literal["assistant", "user", "tool", "system"]
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    id: str = ""
    requestor: Requestor = "assistant"
    error: bool = False
    reasoning: str | None = None
    written: str | None = None

    @property
    def text(self) -> str:
        """The content, or nothing where it is None or blank."""
        return self.content if self.content and self.content.strip() else ""
