"""Teacher-forced reference actions of a tau2 domain as conversations: every reference call is an r.

q is the policy, the tools and the scenario through the model's chat template, then the calls so far with the environment's
answers; r is the next call. A model too weak to finish a simulation has a score here. Whether the score correlates with the
rewards of simulations is not validated, and every measurement says so.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.errors import CheckpointError, DataError
from harness.core.pair import Pair
from harness.core.tau2.message import ToolCall
from harness.core.tau2.task import Task
from harness.tasks.reward_env.conversation import Conversation, ConversationField
from harness.tasks.tau2.domain import Domain, schemas
from harness.tasks.tau2.sources import open_domain
from harness.tasks.tau2.task_file import revision

INSTRUCTIONS = (
    "You are a customer service agent. Do what the user needs, as far as the policy below allows, by calling tools. "
    "Make one call at a time and wait for its answer."
)
TOLD = {
    "reason_for_call": "Reason for the call",
    "known_info": "What the user knows",
    "unknown_info": "What the user does not know",
    "task_instructions": "How the user behaves",
}
"""Parts of a scenario, in the order in which they are shown, with their headings."""


class Tau2Definition(BaseModel):
    """`metadata.tau2` of a field's YAML. `sample` tasks are drawn with `seed` from those of `split` that have calls."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: Literal["airline", "retail", "telecom"]
    split: str | None = None
    sample: int | None = Field(default=None, ge=1)
    seed: int = 1234


NOT_VALIDATED = (
    "not validated: nothing shows yet that the log-probability of reference calls predicts tau2's rewards; it may follow the "
    "format of the calls, so decide nothing by it alone"
)


class ActionsField(ConversationField):
    """A field of reference calls; it needs a chat template that renders tools."""

    caveat = NOT_VALIDATED

    def pairs(self, tokenizer: Any) -> Sequence[Pair]:
        """One pair per call. Raises CheckpointError where the chat template leaves out the tools or the calls."""
        pairs = super().pairs(tokenizer)
        names = [tool["function"]["name"] for tool in self.content[0].tools]
        if not all(name in pairs[0].q for name in names):
            raise CheckpointError(
                f"the chat template in the tokenizer of {tokenizer.name_or_path or 'the model'} leaves out tools, which field "
                f"{self.name!r} is about; score a checkpoint whose template shows tools and tool calls"
            )
        return pairs


def load_tau2_field(definition: Tau2Definition, *, name: str) -> ActionsField:
    """The field. Raises DataError where the domain cannot be opened or has no task with calls."""
    domain = open_domain(definition.domain)
    # Most reference calls of telecom are the user's, which an agent does not see; in solo mode it makes all of them.
    solo = bool(domain.user_tools)
    tasks = [task for task in domain.tasks(definition.split) if _calls(task)]
    if not tasks:
        raise DataError(f"field {name!r}: split {definition.split!r} of {definition.domain} has no task with calls")
    chosen = tasks
    if definition.sample is not None and definition.sample < len(tasks):
        picked = sorted(random.Random(definition.seed).sample(range(len(tasks)), definition.sample))
        chosen = [tasks[index] for index in picked]
    system = f"<instructions>\n{INSTRUCTIONS}\n</instructions>\n<policy>\n{domain.policy(solo=solo).strip()}\n</policy>"
    tools = tuple(schemas({**domain.tools, **(domain.user_tools if solo else {})}))
    source: dict[str, Any] = {
        "tau2": definition.domain,
        "environment": domain.source,
        "task_revision": revision(chosen),
        "split": definition.split,
        "sample": len(chosen),
        "of_tasks": len(tasks),
        "seed": definition.seed,
        "solo": solo,
    }
    content = tuple(_conversation(domain, task, system=system, tools=tools, solo=solo) for task in chosen)
    return ActionsField(name=name, source=source, content=content)


def _calls(task: Task) -> Sequence[Any]:
    criteria = task.evaluation_criteria
    return (criteria.actions if criteria else None) or ()


def _conversation(
    domain: Domain, task: Task, *, system: str, tools: tuple[dict[str, Any], ...], solo: bool
) -> Conversation:
    """The reference calls of one task, played in a fresh environment."""
    environment = domain.environment(solo=solo)
    environment.initialize(task.initial_state)
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system},
        {"role": "user", "content": _scenario(task, solo=solo)},
    ]
    for number, action in enumerate(_calls(task)):
        answer = environment.call(ToolCall(name=action.name, arguments=action.arguments))
        identity = f"call{number:05}"  # nine letters and digits: some templates accept no other form
        function = {"name": action.name, "arguments": action.arguments}
        call = {"id": identity, "type": "function", "function": function}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": identity, "name": action.name, "content": answer.content})
    where = f"task {task.id!r} of tau2's {domain.name}"
    return Conversation(id=task.id, where=where, messages=tuple(messages), tools=tools)


def _scenario(task: Task, *, solo: bool) -> str:
    """What the agent would learn by asking: the ticket in solo mode, else the user's scenario."""
    if solo and task.ticket:
        return task.ticket.strip()
    told = task.user_scenario.get("instructions")
    if not isinstance(told, Mapping):
        return str(told).strip()
    parts = [f"{heading}:\n{str(told[key]).strip()}" for key, heading in TOLD.items() if told.get(key)]
    return "\n\n".join(parts)
