"""The system prompts of agent and user: upstream's structure, our wording for the agent, guideline files for the user.

Pure text. The texts are part of a run's identity (`digest`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.digest import digest_json
from harness.core.tau2.task import Task

AGENT_INSTRUCTIONS = """
You work in customer service. Help the user, and keep to the <policy> below in everything you do.
At each turn do one of two things:
- write a message to the user, or
- call a tool.
Never both in one turn.

Be as helpful as the policy allows. Arguments of tool calls must be valid JSON.
""".strip()
SOLO_INSTRUCTIONS = """
You work in customer service. Help the user, and keep to the <policy> below in everything you do.
The <ticket> below says what the user needs. Plan which tools solve it, and call them.

You cannot talk to the user: every turn is a tool call.
When you believe that the ticket is solved, call the tool `done`, and nothing else in that turn.

Keep to the policy always. Arguments of tool calls must be valid JSON.
""".strip()
DONE = {
    "type": "function",
    "function": {
        "name": "done",
        "description": "Call this when the ticket is solved and nothing is left to do.",
        "parameters": {"type": "object", "properties": {}},
    },
}
"""The tool by which an agent without a user ends the simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The texts of one run. `guidelines` are the user's, for users with tools if the domain has some.

    `toolless`: the guidelines for users whose task takes the domain's tools away; None where no task does.
    """

    policy: str
    guidelines: str
    agent_instructions: str = AGENT_INSTRUCTIONS
    toolless: str | None = None

    @property
    def digest(self) -> str:
        """Digest of the texts."""
        more = [] if self.toolless is None else [self.toolless]
        return digest_json([self.policy, self.guidelines, self.agent_instructions, *more])

    def agent(self, task: Task, *, solo: bool) -> str:
        """The agent's system prompt."""
        parts = {"instructions": self.agent_instructions, "policy": self.policy}
        if solo:
            parts["ticket"] = task.ticket or ""
        return "\n".join(f"<{tag}>\n{text}\n</{tag}>" for tag, text in parts.items())

    def user(self, task: Task) -> str:
        """The simulated user's system prompt."""
        guidelines = self.toolless if self.toolless is not None and task.user_tools == () else self.guidelines
        return f"{guidelines}\n\n<scenario>\n{scenario(task.user_scenario)}\n</scenario>"


def _titled(title: str, text: Any) -> str:
    return f"{title}:\n{textwrap.indent(str(text), chr(9))}"


def scenario(value: Mapping[str, Any]) -> str:
    """A user scenario as text: persona, then instructions, which are text or have parts."""
    instructions = value.get("instructions")
    if isinstance(instructions, Mapping):
        lines = [
            f"Domain: {instructions.get('domain', '')}",
            _titled("Reason for call", instructions.get("reason_for_call", "")),
        ]
        for title, key in (("Known info", "known_info"), ("Unknown info", "unknown_info")):
            if instructions.get(key) is not None:
                lines.append(_titled(title, instructions[key]))
        lines.append(_titled("Task instructions", instructions.get("task_instructions", "")))
        instructions = "\n".join(lines)
    persona = value.get("persona")
    parts = [] if persona is None else [_titled("Persona", persona)]
    return "\n".join([*parts, _titled("Instructions", instructions)])
