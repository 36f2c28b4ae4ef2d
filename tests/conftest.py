"""Tests never reach a network nor the user's caches, and share the tiny checkpoints of tiny.py."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

HOME = tempfile.mkdtemp(prefix="harness-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

os.environ["HF_HOME"] = HOME
os.environ["HARNESS_CACHE"] = HOME
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    """Marks of our own."""
    config.addinivalue_line("markers", "needs_vllm: runs against a real vLLM server")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a vLLM where there is none, by name."""
    from vllm_here import vllm_environment

    if vllm_environment() is None:
        for item in items:
            if item.get_closest_marker("needs_vllm"):
                words = "no vLLM here; `make vllm` installs its CPU build, $HARNESS_VLLM names another"
                item.add_marker(pytest.mark.skip(reason=f"{item.name}: {words}"))
