"""What was asked is kept once for all checkpoints, changes no number, and is on the report's page."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import tiny

from harness import read_feed
from harness.cli import run
from harness.core.errors import EXIT_OK
from harness.feed.items import read_texts
from harness.report.data import Wanted
from harness.report.page import read_block, write_page
from harness.reward_models.items import scored_items


def test_two_checkpoints_share_one_file_of_texts(tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    for step in (10, 20):
        tiny.save(tmp_path / "sft" / f"checkpoint-{step}", tiny.llama(step), tok)
    rows = [{"q": f"{'word ' * 500}Question {i}?", "r": f" The number {i + 1}."} for i in range(9)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(
        "overflow: truncate\ncomponents:\n  - {name: a, kind: logprob, field: a.jsonl}\n", encoding="utf-8"
    )
    out = tmp_path / "out"
    command = ["score", str(tmp_path / "sft"), "--spec", str(tmp_path / "spec.yaml"), "--out", str(out)]
    assert run(command) == EXIT_OK
    (texts,) = (out / "items" / "texts").iterdir()
    for vector in read_feed(out):
        (component,) = vector.components
        where = str(component.detail["items"])
        table = pq.read_table(out / where)
        assert not {"prompt", "target"} & set(table.column_names)
        assert scored_items(table.to_pydict(), component).mean == component.raw  # type: ignore[union-attr]
        found = read_texts(out, where)
        assert found is not None and found["target"] == [row["r"] for row in rows]
        assert all(len(text) <= 1_502 and text.endswith(f"Question {i}?") for i, text in enumerate(found["prompt"]))
    compared = read_block(write_page(Wanted(paths=(out,)), max_bytes=10**7).decode(), "compared")
    item = compared["items"]["a"]
    (target,) = item["target"]  # of one definition
    shown = [compared["strings"][number] for number in target]
    assert shown == [rows[int(identity)]["r"] for identity in item["ids"]]
    texts.unlink()
    bare = read_block(write_page(Wanted(paths=(out,)), max_bytes=10**7).decode(), "compared")["items"]["a"]
    assert bare["target"] is None and bare["values"] == item["values"]
