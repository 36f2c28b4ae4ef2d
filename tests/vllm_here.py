"""The vLLM that tests run against: $HARNESS_VLLM, else what `make vllm` installed. Tests of a real server skip, by name, without one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.core.serving import ServeSettings

INSTALLED = Path(__file__).resolve().parents[1] / ".venv-vllm"


def vllm_environment() -> Path | None:
    """The environment or executable to test with; None where there is none."""
    given = os.environ.get("HARNESS_VLLM")
    if given:
        return Path(given)
    return INSTALLED if (INSTALLED / ".ready").exists() else None


needs_vllm = pytest.mark.needs_vllm
"""For tests of a real server; conftest.py skips them, each by its name, where there is none."""
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_CI_ENV": "1"}
"""Little memory for keys and values, no compilation."""


def cpu_settings(*args: str, **changes: Any) -> ServeSettings:
    """How tests serve a checkpoint on a machine without a GPU."""
    given: dict[str, Any] = {
        "command": str(vllm_environment()),
        "args": ["--enforce-eager", *args],
        "env": CPU,
        "startup_timeout_s": 300,
    }
    return ServeSettings(**{**given, **changes})
