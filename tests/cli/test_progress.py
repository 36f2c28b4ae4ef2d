"""The picture of a run that goes on: one bar, and one for each worker where there are several."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli.progress import RichObserver
from harness.core.checkpoint import Checkpoint
from harness.core.vector import RewardVector
from harness.feed.feed import read_feed

GOLDEN = Path(__file__).parents[1] / "golden"


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        label=f"mix-{step}", folder=Path(f"/runs/mix/checkpoint-{step}"), trajectory="mix", step=step, kind="full"
    )


@pytest.fixture(scope="module")
def vectors() -> dict[str, RewardVector]:
    return {vector.status: vector for vector in read_feed(GOLDEN)}


class Picture(RichObserver):
    """Shows what would stand on the screen now."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), width=110, force_terminal=True))

    def lines(self) -> list[str]:
        console = Console(width=110, color_system=None)
        with console.capture() as found:
            console.print(self._bar.get_renderable())
        return [" ".join(line.split()) for line in found.get().splitlines() if line.strip()]


@pytest.fixture
def picture() -> Iterator[Picture]:
    with Picture() as made:
        yield made


def test_nothing_is_drawn_before_a_run_begins(picture: Picture) -> None:
    """What keeps it from beginning is an error, without a bar above it."""
    drawn: io.StringIO = picture._bar.console.file  # type: ignore[assignment]
    assert drawn.getvalue() == ""
    picture.starting(checkpoints=1, vectors=1, items=10)
    assert "reading" in drawn.getvalue()


def test_each_worker_has_a_line_with_what_it_does_and_has_done(
    picture: Picture, vectors: dict[str, RewardVector]
) -> None:
    picture.starting(checkpoints=4, vectors=4, items=40)
    picture.working("worker 0", checkpoint(1), items=10)
    picture.working("worker 1", checkpoint(2), items=10)
    picture.worked("worker 0", items=10, tokens=500)
    picture.worked("worker 1", items=4, tokens=200)
    picture.working("worker 0", None, items=0)
    picture.finished(vectors["failed"], new=True)
    picture.working("worker 0", checkpoint(3), items=10)
    picture.worked("worker 0", items=3, tokens=100)
    every, first, second = picture.lines()
    assert every.startswith("all ") and " 17/40 items" in every and "tokens/s, 1 failed" in every
    assert first.startswith("worker 0: mix step 3 ") and " 3/10 items 1 done" in first
    assert second.startswith("worker 1: mix step 2 ") and " 4/10 items 0 done" in second


def test_a_worker_without_work_is_idle(picture: Picture) -> None:
    picture.starting(checkpoints=1, vectors=1, items=10)
    picture.working("node-a 0", checkpoint(1), items=10)
    picture.working("node-a 0", None, items=0)
    assert picture.lines()[1].startswith("node-a 0: idle ")


def test_one_process_has_one_line(picture: Picture) -> None:
    picture.starting(checkpoints=2, vectors=2, items=20)
    picture.opening(checkpoint(1))
    picture.advance(items=5, tokens=50)
    (line,) = picture.lines()
    assert line.startswith("mix step 1 ") and " 5/20 items" in line and "failed" not in line
