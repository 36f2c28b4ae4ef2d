"""Proxies trained on a real Ray cluster of two nodes on this machine: the feed is that of one process, through deaths of both kinds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proxies import Deadly, along, command, lines, problem
from ray_nodes import FEW, two_nodes

from harness.cli import run as cli
from harness.core.errors import EngineError, SpecError
from harness.mixing.collect import collect
from harness.run.executors.cluster import ClusterOptions

ray = pytest.importorskip("ray", reason="ray is not installed")

pytestmark = pytest.mark.slow
NONE = ClusterOptions(gpus=0.0)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with two_nodes() as made:
        yield made


def n_lines(out: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in out.glob("parts/*/run/rewards.jsonl"))


def test_the_command_gives_the_feed_of_one_process(nodes: Any, tmp_path: Path) -> None:
    problem(tmp_path)
    assert cli(command(tmp_path, tmp_path / "one")) == 0
    assert cli(command(tmp_path, tmp_path / "two", workers="ray")) == 0
    assert lines(tmp_path / "two") == lines(tmp_path / "one")
    assert not list((tmp_path / "two").glob(".seen-*"))


@pytest.mark.long  # tests/run/executors kill nodes, test_collect.py workers
def test_a_worker_and_a_node_that_go_cost_a_step(nodes: Any, tmp_path: Path) -> None:
    problem(tmp_path)
    given = along(tmp_path, Deadly(None), names=("a", "b", "c", "d"))
    collect(**given, out=tmp_path / "one")
    extra = nodes.add_node(**FEW)
    nodes.wait_for_nodes()
    gone: list[str] = []

    def end() -> None:
        while n_lines(tmp_path / "two") < 3:
            time.sleep(0.01)
        found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if path.read_bytes().startswith(b"ray::Actor")]
        os.kill(int(found[0].parent.name), signal.SIGKILL)
        gone.append("worker")
        nodes.remove_node(extra, allow_graceful=False)
        gone.append("node")

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    collect(**given, out=tmp_path / "two", workers=NONE)
    thread.join(60)
    assert gone == ["worker", "node"]
    assert lines(tmp_path / "two") == lines(tmp_path / "one")


@pytest.mark.long
def test_deaths_count_against_a_step_and_not_against_a_long_trajectory(nodes: Any, tmp_path: Path) -> None:
    problem(tmp_path)
    (tmp_path / "marks").mkdir()
    collect(**along(tmp_path, Deadly(None), names=("a",)), out=tmp_path / "one")
    collect(**along(tmp_path, Deadly(tmp_path / "marks"), names=("a",)), out=tmp_path / "two", workers=NONE)
    assert len(list((tmp_path / "marks").iterdir())) == 4
    assert lines(tmp_path / "two") == lines(tmp_path / "one")
    with pytest.raises(EngineError, match="trajectory a: its worker died 3 times"):
        collect(**along(tmp_path, Deadly(tmp_path / "marks", always=2), names=("a",)), out=tmp_path / "never", workers=NONE)  # fmt: skip


def test_more_than_any_node_has_is_said_at_once(nodes: Any, tmp_path: Path) -> None:
    problem(tmp_path)
    with pytest.raises(SpecError, match="no room for a worker of 64 CPUs and 0 GPUs"):
        collect(**along(tmp_path, Deadly(None)), out=tmp_path / "out", workers=ClusterOptions(gpus=0.0, cpus=64))
