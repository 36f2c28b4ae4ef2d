"""Where a key is kept: in an environment variable that settings name, and in no address. Pure text; reads no environment."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USUAL = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


def check_address(value: str) -> str:
    """An endpoint's address, without credentials. Raises ValueError, which does not show it: it is written into files."""
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError("is no address; it is like http://127.0.0.1:8000/v1") from None
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError(
            "holds a user name, a password or a query, which would end in files; give the address alone, and name the variable "
            "that holds the key (`api_key_env`)"
        )
    return value


def check_variable(value: str) -> str:
    """The name of an environment variable. Raises ValueError, which does not show what may be the key itself."""
    if not _NAME.fullmatch(value):
        raise ValueError(
            "is no name of an environment variable (not shown: it may be a key); export the key in one, and name that"
        )
    return value


def shown_variable(name: str) -> str:
    """A variable's name for a message; one that does not look like a name may be the key, and is not shown."""
    return name if _USUAL.fullmatch(name) else "with a name that is not shown (it may be the key itself)"


Address = Annotated[str, AfterValidator(check_address)]
Variable = Annotated[str, AfterValidator(check_variable)]
