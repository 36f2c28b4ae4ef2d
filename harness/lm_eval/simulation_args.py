"""The model arguments of lm-eval that say who plays in simulations: endpoints, and how many requests in flight.

Opening calls nobody. Knows no game.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.core.errors import SpecError
from harness.core.players import Cast, Players
from harness.core.sampling import unfit_sampling
from harness.engines.chat.open import ChatSettings, open_chat
from harness.engines.chat.retry import Backoff
from harness.lm_eval.simulated_agent import Agent, served_agent

OF_TASKS = (
    "num_trials",
    "split",
    "task_ids",
    "tasks_file",
    "data",
    "solo",
    "greeting",
    "upstream",
    "source",
    "retrieval",
    "seed",
)
"""Model arguments that are the tasks' alone: lm-eval tells tasks all model arguments, and models those of the tasks."""
SAMPLING: Mapping[str, Any] = {"temperature": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationArgs:
    """Arguments as lm-eval parsed them. A part without a model is played by nobody; but the agent, without one, is the checkpoint."""

    agent_llm: str | None = None
    agent_api_base: str | None = None
    agent_api_key_env: str | None = None
    agent_llm_args: str | Mapping[str, Any] | None = None
    user_llm: str | None = None
    user_api_base: str | None = None
    user_api_key_env: str | None = None
    user_llm_args: str | Mapping[str, Any] | None = None
    nl_judge: str | None = None
    judge_api_base: str | None = None
    judge_api_key_env: str | None = None
    reviewer: str | None = None
    reviewer_api_base: str | None = None
    reviewer_api_key_env: str | None = None
    max_concurrency: int = 64
    request_timeout: float = 300.0
    attempts: int = 6
    simulations: str | None = None
    vllm: str | None = None
    pretrained: Any = field(default=None, repr=False)
    adapter: str | None = None

    @classmethod
    def taken_from(cls, arguments: dict[str, Any], *, pretrained: Any, adapter: str | None = None) -> SimulationArgs:
        """Takes its own and the tasks' out of a model's arguments. Raises SpecError for one that cannot be."""
        for name in OF_TASKS:
            arguments.pop(name, None)
        own = {one.name for one in fields(cls)} - {"pretrained", "adapter"}
        made = cls(
            **{name: arguments.pop(name) for name in list(arguments) if name in own},
            pretrained=pretrained,
            adapter=adapter,
        )
        for name in ("max_concurrency", "attempts"):
            value = getattr(made, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SpecError(f"{name} is {value!r}; give a number from 1 on")
        return made

    @contextlib.contextmanager
    def players(self) -> Iterator[Players]:
        """Who plays, until the block is left. Raises SpecError where nobody can be the agent."""
        user, judge, critic = (
            self._settings("user", self.user_llm),
            self._settings("judge", self.nl_judge),
            self._settings("reviewer", self.reviewer),
        )
        with contextlib.ExitStack() as stack:
            agent = stack.enter_context(self._agent())

            def opened() -> Cast:
                return Cast(
                    agent=agent.open(),
                    user=None if user is None else open_chat(user),
                    judge=None if judge is None else open_chat(judge),
                    reviewer=None if critic is None else open_chat(critic),
                )

            yield Players(
                open=opened,
                identity={
                    "agent": agent.identity,
                    "user": None if user is None else {"model": user.model, "arguments": dict(user.arguments)},
                    "nl_judge": self.nl_judge,
                    "reviewer": self.reviewer,
                },
                max_concurrency=self.max_concurrency,
                out=None if self.simulations is None else Path(self.simulations),
            )

    def _agent(self) -> contextlib.AbstractContextManager[Agent]:
        """The model that was named, else the checkpoint behind a server of our own."""
        named = self._settings("agent", self.agent_llm)
        if named is not None:
            identity = {"model": named.model, "arguments": dict(named.arguments)}
            return contextlib.nullcontext(Agent(lambda: open_chat(named), identity))
        return served_agent(
            self.pretrained,
            adapter=self.adapter,
            command=self.vllm,
            arguments=_sampling("agent_llm_args", self.agent_llm_args),
            timeout_s=self.request_timeout,
            attempts=self.attempts,
        )

    def _settings(self, part: str, model: str | None) -> ChatSettings | None:
        if model is None:
            return None
        variable = getattr(self, f"{part}_api_key_env")
        if variable is not None and not os.environ.get(variable):
            raise SpecError(f"the environment variable {variable} is not set; export the key in it")
        return ChatSettings(
            model=model,
            api_base=getattr(self, f"{part}_api_base"),
            api_key=None if variable is None else os.environ[variable],
            arguments=_sampling(f"{part}_llm_args", getattr(self, f"{part}_llm_args", None)),
            timeout_s=self.request_timeout,
            backoff=Backoff(attempts=self.attempts),
        )


def _sampling(name: str, value: str | Mapping[str, Any] | None) -> Mapping[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else SAMPLING if value is None else dict(value)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{name} {value!r} is not valid JSON ({error})") from error
    if not isinstance(found, Mapping):
        raise SpecError(f"{name} must be a JSON object of sampling options")
    if wrong := unfit_sampling(found):
        raise SpecError(f"{name} {wrong}")
    return found
