"""Tests never reach a network nor the user's caches, and use one thread each; how they are shared among workers."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

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

for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:  # as in `pytest &` and under nohup; children would never hear them
        signal.signal(_number, _usual)

RAY = {
    "tests/run/executors/test_cluster.py",
    "tests/run/executors/test_every_kind.py",
    "tests/mixing/test_collect_cluster.py",
}

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    """Marks of our own; and before workers start, the server that forks children for all of them."""
    config.addinivalue_line("markers", "needs_vllm: runs against a real vLLM server")
    config.addinivalue_line(
        "markers", "slow: takes long (a training, kills again and again, whole programs); `make test` leaves it out"
    )
    config.addinivalue_line("markers", "long: takes minutes; skipped, by name, unless HARNESS_LONG=1")
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        from forked import ensure_server

        ensure_server()


def pytest_itemcollected(item: pytest.Item) -> None:
    """What needs a vLLM is slow, and skipped, by name, where there is none; what takes minutes, where nobody asked for it."""
    from vllm_here import vllm_environment

    if item.get_closest_marker("long"):
        item.add_marker(pytest.mark.slow)
        if os.environ.get("HARNESS_LONG") != "1":
            item.add_marker(pytest.mark.skip(reason=f"{item.name}: it takes minutes; HARNESS_LONG=1 runs it"))
    if item.get_closest_marker("needs_vllm"):
        item.add_marker(pytest.mark.slow)
        if vllm_environment() is None:
            words = "no vLLM here; `make vllm` installs its CPU build, $HARNESS_VLLM names another"
            item.add_marker(pytest.mark.skip(reason=f"{item.name}: {words}"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, vLLM's before all, so that no long one is left for the end."""
    ranks: dict[Path, int] = {}
    for item in items:
        rank = 0 if item.get_closest_marker("needs_vllm") else 1 if item.get_closest_marker("slow") else 2
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker runs whole files, and one worker all of the folder in which real servers are started, since two would share the cores,
    and all that start a Ray cluster: they look for actors on the whole machine, and kill some.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder, _, _ = file.rpartition("/")
            if file in RAY:
                return "ray"
            return folder if folder == "tests/engines/vllm" else file

    return ByFile(config, log)
