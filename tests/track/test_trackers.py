"""Every tracker, really running offline: each vector once, at its step, whatever happened in between."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from samples import feed, vector
from track.trackers_here import ENVIRONMENT, NAMES, need, points, project_of, words

from harness.core.vector import RewardVector
from harness.track.row import row_of
from harness.track.tracking import Tracking

CHILD = """
import sys
from pathlib import Path
from harness.feed.lines import read_vectors
from harness.track.tracking import Tracking
tracking = Tracking([sys.argv[1]], folder=Path(sys.argv[2]), tell=lambda words: None)
vectors = read_vectors(Path(sys.argv[2]) / "rewards.jsonl")
print("ready", flush=True)
tracking.see(vectors[:8])
for vector in vectors[8:]:
    tracking.see([vector])
tracking.close()
"""


@pytest.fixture(params=NAMES)
def tracker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    need(name)
    for key, value in ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    return name


def track(name: str, folder: Path, vectors: Iterable[RewardVector]) -> list[str]:
    """One process's worth of tracking; what it warned of."""
    said: list[str] = []
    tracking = Tracking([words(name, folder)], folder=folder, tell=said.append)
    for one in vectors:
        tracking.see([one])
    tracking.close()
    return said


def exactly(name: str, folder: Path, vectors: Sequence[RewardVector], trajectory: str = "a") -> None:
    """Every number of every vector is there, once, and nothing else."""
    expected: dict[str, list[tuple[int, float]]] = {}
    for row in map(row_of, vectors):
        for metric, value in row.metrics.items():
            expected.setdefault(metric, []).append((row.step, value))
    for metric, wanted in expected.items():
        found = sorted(points(name, folder, metric, trajectory=trajectory))
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted], metric


def run_folder(folder: Path, vectors: Sequence[RewardVector]) -> Path:
    folder.mkdir()
    (folder / "rewards.jsonl").write_text("".join(one.to_line() + "\n" for one in vectors))
    return folder


def own_environment() -> dict[str, str]:
    """For a child that shares no wandb service with this process, as a command in a shell does not."""
    return {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}


VECTORS = list(feed(*({"code": -2.0 - i / 7, "prose": -3.0 + i / 9} for i in range(12)), mixture={"x": 1, "y": 2}))


def test_every_vector_arrives_with_its_errors_at_its_step(tracker: str, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", VECTORS)
    assert track(tracker, folder, VECTORS) == []
    exactly(tracker, folder, VECTORS)


def test_a_run_that_goes_on_continues_its_tracker_run_and_writes_nothing_twice(tracker: str, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", VECTORS)
    track(tracker, folder, VECTORS[:5])
    assert track(tracker, folder, VECTORS) == []
    assert track(tracker, folder, VECTORS) == []
    exactly(tracker, folder, VECTORS)


def test_each_trajectory_is_a_tracker_run_of_its_own(tracker: str, tmp_path: Path) -> None:
    other = list(feed({"code": -5.0}, {"code": -4.0}, trajectory="b[alpha=1]"))
    folder = run_folder(tmp_path / "run", [*VECTORS, *other])
    assert track(tracker, folder, [VECTORS[0], *other, *VECTORS[1:]]) == []
    exactly(tracker, folder, VECTORS)
    exactly(tracker, folder, other, "b[alpha=1]")


def test_a_failed_component_leaves_a_gap(tracker: str, tmp_path: Path) -> None:
    steps = [vector({"code": -2.0}, step=0), vector({"code": None}, step=1), vector({"code": -1.0}, step=2)]
    folder = run_folder(tmp_path / "run", steps)
    assert track(tracker, folder, steps) == []
    assert sorted(points(tracker, folder, "reward/code")) == [(0, -2.0), (2, -1.0)]
    assert sorted(points(tracker, folder, "failed")) == [(0, 0.0), (1, 1.0), (2, 0.0)]


def test_a_vector_measured_again_is_written_again_and_the_others_are_not(tracker: str, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", VECTORS)
    track(tracker, folder, VECTORS)
    again = vector({"code": -9.0, "prose": -9.0}, step=20)
    track(tracker, folder, [*VECTORS[:2], again, *VECTORS[3:]])
    found = points(tracker, folder, "reward/code")
    assert (20, -9.0) in found
    assert sorted(step for step, _ in found if step != 20) == [one.step for one in VECTORS if one.step != 20]
    assert len(found) == len(VECTORS) + (tracker != "tensorboard")  # the others append


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_no_vector_is_twice_and_none_missing(tracker: str, tmp_path: Path) -> None:
    vectors = list(feed(*({"code": -2.0 - i / 7, "prose": -3.0 + i / 9} for i in range(40))))
    folder = run_folder(tmp_path / "run", vectors)
    if tracker == "mlflow":  # its file store, killed while it makes a run, is left with one that it cannot read itself
        track(tracker, folder, vectors[:1])
    for delay_s in (0.0, 0.05, 0.3, 0.8, 1.5):
        command = [sys.executable, "-c", CHILD, words(tracker, folder), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=own_environment()) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(delay_s)
            child.send_signal(signal.SIGKILL)
    assert track(tracker, folder, vectors) == []
    exactly(tracker, folder, vectors)


def test_the_report_is_an_artifact_where_the_tracker_has_such(tracker: str, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", VECTORS)
    track(tracker, folder, VECTORS)
    pages = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes()[:15] == b"<!DOCTYPE html>"]
    found: dict[str, Callable[[], bool]] = {
        "mlflow": lambda: [page.name for page in pages] == ["report.html"],
        "tensorboard": lambda: not pages,
        "trackio": lambda: _trackio_has_report(folder),
        "wandb": lambda: b"report.html" in next(folder.glob("wandb/offline-run-*/run-*.wandb")).read_bytes(),
    }
    assert found[tracker]()


def _trackio_has_report(folder: Path) -> bool:
    import trackio
    from track.trackers_here import project_of

    database = trackio.SQLiteStorage.get_project_db_path(project_of(folder))
    return b"report-" in Path(database).read_bytes() or b"report-" in Path(f"{database}-wal").read_bytes()


def test_nothing_of_the_machine_or_of_its_keys_goes_to_a_tracker(
    tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-1f2e3d4c5b6a7988")
    folder = run_folder(tmp_path / "run", VECTORS)
    track(tracker, folder, VECTORS)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"sk-1f2e3d4c5b6a7988" not in path.read_bytes(), path


def test_a_tracker_prints_nothing_on_standard_output(tracker: str, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", VECTORS)
    command = [sys.executable, "-c", CHILD, words(tracker, folder), str(folder)]
    done = subprocess.run(command, capture_output=True, check=True, env=own_environment())
    assert done.stdout == b"ready\n"
    exactly(tracker, folder, VECTORS)


def test_a_row_of_a_spec_that_varies_is_a_run_of_its_own(tracker: str, tmp_path: Path) -> None:
    rows = [
        one.model_copy(update={"trajectory": f"a[alpha={alpha}]", "variables": {"alpha": alpha}})
        for one in VECTORS[:2]
        for alpha in (0, 0.5)
    ]
    folder = run_folder(tmp_path / "run", rows)
    assert track(tracker, folder, rows) == []
    for alpha in (0, 0.5):
        trajectory = f"a[alpha={alpha}]"
        exactly(tracker, folder, [row for row in rows if row.trajectory == trajectory], trajectory)
    if tracker == "mlflow":
        client = need("mlflow").MlflowClient()
        runs = client.search_runs([client.get_experiment_by_name(project_of(folder)).experiment_id])
        assert sorted(run.data.params["variables.alpha"] for run in runs) == ["0", "0.5"]


def test_wandb_that_is_not_logged_in_is_an_error_at_a_terminal_too_and_no_question(tmp_path: Path) -> None:
    need("wandb")
    code = "from harness.track.wandb import WandbTracker; from pathlib import Path; WandbTracker(place=None, folder=Path('.'))"
    ours, theirs = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    environment = {**kept, "HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "TERM": "xterm"}
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while select.select([ours], [], [], 30)[0]:  # one that asks is silent from then on
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the child closed its side
                break
        assert child.wait(timeout=10) == 1 and b"Enter your choice" not in shown
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    assert b"SpecError: --track wandb: not logged in; run `wandb login`" in shown
