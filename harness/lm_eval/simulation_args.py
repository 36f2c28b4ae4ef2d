"""The model arguments of lm-eval for simulations: endpoints of the participants, and how many requests in flight.

Opening a model sends no request. Knows nothing of what is simulated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.core.chat import ChatModel
from harness.core.chat_config import ChatConfig
from harness.engines.chat.open import open_named
from harness.engines.chat.retry import Backoff
from harness.lm_eval.players import Players
from harness.lm_eval.simulated_agent import Agent, served_agent
from harness.tau2.flat import keys, named, nested
from harness.tau2.runs.run import Models
from harness.tau2.settings import CHECKPOINT, Participants, participants_of

OF_MODELS = {name for name, key in keys().items() if key.split(".")[0] in Participants.model_fields} - {
    "agent_instructions",
    "transport",
}
"""Model arguments about the participants. The other keys are for the tasks alone; lm-eval passes all of them to both."""
IN_FLIGHT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationArgs:
    """The participants by lm-eval's arguments. A role without a model is left empty, except the agent: without `agent_llm` it is the
    checkpoint itself, served with vLLM.
    """

    participants: Participants
    simulations: str | None = None
    vllm: str | None = None
    pretrained: Any = field(default=None, repr=False)
    adapter: str | None = None

    @classmethod
    def taken_from(cls, arguments: dict[str, Any], *, pretrained: Any, adapter: str | None = None) -> SimulationArgs:
        """Remove its own arguments and the tasks' from a model's `arguments`. Raises SpecError for a bad value."""
        taken = {name: arguments.pop(name) for name in list(arguments) if name in keys() and name != "domain"}
        with named(str):
            return cls(
                participants=participants_of(
                    nested({name: value for name, value in taken.items() if name in OF_MODELS})
                ),
                simulations=arguments.pop("simulations", None),
                vllm=arguments.pop("vllm", None),
                pretrained=pretrained,
                adapter=adapter,
            )

    @property
    def serves_checkpoint(self) -> bool:
        """Whether the agent is the checkpoint, on a managed server."""
        return self.participants.agent.model == CHECKPOINT

    @contextlib.contextmanager
    def players(self) -> Iterator[Players]:
        """The players, for the length of the block. Raises SpecError where the agent cannot be served, or a key is not set."""
        them = self.participants
        with contextlib.ExitStack() as stack:
            agent = stack.enter_context(self._agent())
            parts = {part: partial(self._opened, chat) for part, chat in them.others().items()}
            with named(str):
                for chat in them.others().values():
                    chat.key()

            def opened() -> Models:
                others = {part: make() for part, make in parts.items()}
                return Models(
                    agent=agent.open(),
                    user=others.get("user"),
                    judge=others.get("nl_judge"),
                    reviewer=others.get("reviewer"),
                )

            yield Players(
                open=opened,
                identity={**them.identity(), "agent": agent.identity},
                max_concurrency=them.max_concurrency or IN_FLIGHT,
                out=None if self.simulations is None else Path(self.simulations),
            )

    def _agent(self) -> contextlib.AbstractContextManager[Agent]:
        """The named model, else the checkpoint on a managed server."""
        agent = self.participants.agent
        if not self.serves_checkpoint:
            with named(str):
                agent.key()
            return contextlib.nullcontext(Agent(partial(self._opened, agent), agent.identity()))
        return served_agent(
            self.pretrained,
            adapter=self.adapter,
            command=self.vllm,
            arguments=agent.args,
            timeout_s=self.participants.request_timeout_s,
            attempts=self.participants.attempts,
        )

    def _opened(self, chat: ChatConfig) -> ChatModel:
        them = self.participants
        with named(str):
            return open_named(chat, timeout_s=them.request_timeout_s, backoff=Backoff(attempts=them.attempts))
