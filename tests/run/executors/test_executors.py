"""Whoever measures, and in whatever order, the feed is that of one process; what dies costs the jobs in flight, which are done again."""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import tiny

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.open import Opener
from harness.cli import run as cli
from harness.core.component import BaseComponent, ComponentConfig, Engine, Outcome, SilentProgress
from harness.core.errors import SpecError, StateError
from harness.core.measurement import Measurement
from harness.run.executors.executor import Ended, Event, Job
from harness.run.executors.local import Local, Measuring
from harness.run.executors.processes import Processes
from harness.run.observer import Observer
from harness.run.pipeline import run
from harness.spec.prepared import Prepared, Row, prepare
from harness.spec.spec import parse_spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trajectories of full checkpoints with a common first one, adapters of a base, and a broken folder."""
    folder = tiny.save_sweep(tmp_path_factory.mktemp("executors"))
    base = tiny.save(folder / "base", tiny.llama(1))
    for step in (1, 2):
        tiny.save_adapter(folder / "lora" / f"checkpoint-{step}", tiny.lora(tiny.llama(1), step), base)
    return folder


def make(folder: Path) -> Prepared:
    rows = [{"q": f"a {i}", "r": f" is {i * i} and {i % 3}"} for i in range(9)]
    path = folder / "field.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    components = [{"name": name, "kind": "logprob", "field": str(path), "limit": n} for name, n in (("a", 9), ("b", 5))]
    return prepare(parse_spec({"components": [{**components[0], "role": "source"}, components[1]]}))


def every(folder: Path) -> list[Any]:
    return find_checkpoints([str(folder / name) for name in ("mix-a", "mix-b", "lora")])


def feed(out: Path) -> list[dict[str, Any]]:
    """Every vector but for when it was measured and how long that took."""
    vectors = [json.loads(line) for line in (out / "rewards.jsonl").read_text().splitlines()]
    for vector in vectors:
        vector["provenance"] |= {"started": "", "seconds": 0.0, "executor": ""}
    return vectors


def made_by(out: Path) -> set[tuple[str | None, str | None]]:
    """Hosts and executors, as the vectors have them."""
    provenances = [json.loads(line)["provenance"] for line in (out / "rewards.jsonl").read_text().splitlines()]
    return {(one["host"], one["executor"]) for one in provenances}


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("alone")
    run(make(folder), every(folder), out=out)
    assert made_by(out) == {(platform.node(), "local"), (None, None)}
    return feed(out)


class Unruly:
    """Measures in this process, and tells events of several jobs in any order; some jobs are lost."""

    name = "unruly"
    capacity = 5

    def __init__(self, prepared: Prepared, seed: int, *, lost: frozenset[int] = frozenset()) -> None:
        self._local = Local(prepared, Opener(prepared.spec.opening), SilentProgress())
        self._dice = random.Random(seed)
        self._lost = lost
        self._jobs: dict[int, deque[Event]] = {}
        self.submitted: list[Job] = []

    def start(self, folder: Path, products: str) -> None:
        self._local.start(folder, products)

    def submit(self, job: Job) -> None:
        self.submitted.append(job)
        lost = deque([Ended(job.number, lost="its worker died 3 times")])
        self._jobs[job.number] = lost if job.number in self._lost else deque(self._local.measured(job))

    def event(self, timeout_s: float | None = None) -> Event | None:
        if not self._jobs or (timeout_s == 0 and self._dice.random() < 0.5):
            return None
        number = self._dice.choice(sorted(self._jobs))
        event = self._jobs[number].popleft()
        if not self._jobs[number]:
            del self._jobs[number]
        return event

    def close(self) -> None:
        self._jobs.clear()


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_results_never_shows(folder: Path, alone: list[dict[str, Any]], tmp_path: Path, seed: int) -> None:
    prepared = make(folder)
    run(prepared, every(folder), out=tmp_path, executor=Unruly(prepared, seed))
    assert feed(tmp_path) == alone


def test_equal_weights_are_in_flight_once(folder: Path, tmp_path: Path) -> None:
    prepared = make(folder)
    executor = Unruly(prepared, 0)
    run(prepared, every(folder), out=tmp_path, executor=executor)
    keys = [job.record.fingerprint for job in executor.submitted]
    assert len(keys) == len(set(keys)) == 7
    lines = [json.loads(line)["key"] for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 14


def test_a_job_that_is_lost_is_a_failed_measurement_with_its_cause_and_is_made_up_for(
    folder: Path, alone: list[dict[str, Any]], tmp_path: Path
) -> None:
    prepared = make(folder)
    run(prepared, every(folder), out=tmp_path, executor=Unruly(prepared, 1, lost=frozenset({1, 3})))
    failed = [v for v in feed(tmp_path) if v["components"][0]["status"] == "failed"]
    assert {v["components"][0]["reason"] for v in failed} == {
        "its worker died 3 times",
        *(v["components"][0]["reason"] for v in alone if v["status"] == "failed"),
    }
    run(prepared, every(folder), out=tmp_path, executor=Unruly(prepared, 2), retry_failed=True)
    assert feed(tmp_path) == alone


def test_two_processes_write_the_same_feed(folder: Path, alone: list[dict[str, Any]], tmp_path: Path) -> None:
    prepared = make(folder)
    told: list[int] = []
    seen: dict[str, list[str]] = {}

    class Counting(Observer):
        def advance(self, *, items: int, tokens: int) -> None:
            told.append(items)

        def working(self, worker: str, checkpoint: Any, *, items: int) -> None:
            seen.setdefault(worker, []).append("idle" if checkpoint is None else f"{checkpoint.label} {items}")

    run(prepared, every(folder), out=tmp_path, executor=Processes(Measuring(prepared), 2), observer=Counting())
    assert feed(tmp_path) == alone
    assert made_by(tmp_path) == {(platform.node(), "processes"), (None, None)}, "nothing made the broken one's"
    assert sum(told) == 14 * len(every(folder)), "progress ends where it said it would"
    assert set(seen) == {"worker 0", "worker 1"} and sum(map(len, seen.values())) == 2 * 7
    assert all(names[1::2] == ["idle"] * (len(names) // 2) for names in seen.values())
    assert all(name.endswith(" 14") for names in seen.values() for name in names[::2])


def test_a_worker_that_is_killed_before_it_begins_is_replaced(
    folder: Path, alone: list[dict[str, Any]], tmp_path: Path
) -> None:
    class StillBorn(Processes):
        n_killed = 0

        def started(self, number: int) -> Any:
            worker = super().started(number)
            if self.n_killed < 2:
                self.n_killed += 1
                worker.handle.process.kill()
                worker.handle.process.wait()
            return worker

    prepared = make(folder)
    found = every(folder)[:2]
    run(prepared, found, out=tmp_path, executor=StillBorn(Measuring(prepared), 1))
    assert [v["vector"] for v in feed(tmp_path)] == [v["vector"] for v in alone[:2]]


class Deadly(ComponentConfig):
    kind: Literal["deadly"] = "deadly"
    at: str
    times: int


class DeadlyComponent(BaseComponent):
    """Kills the process that measures one of the checkpoints, some times."""

    Config = Deadly
    metric = "length"
    n_items = 1

    def __init__(self, config: Deadly) -> None:
        self.config = config
        self.definition = {"deadly": config.at}
        self.task: dict[str, Any] = {}

    def measure(self, subject: Any, progress: Any, scratch: Path) -> Outcome:
        marks = Path(self.config.at)
        marks.mkdir(exist_ok=True)
        if "llama" in subject.model().config.model_type and os.environ.get("OMP_NUM_THREADS"):
            n = len(list(marks.iterdir()))
            if n < self.config.times:
                (marks / str(n)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        progress.advance(items=1, tokens=0)
        measurement = Measurement(metric="length", raw=1.0, stderr=None, n_items=1, n_scored=1, status="ok")
        return Outcome(measurement=measurement, engine=Engine(name="none"))


def deadly(prepared: Prepared, marks: Path, times: int) -> Prepared:
    """The spec's components and one that kills."""
    from dataclasses import replace

    one = DeadlyComponent(Deadly(name="deadly", at=str(marks), times=times, weight=0))
    row = prepared.rows[0]
    rows = (Row(components=(*row.components, one), definitions={**row.definitions, "deadly": "d"}, variables={}),)
    spec = prepared.spec.model_copy(update={"components": [*prepared.spec.components, one.config]})
    return replace(prepared, rows=rows, spec=spec)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "status"), [(2, "ok"), (3, "failed")])
def test_a_worker_that_dies_is_replaced_and_what_kills_three_is_given_up(
    folder: Path, alone: list[dict[str, Any]], tmp_path: Path, times: int, status: str
) -> None:
    prepared = deadly(make(folder), tmp_path / "marks", times)
    found = find_checkpoints([str(folder / "mix-a")])[:1]
    run(prepared, found, out=tmp_path / "out", executor=Processes(Measuring(prepared), 1))
    (vector,) = feed(tmp_path / "out")
    *others, last = vector["components"]
    assert [one["raw"] for one in others] == [one["raw"] for one in alone[0]["components"]]
    assert last["status"] == status
    if status == "failed":
        assert last["reason"] == "its worker died 3 times (the last by signal 9)"
    lines = (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()
    assert len(lines) == (3 if status == "ok" else 2), "what was measured before a death is not measured again"


DRIVER = """
import sys, pickle
from pathlib import Path
sys.path[:0] = {paths!r}
from test_executors import every, make
from harness.run.executors.local import Measuring
from harness.run.executors.processes import Processes
from harness.run.pipeline import run
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
prepared = make(folder)
run(prepared, every(folder), out=out, executor=Processes(Measuring(prepared), 2))
"""


def wait_until(true: Any) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_driver_that_ends_leaves_no_worker_and_the_next_goes_on(
    folder: Path, alone: list[dict[str, Any]], tmp_path: Path, how: signal.Signals
) -> None:
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(paths=paths), str(folder), str(tmp_path)], stderr=subprocess.DEVNULL
    )
    ledger = tmp_path / "ledger.jsonl"
    wait_until(lambda: ledger.exists() and len(ledger.read_text().splitlines()) > 0)
    assert tiny.workers_of(tmp_path)
    process.send_signal(how)
    process.wait()
    wait_until(lambda: not tiny.workers_of(tmp_path))
    prepared = make(folder)
    run(prepared, every(folder), out=tmp_path, executor=Processes(Measuring(prepared), 2))
    assert feed(tmp_path) == alone


def test_an_error_of_the_whole_run_ends_it(folder: Path, tmp_path: Path) -> None:
    prepared = make(folder)

    class Full(Unruly):
        def event(self, timeout_s: float | None = None) -> Event | None:
            found = super().event(timeout_s)
            return Ended(found.number, error=StateError("disk full")) if isinstance(found, Ended) else found

    with pytest.raises(StateError, match="disk full"):
        run(prepared, every(folder), out=tmp_path, executor=Full(prepared, 0))
    run(prepared, every(folder), out=tmp_path)


@pytest.mark.parametrize(
    ("n", "changes", "words"),
    [(0, {}, "workers is 0"), (2, {"device": "cuda:1"}, "one GPU, and workers have one each")],
)
def test_what_workers_cannot_be_is_said(n: int, changes: dict[str, Any], words: str, folder: Path) -> None:
    from dataclasses import replace

    prepared = make(folder)
    prepared = replace(prepared, spec=prepared.spec.model_copy(update=changes))
    with pytest.raises(SpecError, match=words):
        Processes(Measuring(prepared), n)


@pytest.mark.slow
def test_the_command_takes_workers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["score", str(folder / "mix-a"), "--field", str(folder / "field.jsonl"), "--quiet"]
    assert cli([*command, "--out", str(tmp_path / "one")]) == 0
    assert cli([*command, "--out", str(tmp_path / "two"), "--workers", "2"]) == 0
    assert feed(tmp_path / "one") == feed(tmp_path / "two")


@pytest.mark.slow
def test_a_stream_is_handled_while_nothing_new_comes(folder: Path, tmp_path: Path) -> None:
    """The vectors of a training that goes on are there before the next checkpoint is."""
    prepared = make(folder)
    first, second, *_ = find_checkpoints([str(folder / "mix-a")])

    def stream() -> Iterator[Any]:
        yield first
        end = time.monotonic() + 60
        while not (tmp_path / "rewards.jsonl").exists() and time.monotonic() < end:
            yield None
            time.sleep(0.05)
        assert len(feed(tmp_path)) == 1
        yield second

    run(prepared, stream(), out=tmp_path, executor=Processes(Measuring(prepared), 1))
    assert len(feed(tmp_path)) == 2


def test_a_spec_that_measured_here_can_be_sent_to_workers(folder: Path, tmp_path: Path) -> None:
    rows = [{"question": f"{n} + 1?", "choices": [str(n), str(n + 1)], "answer": n % 2} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.yaml").write_text(
        "task: own_choices\ndataset_path: json\noutput_type: multiple_choice\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\n"
        'doc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: "{{answer}}"\n'
        "metric_list: [{metric: acc}]\n"
    )
    component = {"name": "own", "kind": "lm_eval", "task": "own_choices", "include_path": [str(tmp_path)]}
    prepared = prepare(parse_spec({"components": [component]}))
    found = find_checkpoints([str(folder / "mix-a")])[:2]
    run(prepared, found, out=tmp_path / "here")
    run(prepared, found, out=tmp_path / "there", executor=Processes(Measuring(prepared), 1))
    assert feed(tmp_path / "here") == feed(tmp_path / "there")
    assert all(vector["status"] == "ok" for vector in feed(tmp_path / "there"))
