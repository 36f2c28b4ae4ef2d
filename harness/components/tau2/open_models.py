"""Opens the models of a simulation's participants at their own endpoints; sends no request."""

from __future__ import annotations

from harness.core.chat import ChatModel
from harness.core.chat_config import ChatConfig
from harness.tau2.runs.run import Models
from harness.tau2.settings import Participants


def open_model(chat: ChatConfig, them: Participants, *, attempts: int | None = None) -> ChatModel:
    """One of them. Raises SpecError for a name, an address or a key that is missing."""
    from harness.engines.chat.open import open_named
    from harness.engines.chat.retry import Backoff

    return open_named(
        chat,
        timeout_s=them.request_timeout_s,
        backoff=Backoff(attempts=attempts or them.attempts),
        transport=them.transport,
    )


def open_models(them: Participants) -> Models:
    """Every participant's, the agent's included. Raises SpecError."""
    others = {part: open_model(chat, them) for part, chat in them.others().items()}
    return Models(
        agent=open_model(them.agent, them),
        user=others.get("user"),
        judge=others.get("nl_judge"),
        reviewer=others.get("reviewer"),
    )
