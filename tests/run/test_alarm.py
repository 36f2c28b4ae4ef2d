"""Alarms of real runs: from folders and live, resumed in any order, on the terminal, and as a callback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from harness import RewardEnvironment, read_feed
from harness.checkpoints.find import find_checkpoints
from harness.cli import run as cli
from harness.core.errors import StateError
from harness.core.vector import ComponentRecord, RewardVector
from harness.run.observer import Observer
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import Spec, parse_spec

SCALES = {10: 0.3, 20: 0.2, 30: 1.0, 40: 0.2, 50: 1.0}
"""Of the weights at each step: the larger, the surer of what is wrong."""
KEYS = ("allowed_loss", "best_step", "loss", "loss_bound", "alarm")
RAISED = [(30, "prose"), (50, "prose")]


def model(step: int) -> Any:
    return tiny.llama(3, initializer_range=SCALES[step])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alarm") / "mix-1"
    for step in SCALES:
        tiny.save(folder / f"checkpoint-{step}", model(step), tiny.tokenizer())
    return folder


def make_spec(folder: Path, **changes: Any) -> Spec:
    for name in ("prose", "code"):
        rows = [{"q": f"{name} {i}", "r": f" is {i * i} and {i % 3}"} for i in range(30)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prose = {"name": "prose", "kind": "logprob", "field": "prose.jsonl", "role": "source", **changes}
    return parse_spec(
        {"components": [prose, {"name": "code", "kind": "logprob", "field": "code.jsonl"}]}, folder=folder
    )


class Heard(Observer):
    """What it was told of alarms."""

    def __init__(self) -> None:
        self.alarms: list[tuple[int | None, str]] = []

    def alarm(self, vector: RewardVector, component: ComponentRecord) -> None:
        self.alarms.append((vector.step, component.name))


def score(spec: Spec, folder: Path, out: Path, *steps: int, observer: Observer | None = None) -> list[RewardVector]:
    found = find_checkpoints([str(folder / f"checkpoint-{step}") for step in steps or SCALES])
    return list(run(prepare(spec), found, out=out, observer=observer).feed)


def said(vectors: list[RewardVector]) -> list[list[Any]]:
    return [[getattr(c, key) for c in v.components for key in KEYS] for v in vectors]


def test_a_source_that_lost_raises_an_alarm_in_the_vector_and_the_observer_is_told(
    checkpoints: Path, tmp_path: Path
) -> None:
    heard = Heard()
    vectors = score(make_spec(tmp_path), checkpoints, tmp_path / "out", observer=heard)
    assert [(v.step, c.name) for v in vectors for c in v.alarms] == heard.alarms == RAISED
    last = vectors[-1].components[0]
    assert last.best_step in (20, 40)
    before = next(v for v in vectors if v.step == last.best_step).components[0]
    assert last.loss == pytest.approx((before.raw or 0) - (last.raw or 0))
    assert 0.02 < (last.loss_bound or 0) < (last.loss or 0)
    assert said(list(read_feed(tmp_path / "out"))) == said(vectors)


@pytest.mark.parametrize("order", [(10, 20, 30, 40, 50), (50, 20, 10, 40, 30), (30, 10, 50, 40, 20)])
def test_a_run_resumed_in_any_order_has_the_same_alarms(
    order: tuple[int, ...], checkpoints: Path, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path)
    whole = said(score(spec, checkpoints, tmp_path / "whole"))
    heard = Heard()
    for step in order:
        vectors = score(spec, checkpoints, tmp_path / "out", step, observer=heard)
    assert said(vectors) == whole
    assert sorted(heard.alarms) == RAISED, "each is told once, whenever it comes to light"


@pytest.mark.parametrize("out", [None, "live", "restarted"])
def test_a_live_environment_raises_the_same_alarms_and_calls_back(
    out: str | None, checkpoints: Path, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path)
    heard = list[tuple[int | None, str]]()

    def on_alarm(vector: RewardVector, component: ComponentRecord) -> None:
        heard.append((vector.step, component.name))

    environment = RewardEnvironment(spec, out=out and tmp_path / out, on_alarm=on_alarm)
    for step in SCALES:
        if out == "restarted":
            environment = RewardEnvironment(spec, out=tmp_path / out, on_alarm=on_alarm)
        environment.feedback(model(step), tiny.tokenizer(), step=step)
        environment.feedback(model(step), tiny.tokenizer(), step=step)  # the same weights again are no news
    assert said(list(environment.feed)) == said(score(spec, checkpoints, tmp_path / "whole"))
    assert heard == RAISED


def test_the_terminal_says_what_was_lost_since_when(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_spec(tmp_path)
    (tmp_path / "spec.yaml").write_text(
        "components:\n- {name: prose, kind: logprob, field: prose.jsonl, role: source, allowed_loss: 0.5}\n"
    )
    assert cli(["score", str(checkpoints), "--spec", str(tmp_path / "spec.yaml"), "-o", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    lines = [
        line for line in captured.err.splitlines() if line.startswith("ALARM mix-1, step 50: source prose has lost ")
    ]
    assert len(lines) == 2 and lines[0] == lines[1], "when it is measured, and below the table"
    assert " since step " in lines[0] and lines[0].endswith("; allowed are 0.5")
    assert captured.out.splitlines()[5].split()[5] == "!"
    assert cli(["show", str(tmp_path / "out")]) == 0
    assert lines[0] in capsys.readouterr().err
    early = (str(checkpoints / f"checkpoint-{step}") for step in (20, 30, 40))
    assert cli(["score", *early, "--spec", str(tmp_path / "spec.yaml"), "-o", str(tmp_path / "early")]) == 0
    below = capsys.readouterr().err.splitlines()[-1]
    assert below.startswith("ALARM mix-1, step 30: ") and below.endswith("; no alarm at step 40")


def test_an_allowed_loss_of_its_own_is_another_run_and_the_default_is_not(checkpoints: Path, tmp_path: Path) -> None:
    assert prepare(make_spec(tmp_path, allowed_loss=0.02)).digest == prepare(make_spec(tmp_path)).digest
    score(make_spec(tmp_path), checkpoints, tmp_path / "out", 10)
    with pytest.raises(StateError, match="allowed_loss"):
        score(make_spec(tmp_path, allowed_loss=0.1), checkpoints, tmp_path / "out", 20)


def test_an_update_keeps_what_is_allowed(checkpoints: Path, tmp_path: Path) -> None:
    score(make_spec(tmp_path, allowed_loss=100.0), checkpoints, tmp_path / "out")
    before = (tmp_path / "out" / "rewards.jsonl").read_bytes()
    assert cli(["update", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "rewards.jsonl").read_bytes() == before
    assert not any(v.alarms for v in read_feed(tmp_path / "out"))


class Stopped(Observer):
    """Ends the run by an error once a vector is finished."""

    def finished(self, vector: RewardVector, *, new: bool) -> None:
        raise KeyboardInterrupt


def test_a_feed_never_holds_what_an_earlier_step_made_stale(checkpoints: Path, tmp_path: Path) -> None:
    spec, out = make_spec(tmp_path), tmp_path / "out"
    score(spec, checkpoints, out, 20, 30)

    class Watched(Observer):
        def finished(self, vector: RewardVector, *, new: bool) -> None:
            feeds.append([(v.step, v.previous_step) for v in read_feed(out)])

    feeds = list[list[tuple[int | None, int | None]]]()
    score(spec, checkpoints, out, 10, 50, observer=Watched())
    whole = [(10, None), (20, 10), (30, 20), (50, 30)]
    assert feeds == [[(20, None), (30, 20)]] * 2, "a run that is killed here leaves the feed as it was"
    assert [(v.step, v.previous_step) for v in read_feed(out)] == whole


def test_a_stopped_run_leaves_what_it_measured_in_order(checkpoints: Path, tmp_path: Path) -> None:
    spec, out = make_spec(tmp_path), tmp_path / "out"
    score(spec, checkpoints, out, 20)
    with pytest.raises(KeyboardInterrupt):
        score(spec, checkpoints, out, 10, observer=Stopped())
    assert [(v.step, v.previous_step) for v in read_feed(out)] == [(10, None), (20, 10)]


def test_a_feed_that_was_left_out_of_order_is_put_right_by_the_next_run(checkpoints: Path, tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    score(spec, checkpoints, tmp_path / "out", 10, 20, 30)
    feed = tmp_path / "out" / "rewards.jsonl"
    whole = feed.read_text()
    late = score(spec, checkpoints, tmp_path / "other", 20, 30)
    first = whole.splitlines(keepends=True)[0]
    feed.write_text("".join(v.to_line() + "\n" for v in late) + first)  # as earlier versions left it when killed
    score(spec, checkpoints, tmp_path / "out", 30)
    assert [(v.step, v.previous_step, v.gain) for v in read_feed(feed)] == [
        (v["step"], v["previous_step"], v["gain"]) for v in map(json.loads, whole.splitlines())
    ]
