"""An Inspect model that sends its requests to one of our endpoints. Imported only when Inspect is needed.

An error message never becomes an answer: for a conversation too long for the checkpoint the answer is empty with the stop reason
`model_length`, so that agents may shorten it, and is marked; every other failure raises, and is recorded by sample.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inspect_ai.log._samples import sample_active
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    modelapi,
)
from inspect_ai.model._model_output import ChatCompletionChoice
from inspect_ai.model._openai import (
    chat_choices_from_openai,
    messages_to_openai,
    model_output_from_openai,
    openai_chat_tool_choice,
    openai_chat_tools,
    openai_completion_params,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from harness.components.inspect.connection import Connection
from harness.core.chat import ContextOverflow, EndpointError
from harness.core.errors import HarnessError

OVERFLOW = "harness_overflow"
"""Key in the metadata of an empty answer: why it is empty."""
Key = tuple[str, int]
"""A sample's id as text, and its epoch."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Failures of endpoints, by sample; shared by all models of a run.

    `unanswered`: the failure in place of an answer. Never removed: a task that catches the error and goes on has a meaningless
    score. `delayed`: the last failed attempt at a request that succeeded later.
    """

    unanswered: dict[Key, str] = field(default_factory=dict)
    delayed: dict[Key, str] = field(default_factory=dict)


class NoAnswerError(RuntimeError):
    """An endpoint gave no answer. Inspect does not retry it, because our client has."""


@modelapi(name="harness")
class EndpointAPI(ModelAPI):
    """The checkpoint that is measured, or a model of a role, for which an overflow counts as no answer."""

    def __init__(self, model_name: str, **_: Any) -> None:
        super().__init__(model_name)
        self.qualified_model_name = f"harness/{model_name}"
        self.connection: Connection | None = None
        self.noted = Noted()
        self.plays_role = False
        self.n_parallel = 64
        self.arguments: Mapping[str, Any] = {}

    def connect(
        self,
        connection: Connection,
        noted: Noted,
        *,
        n_parallel: int,
        arguments: Mapping[str, Any],
        plays_role: bool,
    ) -> None:
        """Set the connection, where failures are recorded, and `arguments` of every request, which override a task's."""
        self.arguments = arguments
        self.connection, self.noted, self.n_parallel = connection, noted, n_parallel
        self.plays_role = plays_role

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002 - Inspect's name
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """One answer. Raises NoAnswerError."""
        assert self.connection is not None
        from openai.types.chat import ChatCompletion

        params = openai_completion_params(self.model_name, config, tools=bool(tools))
        body: dict[str, Any] = {**params, **params.pop("extra_body", {})}
        body.pop("extra_body", None)
        if config.top_k is not None:
            body["top_k"] = config.top_k
        body |= self.arguments
        body["messages"] = [_as_said(one) for one in await messages_to_openai(input)]
        if tools:
            body["tools"] = openai_chat_tools(tools)
            body["tool_choice"] = openai_chat_tool_choice(tool_choice)
        sample = sample_active()
        key = None if sample is None else (str(sample.sample.id), sample.epoch)
        failures: list[str] = []
        try:
            found = await self.connection.ask(body, failures)
        except asyncio.CancelledError:  # by a limit of the sample's time, which failing attempts used up
            if key is not None and failures:
                self.noted.unanswered[key] = f"{self.model_name}: {failures[-1]}"
            raise
        except ContextOverflow as error:
            if not self.plays_role:
                return _too_long(self.model_name, str(error))
            raise self._no_answer(key, f"the conversation is too long for it: {error}") from error
        except (EndpointError, HarnessError) as error:
            raise self._no_answer(key, str(error)) from error
        if key is not None and failures:
            self.noted.delayed[key] = f"{self.model_name}: {failures[-1]}"
        completion = ChatCompletion.construct(**found)
        return model_output_from_openai(completion, chat_choices_from_openai(completion, tools))

    def _no_answer(self, key: Key | None, why: str) -> NoAnswerError:
        if key is not None:
            self.noted.unanswered[key] = f"{self.model_name}: {why}"
        return NoAnswerError(why)

    def should_retry(self, ex: Exception) -> bool:
        """Never: the connection retries itself."""
        return False

    def max_connections(self) -> int:
        """Requests in flight."""
        return self.n_parallel

    def connection_key(self) -> str:
        """Requests are limited per model."""
        return self.model_name

    def tools_required(self) -> bool:
        """Tools need not be sent again with a conversation that has calls in it."""
        return False

    async def aclose(self) -> None:
        """Nothing: `run` closes the connections that it opened."""


def _as_said(message: Any) -> Any:
    """An assistant message as the model wrote it: without the newline by which Inspect joins reasoning and content."""
    content = message.get("content")
    if message["role"] != "assistant" or "reasoning_content" not in message or not isinstance(content, str):
        return message
    said = content.removeprefix("\n")
    return {**message, "content": said or (None if message.get("tool_calls") else "")}


def _too_long(model: str, why: str) -> ModelOutput:
    choice = ChatCompletionChoice(
        message=ChatMessageAssistant(content="", model=model, source="generate"), stop_reason="model_length"
    )
    return ModelOutput(model=model, choices=[choice], metadata={OVERFLOW: why[:300]})
