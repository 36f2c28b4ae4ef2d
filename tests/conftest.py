"""Tests never reach a network nor the user's caches, use one thread each, and stand in groups that one worker runs in turn."""

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
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    """Marks of our own; and before workers start, the server that forks children for all of them."""
    config.addinivalue_line("markers", "needs_vllm: runs against a real vLLM server")
    config.addinivalue_line(
        "markers", "slow: takes long (a training, kills again and again, whole programs); `make test` leaves it out"
    )
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        from forked import ensure_server

        ensure_server()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a vLLM is slow, and skipped, by name, where there is none. A worker runs whole files, and one worker all of vLLM's
    (two servers at once would share the cores); the longest groups begin, so that none is left at the end."""
    from vllm_here import vllm_environment

    absent = vllm_environment() is None
    first = {}
    for item in items:
        group = str(item.path)
        if item.get_closest_marker("needs_vllm"):
            group = "vllm"
            item.add_marker(pytest.mark.slow)
            if absent:
                words = "no vLLM here; `make vllm` installs its CPU build, $HARNESS_VLLM names another"
                item.add_marker(pytest.mark.skip(reason=f"{item.name}: {words}"))
        item.add_marker(pytest.mark.xdist_group(group))
        rank = 0 if group == "vllm" else 1 if item.get_closest_marker("slow") else 2
        first[group] = min(rank, first.get(group, rank))
    items.sort(key=lambda item: first[item.get_closest_marker("xdist_group").args[0]])
