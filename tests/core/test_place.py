"""One place, one vector: what a row decides for a checkpoint is what the vector it becomes says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import tiny

from harness.checkpoints.find import find_checkpoints
from harness.core.place import Place
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec


def test_the_place_of_a_row_is_the_place_of_its_vector(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"q": "a", "r": " b"}\n')
    tiny.save(tmp_path / "run" / "checkpoint-5")
    component = {"name": "f", "kind": "logprob", "field": "f.jsonl", "prompt": "{x} {q}"}
    prepared = prepare(parse_spec({"vary": {"x": [1, 2]}, "components": [component]}, folder=tmp_path))
    (checkpoint,) = find_checkpoints([str(tmp_path / "run")])
    summary = run(prepared, [checkpoint], out=tmp_path / "out")
    assert [vector.place for vector in summary.here] == [row.place(checkpoint) for row in prepared.rows]
    assert [vector.place for vector in summary.here] == [Place("run[x=1]", 5), Place("run[x=2]", 5)]
    line = json.loads((tmp_path / "out" / "rewards.jsonl").read_text().splitlines()[0])
    assert "place" not in line


def test_a_vector_without_a_step_comes_first() -> None:
    places = [Place("a", 3), Place("a", None), Place("a", 0)]
    assert sorted(places, key=lambda place: place.order) == [Place("a", None), Place("a", 0), Place("a", 3)]
