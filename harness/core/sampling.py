"""Which options a user may send with every request: sampling is theirs, the request itself is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OF_THE_REQUEST = ("model", "messages", "tools", "tool_choice", "stream")


def unfit_sampling(arguments: Mapping[str, Any]) -> str | None:
    """What is wrong with options: one that would ask another model, or another question, or that is a secret."""
    if "api_key" in arguments:
        return (
            "holds an api_key, which would end in histories and files; export it in a variable and name that "
            "(api_key_env; --agent-api-key-env, --user-api-key-env)"
        )
    taken = [name for name in OF_THE_REQUEST if name in arguments]
    return f"holds {', '.join(taken)}, which a request has already; leave it out" if taken else None
