"""Checks of the `serve` settings that need no server, so that errors are reported before anything is measured."""

from __future__ import annotations

import os
from pathlib import Path

from harness.core.credential import shown_variable
from harness.core.errors import SpecError
from harness.core.serving import ServeSettings
from harness.engines.vllm.command import check_args
from harness.engines.vllm.executable import find_executable


def check_settings(settings: ServeSettings) -> Path | None:
    """The command that will be started, None for a server of the user's own. Raises SpecError."""
    key_of(settings)
    if settings.url is not None:
        return None
    check_args(settings.args)
    return find_executable(settings.command)


def key_of(settings: ServeSettings) -> str | None:
    """The server's key, from the variable that the settings name. Raises SpecError where that is not set."""
    if settings.api_key_env is None:
        return None
    key = os.environ.get(settings.api_key_env)
    if not key:
        raise SpecError(
            f"serve.api_key_env names a variable, {shown_variable(settings.api_key_env)}, which is not set; export the key there"
        )
    return key
