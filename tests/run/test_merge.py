"""Shards put together are the run that was never split."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny

from harness.checkpoints.find import find_checkpoints
from harness.cli import run as cli
from harness.core.component import BaseComponent, ComponentConfig, Engine, Outcome
from harness.core.errors import EXIT_INCOMPLETE, SpecError, StateError
from harness.core.measurement import Measurement
from harness.run.merge import merge
from harness.run.pipeline import run
from harness.run.shard import shard_of
from harness.spec.prepared import Row, prepare
from harness.spec.spec import load_spec, parse_spec


class Chance(BaseComponent):
    """Another value each time."""

    metric = "chance"
    n_items = 1

    def __init__(self) -> None:
        self.config = ComponentConfig(name="chance", kind="chance")
        self.definition = {}
        self.task: dict[str, Any] = {}

    def measure(self, subject: Any, progress: Any, scratch: Path) -> Outcome:
        value = random.random()
        measurement = Measurement(metric="chance", raw=value, stderr=None, n_items=1, n_scored=1, status="ok")
        items = {"id": ["one"], "value": [value]}
        return Outcome(measurement=measurement, engine=Engine(name="none"), items=items)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trajectories with a common first checkpoint, one broken folder, and a spec with two rows."""
    place = tiny.save_sweep(tmp_path_factory.mktemp("merge"))
    rows = [{"q": f"a {i}", "r": f" is {i * i} and {i % 3}"} for i in range(9)]
    (place / "field.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {
        "vary": {"alpha": [0, 1]},
        "components": [
            {"name": "a", "kind": "logprob", "field": "field.jsonl", "role": "source", "prompt": "{alpha} {q}"},
            {"name": "b", "kind": "logprob", "field": "field.jsonl", "limit": 4},
        ],
    }
    (place / "spec.yaml").write_text(json.dumps(spec))
    return place


def score(place: Path, out: Path, *options: str) -> int:
    folders = [str(place / "mix-a"), str(place / "mix-b")]
    return cli(["score", *folders, "--spec", str(place / "spec.yaml"), "--out", str(out), "--quiet", *options])


def feed(out: Path) -> list[dict[str, Any]]:
    vectors = [json.loads(line) for line in (out / "rewards.jsonl").read_text().splitlines()]
    for vector in vectors:
        vector["provenance"] |= {"started": "", "seconds": 0.0}
    return vectors


@pytest.fixture(scope="module")
def shards(place: Path) -> list[Path]:
    for number in (1, 2, 3):
        score(place, place / f"shard-{number}", "--shard", f"{number}/3")
    return [place / f"shard-{number}" for number in (3, 1, 2)]


def test_merged_shards_are_the_run_that_was_never_split(
    place: Path, shards: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(place, tmp_path / "whole")
    assert cli(["merge", str(tmp_path / "out"), *map(str, shards)]) == EXIT_INCOMPLETE  # a broken checkpoint
    assert "14 vector(s) of 3 shard(s)" in capsys.readouterr().out
    assert feed(tmp_path / "out") == feed(tmp_path / "whole")
    written = (tmp_path / "out" / "rewards.jsonl").read_bytes()
    merge(tmp_path / "out", shards)
    assert (tmp_path / "out" / "rewards.jsonl").read_bytes() == written, "again gives the same"
    tables = [one["detail"]["items"] for v in feed(tmp_path / "out") for one in v["components"] if one["raw"]]
    assert all((tmp_path / "out" / path).exists() for path in tables)
    assert score(place, tmp_path / "out") == EXIT_INCOMPLETE
    assert feed(tmp_path / "out") == feed(tmp_path / "whole"), "and a run goes on in it"


def test_a_shard_measures_only_its_own(place: Path, shards: list[Path]) -> None:
    assert [len(feed(folder)) for folder in sorted(shards)] == [6, 4, 4]
    found = find_checkpoints([str(place / "mix-a"), str(place / "mix-b")])
    parts = [shard_of(f"{i}/3", prepare(load_spec(place / "spec.yaml")), found)[1] for i in (1, 2, 3)]
    assert sorted(one.label for part in parts for one in part) == sorted(one.label for one in found)


def test_a_dry_run_is_of_the_shard_alone(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(place, tmp_path / "new", "--shard", "2/3", "--dry-run")
    assert "2 checkpoint(s), 0 there already" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_what_is_not_whole_is_not_merged(place: Path, shards: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StateError, match="shard 2 of 3 is missing"):
        merge(tmp_path / "out", shards[:2])
    with pytest.raises(StateError, match="a shard is there twice"):
        merge(tmp_path / "out", [*shards, shards[0]])
    with pytest.raises(StateError, match="holds no shard"):
        merge(tmp_path / "out", [place / "mix-a"])
    torn = shutil.copytree(shards[0], tmp_path / "torn")
    lines = (torn / "rewards.jsonl").read_text().splitlines(keepends=True)
    (torn / "rewards.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(StateError, match=r"1 of 14 vector\(s\) are not measured yet"):
        merge(tmp_path / "out", [torn, *shards[1:]])
    other = tmp_path / "other"
    score(place, other, "--shard", "3/3", "--overflow", "skip")
    with pytest.raises(StateError, match="is a shard of another spec"):
        merge(tmp_path / "out", [*shards[1:], other])
    assert not (tmp_path / "out" / "rewards.jsonl").exists()


def test_what_was_measured_in_the_merged_folder_is_not_written_over(
    place: Path, shards: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    merge(out, shards)
    tiny.save(tmp_path / "mix-a" / "checkpoint-7", tiny.llama(7))
    cli(["score", str(tmp_path / "mix-a"), "--spec", str(place / "spec.yaml"), "--out", str(out), "--quiet"])
    before = (out / "rewards.jsonl").read_bytes()
    with pytest.raises(StateError, match=r"holds more than the shards do: 2 vector\(s\).* merge into a new folder"):
        merge(out, shards)
    assert (out / "rewards.jsonl").read_bytes() == before


def test_a_copy_that_was_cut_off_or_is_of_an_earlier_attempt_is_made_again(
    place: Path, shards: list[Path], tmp_path: Path
) -> None:
    merge(tmp_path / "out", shards)
    before = feed(tmp_path / "out")
    for path in (tmp_path / "out" / "items").rglob("*.parquet"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[: len(content) // 2])
    merge(tmp_path / "out", shards)
    assert feed(tmp_path / "out") == before
    for folder in shards:
        for path in (folder / "items").rglob("*.parquet"):
            assert (tmp_path / "out" / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_weights_that_two_shards_measured_have_one_measurement(place: Path, tmp_path: Path) -> None:
    """As in a run that was never split, also where a component gives another value each time."""
    found = find_checkpoints([str(place / "mix-a"), str(place / "mix-b")])[::3]  # step 0 of both, and the broken one
    plain = {"components": [{"name": "chance", "kind": "logprob", "field": str(place / "field.jsonl")}]}
    row = Row(components=(Chance(),), definitions={"chance": "c"}, variables={})
    prepared = replace(prepare(parse_spec(plain)), rows=(row,))
    for number in (1, 2):
        part, mine = shard_of(f"{number}/2", prepared, found)
        run(prepared, mine, out=tmp_path / str(number), shard=part)
    made = merge(tmp_path / "out", [tmp_path / "2", tmp_path / "1"])
    first, second = (vector.components[0] for vector in made.feed if vector.step == 0)
    assert (first.raw, first.detail["items"]) == (second.raw, second.detail["items"])
    table = pq.read_table(tmp_path / "out" / str(first.detail["items"]))
    assert table["value"].to_pylist() == [first.raw]


def test_a_folder_holds_one_shard(place: Path, shards: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert score(place, place / "shard-1", "--shard", "2/3") == StateError.exit_code
    assert "holds shard 1/3 of a run; use another --out" in capsys.readouterr().err
    assert score(place, place / "shard-1") == StateError.exit_code


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_what_is_no_shard_is_said(place: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(place, tmp_path, f"--shard={text}") == SpecError.exit_code
    assert "is no I/N with I from 1 to N" in capsys.readouterr().err
