"""Whatever a worker or what it measures does, the driver hears of it: nothing hangs, and nothing else is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import pytest

from harness.checkpoints.identify import Identified
from harness.core.checkpoint import Checkpoint
from harness.core.component import BaseComponent, ComponentConfig, Engine, Outcome
from harness.core.errors import EngineError, SpecError
from harness.core.measurement import Measurement
from harness.core.vector import CheckpointRecord
from harness.run.executors.executor import Began, Ended, Event, Job
from harness.run.executors.local import Measuring
from harness.run.executors.pool import PATIENCE, Pool, Worker, WorkerDied
from harness.run.executors.processes import Processes, _Handle
from harness.run.pipeline import run
from harness.spec.prepared import Prepared, Row, prepare
from harness.spec.spec import parse_spec


def make_field(folder: Path) -> Path:
    path = folder / "field.jsonl"
    path.write_text("".join(f'{{"q": "a {i}", "r": " is {i * i}"}}\n' for i in range(4)))
    return path


def make(folder: Path) -> Prepared:
    return prepare(parse_spec({"components": [{"name": "a", "kind": "logprob", "field": str(make_field(folder))}]}))


class Odd(ComponentConfig):
    kind: Literal["odd"] = "odd"
    does: str
    marks: str


class OddComponent(BaseComponent):
    """Needs no model, and does what components should not do."""

    Config = Odd
    metric = "length"
    n_items = 1

    def __init__(self, config: Odd) -> None:
        self.config = config
        self.definition = {"odd": config.does}
        self.task: dict[str, Any] = {}

    def measure(self, subject: Any, progress: Any, scratch: Path) -> Outcome:
        marks = Path(self.config.marks)
        items: dict[str, Any] = {}
        if self.config.does == "fork":
            if (child := os.fork()) == 0:
                time.sleep(600)
                os._exit(0)
            (marks / f"child-{child}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.does == "leave":
            os._exit(7)
        if self.config.does == "unsendable":
            items = {"id": ["a"], "value": [lambda: 1]}
        print("a component that talks")
        progress.advance(items=1, tokens=0)
        measurement = Measurement(metric="length", raw=1.0, stderr=None, n_items=1, n_scored=1, status="ok")
        return Outcome(measurement=measurement, engine=Engine(name="none"), items=items)


def with_odd(prepared: Prepared, marks: Path, *does: str) -> Prepared:
    """Components that do odd things, before those of the spec."""
    ones = [OddComponent(Odd(name=one, does=one, marks=str(marks), weight=0)) for one in does]
    row = prepared.rows[0]
    definitions = {**row.definitions, **{one.config.name: one.config.name for one in ones}}
    rows = (Row(components=(*ones, *row.components), definitions=definitions, variables={}),)
    spec = prepared.spec.model_copy(update={"components": [*(o.config for o in ones), *prepared.spec.components]})
    return replace(prepared, rows=rows, spec=spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny

    folder = tmp_path_factory.mktemp("processes")
    tiny.save(folder / "mix" / "checkpoint-1", tiny.llama(1))
    return folder


def checkpoints(folder: Path) -> list[Any]:
    from harness.checkpoints.find import find_checkpoints

    return find_checkpoints([str(folder / "mix")])


@pytest.mark.slow
def test_what_a_component_does_to_its_worker_is_a_cause_of_its_own(folder: Path, tmp_path: Path) -> None:
    prepared = with_odd(make(folder), tmp_path, "unsendable", "fine")
    (vector,) = run(
        prepared, checkpoints(folder), out=tmp_path / "out", executor=Processes(Measuring(prepared), 1)
    ).feed
    unsendable, fine, *others = vector.components
    assert unsendable.status == "failed" and "cannot be sent by a worker" in (unsendable.reason or "")
    assert fine.raw == 1.0 and all(one.status == "ok" for one in others)


@pytest.mark.slow
@pytest.mark.parametrize(("does", "how"), [("fork", "signal 9"), ("leave", "exit code 7")])
def test_a_death_is_heard_of_while_a_child_of_the_worker_lives(
    folder: Path, tmp_path: Path, does: str, how: str
) -> None:
    prepared = with_odd(make(folder), tmp_path, does)
    try:
        (vector,) = run(
            prepared, checkpoints(folder), out=tmp_path / "out", executor=Processes(Measuring(prepared), 1)
        ).feed
        children = [int(path.name.removeprefix("child-")) for path in tmp_path.glob("child-*")]
        assert all(Path(f"/proc/{child}").exists() for child in children)
    finally:
        for path in tmp_path.glob("child-*"):
            os.kill(int(path.name.removeprefix("child-")), signal.SIGKILL)
    first = vector.components[0]
    assert first.reason == f"its worker died 3 times (the last by {how})"


@pytest.mark.slow
def test_workers_end_without_a_word(folder: Path, tmp_path: Path) -> None:
    command = [
        "score",
        str(folder / "mix"),
        "--field",
        str(make_field(folder)),
        "--out",
        str(tmp_path),
        "--workers",
        "1",
    ]
    done = subprocess.run([sys.executable, "-m", "harness", *command, "--quiet"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_worker_that_dies_in_the_middle_of_a_message_is_dead(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall((1000).to_bytes(4, "big") + b"half of it")
    theirs.close()
    process = subprocess.Popen([sys.executable, "-c", "import os; os._exit(3)"])
    worker = Worker(0, _Handle(process, Connection(ours.detach())), ready=True)
    with pytest.raises(WorkerDied, match="exit code 3"):
        Processes(Measuring(make(folder)), 1).receive(worker)


def test_workers_that_never_come_up_end_the_run_with_their_cause(folder: Path, tmp_path: Path) -> None:
    class StillBorn(Processes):
        n_processes = 0

        def started(self, number: int) -> Worker:
            worker = super().started(number)
            self.n_processes += 1
            worker.handle.process.kill()
            return worker

    prepared = make(folder)
    executor = StillBorn(Measuring(prepared), 2)
    with pytest.raises(EngineError, match=r"worker 0 ended 3 times before it took a job, the last by signal 9"):
        run(prepared, checkpoints(folder), out=tmp_path, executor=executor)
    assert executor.n_processes == 6
    assert not (tmp_path / "rewards.jsonl").exists(), "no checkpoint is to blame"


def test_a_component_that_no_worker_can_import_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text(f"from {__name__} import *\nclass Here(OddComponent): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import elsewhere  # type: ignore[import-not-found]

    sys.path.remove(str(tmp_path))
    prepared = with_odd(make(folder), tmp_path, "fine")
    here = elsewhere.Here(prepared.rows[0].components[0].config)
    row = replace(prepared.rows[0], components=(here, *prepared.rows[0].components[1:]))
    prepared = replace(prepared, rows=(row,))
    with pytest.raises(SpecError, match=r"cannot be read by a worker.*No module named 'elsewhere'"):
        run(prepared, checkpoints(folder), out=tmp_path / "out", executor=Processes(Measuring(prepared), 1))


class InMemory(Pool):
    """Workers that end every job at once, one event after the other."""

    name = "memory"
    nobody = "nobody"

    def started(self, number: int) -> Worker:
        return Worker(number, deque(), ready=True)

    def send(self, worker: Worker, job: Job) -> None:
        worker.handle.append(Ended(job.number))

    def ready(self, workers: Sequence[Worker], timeout_s: float | None) -> list[Worker]:
        return list(workers)[:1]

    def receive(self, worker: Worker) -> Event | None:
        event: Event = worker.handle.popleft()
        return event

    def end(self, workers: Sequence[Worker]) -> None:
        """Nothing is left."""


def test_a_worker_takes_jobs_of_its_base_first_and_lets_another_wait_for_so_many(folder: Path, tmp_path: Path) -> None:
    pool = InMemory(Measuring(make(folder)), 1)
    pool.start(tmp_path, "")
    checkpoint = Checkpoint(folder=tmp_path, label="x", trajectory="x", step=0, kind="full")
    job = Job(
        number=0,
        checkpoint=checkpoint,
        record=CheckpointRecord(path="x", kind="full"),
        identified=Identified(checkpoint, "f", {}),
        missing=((0, "a"),),
    )
    began: list[int] = []
    for number in range(20):
        pool.submit(replace(job, number=number, affinity="other" if number == 1 else "same"))
        while number >= 2:  # one in hand, and two to choose from
            event = pool.event()
            if isinstance(event, Began):
                began.append(event.number)
            if isinstance(event, Ended):
                break
    assert began[:7] == [0, 2, 3, 4, 5, 1, 6] and began.index(1) == PATIENCE + 1
