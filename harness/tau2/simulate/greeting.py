"""Whether an endpoint refused a conversation because it begins with the agent's greeting, and what to do then."""

from __future__ import annotations

import re

from harness.core.errors import SpecError

SIGNS = re.compile(
    r"alternat|must (?:start|begin) with (?:a )?user|first message must be|(?:start|begin)s? with (?:an )?assistant",
    re.IGNORECASE,
)
"""Parts of the messages by which chat templates and servers refuse an order of roles."""


def refuse_greeting(said: str) -> None:
    """Raises SpecError if an endpoint's error before the agent's first answer is about the order of roles."""
    if SIGNS.search(said):
        raise SpecError(
            "the agent's chat template refuses a conversation that begins with the agent's own greeting "
            f"({said}); set `greeting` to hide, which does not show it to the agent "
            "(and another --out, where this one has simulations already)"
        )
