"""On a real Ray cluster of two nodes on this machine the feed is that of one process, through deaths of workers and nodes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from ray_nodes import FEW, two_nodes

from harness.checkpoints.find import find_checkpoints
from harness.cli import run as cli
from harness.core.errors import EngineError, SpecError
from harness.run.executors.cluster import Cluster, ClusterOptions, Hello, versions
from harness.run.executors.local import Measuring
from harness.run.observer import Observer
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec

ray = pytest.importorskip("ray", reason="ray is not installed")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with two_nodes() as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster")
    for step in range(4):
        tiny.save(folder / "mix" / f"checkpoint-{step}", tiny.llama(step))
    base = tiny.save(folder / "base", tiny.llama(1))
    tiny.save_adapter(folder / "lora" / "checkpoint-1", tiny.lora(tiny.llama(1), 1), base)
    (folder / "field.jsonl").write_text("".join(f'{{"q": "a {i}", "r": " is {i * i}"}}\n' for i in range(9)))
    return folder


def spec(folder: Path) -> Any:
    return prepare(parse_spec({"components": [{"name": "a", "kind": "logprob", "field": str(folder / "field.jsonl")}]}))


def every(folder: Path) -> list[Any]:
    return find_checkpoints([str(folder / "mix"), str(folder / "lora")])


def feed(out: Path) -> list[str]:
    vectors = [json.loads(line) for line in (out / "rewards.jsonl").read_text().splitlines()]
    for vector in vectors:
        vector["provenance"] |= {"started": "", "seconds": 0.0, "executor": ""}
    return [json.dumps(vector, sort_keys=True) for vector in vectors]


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("alone")
    run(spec(folder), every(folder), out=out)
    return feed(out)


def test_the_feed_is_that_of_one_process(nodes: Any, folder: Path, alone: list[str], tmp_path: Path) -> None:
    prepared = spec(folder)
    executor = Cluster(Measuring(prepared), ClusterOptions())
    assert executor.n == 2
    run(prepared, every(folder), out=tmp_path, executor=executor)
    assert feed(tmp_path) == alone
    assert not list(tmp_path.glob(".seen-*"))


def actors() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Actor"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_worker_that_is_killed_is_replaced(nodes: Any, folder: Path, alone: list[str], tmp_path: Path) -> None:
    killed: list[int] = []

    class Killing(Observer):
        def finished(self, vector: Any, *, new: bool) -> None:
            if not killed:
                killed.extend(actors()[:1])
                os.kill(killed[0], signal.SIGKILL)

    prepared = spec(folder)
    run(
        prepared,
        every(folder),
        out=tmp_path,
        executor=Cluster(Measuring(prepared), ClusterOptions()),
        observer=Killing(),
    )
    assert killed and feed(tmp_path) == alone


def test_a_node_that_goes_costs_nothing_but_time(nodes: Any, folder: Path, alone: list[str], tmp_path: Path) -> None:
    extra = nodes.add_node(**FEW)
    nodes.wait_for_nodes()
    removed: list[bool] = []

    class Removing(Observer):
        def finished(self, vector: Any, *, new: bool) -> None:
            if not removed:
                removed.append(True)
                nodes.remove_node(extra, allow_graceful=False)

    prepared = spec(folder)
    run(
        prepared,
        every(folder),
        out=tmp_path,
        executor=Cluster(Measuring(prepared), ClusterOptions()),
        observer=Removing(),
    )
    assert removed and feed(tmp_path) == alone
    end = time.monotonic() + 60
    while actors() and time.monotonic() < end:
        time.sleep(0.2)
    assert not actors()


@pytest.mark.parametrize(
    ("other", "words"),
    [({"versions": {**versions(), "torch": "1.0"}}, r"torch 1\.0, here "), ({"sees": False}, "does not see .*")],
    ids=["versions", "run folder"],
)
def test_a_node_that_is_not_like_here_is_left_out_by_name(
    nodes: Any, folder: Path, tmp_path: Path, other: dict[str, Any], words: str
) -> None:
    prepared = spec(folder)

    class Elsewhere(Cluster):
        def _welcome(self, worker: Any, hello: Hello) -> None:
            super()._welcome(worker, hello._replace(**other))

    executor = Elsewhere(Measuring(prepared), ClusterOptions())
    with pytest.raises(EngineError, match=rf"no node of the cluster can take a worker \(.*{words}"):
        run(prepared, every(folder), out=tmp_path, executor=executor)


def test_a_worker_that_no_node_can_take_any_more_is_not_waited_for(nodes: Any, folder: Path, tmp_path: Path) -> None:
    class Elsewhere(Cluster):
        """A third worker waits for room, and dies when both nodes were left out: its successor may go to neither."""

        def _welcome(self, worker: Any, hello: Hello) -> None:
            super()._welcome(worker, hello._replace(versions={**versions(), "torch": "1.0"}))
            if len(self._unfit) == 2:
                for waiting in self.workers:
                    ray.kill(waiting.handle.actor)

    prepared = spec(folder)
    executor = Elsewhere(Measuring(prepared), ClusterOptions())
    executor.n = 3
    with pytest.raises(EngineError, match=r"no node of the cluster can take a worker \(.*torch 1\.0, here "):
        run(prepared, every(folder), out=tmp_path, executor=executor)


def test_a_node_that_was_left_out_gets_no_worker_again(
    nodes: Any, folder: Path, alone: list[str], tmp_path: Path
) -> None:
    class OneUnfit(Cluster):
        unfit = ""
        killed = False

        def _welcome(self, worker: Any, hello: Hello) -> None:
            self.unfit = self.unfit or hello.node
            other = {**versions(), "torch": "1.0"} if hello.node == self.unfit else versions()
            super()._welcome(worker, hello._replace(versions=other))
            if worker.ready and self.left_out and not self.killed:
                self.killed = True
                ray.kill(worker.handle.actor)

    prepared = spec(folder)
    executor = OneUnfit(Measuring(prepared), ClusterOptions())
    run(prepared, every(folder), out=tmp_path, executor=executor)
    assert executor.killed and len(executor.left_out) == 1
    assert feed(tmp_path) == alone


def test_workers_that_never_come_up_end_the_run(nodes: Any, folder: Path, tmp_path: Path) -> None:
    class StillBorn(Cluster):
        def started(self, number: int) -> Any:
            worker = super().started(number)
            ray.kill(worker.handle.actor)
            return worker

    prepared = spec(folder)
    with pytest.raises(EngineError, match="ended 3 times before it took a job"):
        run(prepared, every(folder), out=tmp_path, executor=StillBorn(Measuring(prepared), ClusterOptions()))


def test_paths_are_relative_to_where_the_driver_is(
    nodes: Any, folder: Path, alone: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    prepared = spec(Path())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".seen-of-a-driver-that-was-killed").touch()
    run(
        prepared,
        find_checkpoints(["mix"]),
        out=tmp_path / "out",
        executor=Cluster(Measuring(prepared), ClusterOptions()),
    )
    assert [json.loads(line)["vector"] for line in feed(tmp_path / "out")] == [
        json.loads(line)["vector"] for line in alone if "mix/" in line
    ]
    assert not list((tmp_path / "out").glob(".seen-*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ClusterOptions(cpus=2), "no room for a worker of 2 CPUs and 0 GPUs on any node"),
        (ClusterOptions(gpus=0.5), "no room for a worker of 1 CPUs and 0.5 GPUs on any node"),
        (ClusterOptions(gpus=1.5), "a whole number, or a part of one GPU"),
    ],
)
def test_what_no_node_has_is_said_at_once(nodes: Any, folder: Path, options: ClusterOptions, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Cluster(Measuring(spec(folder)), options)


def test_a_cluster_without_room_or_that_is_not_there_is_said(nodes: Any, folder: Path) -> None:
    with pytest.raises(SpecError, match="has no room for a worker"):
        Cluster(Measuring(spec(folder)), ClusterOptions(cpus=64))


def test_options_of_ray_go_with_ray(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["score", str(folder / "mix"), "--field", str(folder / "field.jsonl"), "--out", str(tmp_path), "--quiet"]
    assert cli([*command, "--workers", "2", "--worker-gpus", "1"]) == SpecError.exit_code
    assert "go with --workers ray" in capsys.readouterr().err
    assert cli([*command, "--workers", "many"]) == SpecError.exit_code
