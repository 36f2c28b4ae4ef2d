"""A tracker that cannot be used is refused at once; one that fails later costs one warning, and gets what it lacks afterwards."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import forked
import pytest
from samples import feed
from track.trackers_here import need, points

from harness.core.errors import SpecError
from harness.core.vector import RewardVector
from harness.track.tracking import Tracking

VECTORS = list(feed(*({"code": -2.0 - i} for i in range(4))))


def tracking(wanted: Sequence[str], folder: Path | None, said: list[str], patience_s: float = 30.0) -> Tracking:
    return Tracking(wanted, folder=folder, tell=said.append, patience_s=patience_s)


def see_all(made: Tracking, vectors: Sequence[RewardVector] = VECTORS) -> None:
    for one in vectors:
        made.see([one])
    made.close()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["wnadb"], "there is no tracker 'wnadb' (did you mean wandb?)"),
        (["aim"], "there are mlflow, tensorboard, trackio, wandb"),
        (["tensorboard:"], "nothing stands after the colon"),
        (["tensorboard", "tensorboard:logs"], "named twice"),
    ],
)
def test_what_is_no_tracker_is_refused_by_name(wanted: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        tracking(wanted, tmp_path, [])
    assert words in str(refused.value)


def test_tensorboard_without_a_folder_is_refused() -> None:
    need("tensorboard")
    with pytest.raises(SpecError, match="tensorboard:FOLDER names one"):
        tracking(["tensorboard"], None, [])


def test_a_package_that_is_not_there_is_refused_with_what_to_install(tmp_path: Path) -> None:
    from harness.track.tracker import package

    with pytest.raises(SpecError, match="--track x: its package is not installed; pip install x-lib"):
        package("no_such_tracker_package", tracker="x", install="x-lib")


def test_nothing_is_imported_or_written_without_a_tracker(tmp_path: Path) -> None:
    see_all(tracking([], tmp_path, []))
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_cannot_write_costs_one_warning_and_gets_everything_later(tmp_path: Path) -> None:
    need("tensorboard")
    said: list[str] = []
    blocked = tmp_path / "tensorboard"
    blocked.write_text("a file where the folder should be")
    see_all(tracking(["tensorboard"], tmp_path, said))
    (warning,) = said
    assert warning.startswith("tracker tensorboard failed at step 0 of a (")
    assert "the same command run again writes what it lacks" in warning
    blocked.unlink()
    see_all(tracking(["tensorboard"], tmp_path, said))
    assert len(said) == 1
    assert sorted(points("tensorboard", tmp_path, "reward/code")) == [(10 * i, -2.0 - i) for i in range(4)]


def test_one_that_fails_does_not_keep_the_others_from_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("tensorboard")
    need("mlflow")
    said: list[str] = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secretword@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    see_all(tracking(["mlflow", "tensorboard"], tmp_path, said))
    (warning,) = said
    assert warning.startswith("tracker mlflow failed")
    assert "secretword" not in warning
    assert len(points("tensorboard", tmp_path, "reward/code")) == 4


def test_a_tracker_that_hangs_is_waited_for_so_long_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("mlflow")
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        made = tracking(["mlflow"], tmp_path, said, patience_s=0.5)
        clock = time.monotonic()
        see_all(made)
        assert time.monotonic() - clock < 15
    assert [words for words in said if "tracker mlflow did not finish within" in words] == said
    assert len(said) == 1


def test_vectors_after_close_continue_the_same_run(tmp_path: Path) -> None:
    need("tensorboard")
    made = tracking(["tensorboard"], tmp_path, [])
    see_all(made, VECTORS[:2])
    see_all(made, VECTORS[2:])
    assert len(points("tensorboard", tmp_path, "reward/code")) == 4
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_folder_that_was_moved_continues_its_run_and_a_new_one_in_its_place_does_not(tmp_path: Path) -> None:
    need("tensorboard")
    logs = tmp_path / "logs"
    for name in ("run", "moved"):
        (tmp_path / name).mkdir()
    see_all(tracking([f"tensorboard:{logs}"], tmp_path / "run", []))
    (tmp_path / "run" / "track.json").replace(tmp_path / "moved" / "track.json")
    said: list[str] = []
    see_all(tracking([f"tensorboard:{logs}"], tmp_path / "run", said))
    (warning,) = said
    assert "is of another run" in warning


def test_a_torn_record_is_written_again(tmp_path: Path) -> None:
    need("tensorboard")
    see_all(tracking(["tensorboard"], tmp_path, []))
    (events,) = (tmp_path / "tensorboard" / "a").iterdir()
    events.write_bytes(events.read_bytes()[:-40])
    see_all(tracking(["tensorboard"], tmp_path, []))
    assert sorted(points("tensorboard", tmp_path, "reward/code")) == [(10 * i, -2.0 - i) for i in range(4)]


def test_a_step_that_came_in_late_stands_in_its_order(tmp_path: Path) -> None:
    need("tensorboard")
    see_all(tracking(["tensorboard"], tmp_path, []), [VECTORS[0], VECTORS[3], VECTORS[1]])
    assert points("tensorboard", tmp_path, "reward/code") == [(0, -2.0), (10, -3.0), (30, -5.0)]


@pytest.mark.parametrize("trajectory", ["../up", "a/b", "mix[alpha=0.5]", "", "x" * 300, "ünï"])
def test_a_trajectory_of_any_name_has_one_folder_below_the_run(trajectory: str, tmp_path: Path) -> None:
    need("tensorboard")
    from harness.track.tensorboard import folder_name

    folder = tmp_path / folder_name(trajectory)
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve()


def test_no_two_metrics_have_one_key_at_mlflow() -> None:
    from harness.track.mlflow import metric_key

    names = ["mixture/a+b", "mixture/a_b", "mixture/a*b", "mixture/../x", "mixture/", "mixture/a/b", "mixture/ä"]
    keys = [metric_key(name) for name in names]
    assert len(set(keys)) == len(keys)
    assert metric_key("reward/code.v1-x") == "reward/code.v1-x"


@pytest.mark.parametrize(("variable", "value"), [("WANDB_MODE", "bogus"), ("WANDB_BASE_URL", "no address")])
def test_what_a_trackers_package_makes_of_a_bad_environment_is_one_line(
    variable: str, value: str, tmp_path: Path
) -> None:
    need("wandb")
    # A process of its own: wandb reads the environment once.
    code = "import sys; from pathlib import Path; from harness.track.kinds import trackers_of; trackers_of(['wandb'], folder=Path(sys.argv[1]))"
    done = forked.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, variable: value})
    last = done.stderr.strip().splitlines()[-1]
    assert "SpecError: --track wandb: " in last and "; set right what it reads from the environment" in last
    assert done.returncode == 1


def test_a_package_that_fails_in_any_way_while_it_is_imported_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.track.tracker import package

    (tmp_path / "broken_tracker_package.py").write_text("raise RuntimeError('numpy is too new')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SpecError, match=r"--track x: its package does not import \(numpy is too new\)"):
        package("broken_tracker_package", tracker="x", install="x-lib")


def test_a_vector_that_makes_no_row_costs_a_warning_and_the_others_are_written(tmp_path: Path) -> None:
    need("tensorboard")
    said: list[str] = []
    broken = VECTORS[1].model_copy(update={"components": [VECTORS[1].components[0].model_copy(update={"raw": "?"})]})
    see_all(tracking(["tensorboard"], tmp_path, said), [VECTORS[0], broken, *VECTORS[2:]])
    (warning,) = said
    assert "failed at step 10 of a (" in warning
    assert [step for step, _ in sorted(points("tensorboard", tmp_path, "reward/code"))] == [0, 20, 30]
