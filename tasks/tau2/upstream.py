"""Upstream's own package, tau2-bench's `tau2`, where it is installed: found, distinguished from its namesake, imported once.

The only module that imports it. Importing takes seconds (it imports litellm) and reads TAU2_DATA_DIR.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.core.errors import DataError

REPOSITORY = "git+https://github.com/sierra-research/tau2-bench"


@cache
def is_installed() -> bool:
    """Whether the `tau2` here is tau2-bench. PyPI's package of that name, about magnetic relaxation, is not."""
    return any((place / "domains").is_dir() for place in _places())


def _places() -> list[Path]:
    spec = importlib.util.find_spec("tau2")
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]


def unrelated() -> str:
    """A remark where the installed package named tau2 is not tau2-bench; else an empty string."""
    if is_installed() or importlib.util.find_spec("tau2") is None:
        return ""
    return "; the tau2 that is installed here is PyPI's package of that name, about magnetic relaxation, not tau2-bench"


def name_and_version() -> str:
    """The `source` in results: name and version of the package."""
    try:
        return f"tau2 {version('tau2')}"
    except PackageNotFoundError:
        return "tau2 of unknown version"


@cache
def registry() -> Any:
    """Upstream's table of domains and tasks. Raises DataError where the package is absent, broken or without data."""
    if not is_installed():
        raise DataError(f"tau2-bench's own package is not installed; run: pip install {REPOSITORY}{unrelated()}")
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise litellm makes a request when imported
    try:
        importlib.import_module("loguru").logger.disable("tau2")
        found = importlib.import_module("tau2.registry").registry
        domains = list(found.get_domains())
    except Exception as error:
        raise DataError(
            f"tau2-bench's package does not import ({type(error).__name__}: {error}); "
            f"install it again: pip install {REPOSITORY}"
        ) from error
    if not domains:
        raise DataError(f"tau2-bench's package registered no domains; install it again: pip install {REPOSITORY}")
    return found


def data_folder() -> Path:
    """Upstream's data/tau2. Raises DataError where it is not there: an install that is not editable has none."""
    registry()
    folder = Path(importlib.import_module("tau2.utils.utils").DATA_DIR) / "tau2"
    if not folder.is_dir():
        raise DataError(
            f"tau2-bench's package finds no data in {folder.parent}; clone the repository and set TAU2_DATA_DIR to its "
            "folder `data`"
        )
    return folder


def agent_instructions(*, solo: bool) -> str:
    """The instructions of upstream's agent. Raises DataError."""
    registry()
    module = importlib.import_module("tau2.agent.llm_agent")
    if not solo:
        return str(module.AGENT_INSTRUCTION)
    done = module.LLMSoloAgent
    return str(module.AGENT_SOLO_INSTRUCTION).format(
        stop_function_name=done.STOP_FUNCTION_NAME, stop_token=done.STOP_TOKEN
    )


def setup_of(task: Any) -> dict[str, Any]:
    """The arguments that upstream passes to a domain's constructor for one of its tasks, where the constructor has them."""
    allowlist = importlib.import_module("tau2.runner.build")._derive_read_log_allowlist
    return {"task": task, "read_log_allowlist": allowlist(task)}
