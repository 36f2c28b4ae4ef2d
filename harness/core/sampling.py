"""Which options a user may send with every request: sampling is theirs, the request itself is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

OF_THE_REQUEST = ("model", "messages", "tools", "tool_choice", "stream")


SECRET = ("api_key", "apikey", "authorization", "password", "secret", "access_token", "extra_headers", "headers")
"""Parts of option names whose values are no sampling, and may be secret."""


def is_secret_name(name: str) -> bool:
    """Whether an option of this name may hold a secret."""
    return any(part in name.lower().replace("-", "_") for part in SECRET)


def _names(value: Any) -> Iterator[str]:
    """Every name in options, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)


def unfit_sampling(arguments: Mapping[str, Any]) -> str | None:
    """What is wrong with options: one that would ask another model, or another question, or that is a secret."""
    if any(is_secret_name(name) for name in _names(arguments)):
        return (
            "holds an api_key or a header, which would end in histories and files; export it in a variable and name that "
            "(`api_key_env`)"
        )
    taken = [name for name in OF_THE_REQUEST if name in arguments]
    return f"holds {', '.join(taken)}, which a request has already; leave it out" if taken else None
