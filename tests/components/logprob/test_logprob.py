"""A field on a real checkpoint, through the pipeline: Eq. 1, per-item scores, overflow, and failures with their cause."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import torch

from harness.checkpoints.find import find_checkpoints
from harness.core.errors import SpecError
from harness.core.vector import ComponentRecord, RewardVector
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec

PAIRS = [
    {"id": "code", "q": "def add(a, b):\n", "r": "    return a + b"},
    {"id": "space", "q": "The quick brown   ", "r": "fox jumps over the lazy dog."},
    {"id": "empty q", "q": "", "r": "Question: what?"},
    {"id": "unicode", "q": "héllo", "r": " wörld 日本語 🙂"},
    {"id": "short", "q": "Answer", "r": ":"},
]
LONG = {"id": "long", "q": "The quick brown fox. " * 600, "r": " dog"}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def slow(model: Any, tokenizer: Any, rows: Sequence[dict[str, Any]]) -> list[tuple[float, int]]:
    """(nats, tokens) per pair, by hand: spaces move to r, r's tokens are what q + r has beyond q."""
    found = []
    for row in rows:
        q, text = row["q"].rstrip(), row["q"] + row["r"]
        context = tokenizer(q)["input_ids"]
        ids = context + tokenizer(text)["input_ids"][len(context) :]
        with torch.no_grad():
            logprob = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
        chosen = [float(logprob[i - 1, ids[i]]) for i in range(len(context), len(ids))]
        found.append((math.fsum(chosen), len(chosen)))
    return found


def score(tmp_path: Path, *, model: Any = None, tok: Any = None, fields: dict[str, Any], **spec: Any) -> RewardVector:
    """The vector of one saved checkpoint; `fields` maps component names to files or to more keys."""
    folder = tiny.save(tmp_path / "checkpoint", model, tok)
    components = [
        {"name": name, "kind": "logprob", **(value if isinstance(value, dict) else {"field": value})}
        for name, value in fields.items()
    ]
    prepared = prepare(parse_spec({"components": components, **spec}, folder=tmp_path))
    return run(prepared, find_checkpoints([str(folder)]), out=tmp_path / "out").feed[0]


def items(tmp_path: Path, component: ComponentRecord) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(tmp_path / "out" / str(component.detail["items"])).to_pydict()
    return columns


def test_a_fields_score_is_equation_1_and_its_items_are_kept(tmp_path: Path) -> None:
    model, tok = tiny.llama(), tiny.tokenizer()
    component = score(tmp_path, model=model, tok=tok, fields={"f": write(tmp_path / "f.jsonl", PAIRS)}).components[0]
    expected = slow(model, tok, PAIRS)
    means = [nats / count for nats, count in expected]
    n_bytes = [len((r["q"][len(r["q"].rstrip()) :] + r["r"]).encode()) for r in PAIRS]

    assert component.raw == pytest.approx(np.mean(means), abs=1e-5)
    assert component.stderr == pytest.approx(np.std(means, ddof=1) / math.sqrt(len(PAIRS)), abs=1e-5)
    assert (component.status, component.n_items, component.n_scored) == ("ok", 5, 5)
    assert component.detail["n_tokens"] == sum(count for _, count in expected)
    bits = -sum(nats for nats, _ in expected) / math.log(2) / sum(n_bytes)
    assert component.detail["bits_per_byte"] == pytest.approx(bits, abs=1e-5)

    columns = items(tmp_path, component)
    assert columns["id"] == [row["id"] for row in PAIRS]
    assert columns["n_tokens"] == [count for _, count in expected]
    assert columns["n_bytes"] == n_bytes
    assert columns["logprob"] == pytest.approx([nats for nats, _ in expected], abs=1e-4)
    assert columns["logprob_per_token"] == pytest.approx(means, abs=1e-5)
    assert set(columns["status"]) == {"ok"}
    assert np.mean(columns["logprob_per_token"]) == pytest.approx(component.raw, abs=1e-12)


@pytest.mark.parametrize("batch_tokens", [1, 50])
def test_the_batch_size_does_not_show(tmp_path: Path, batch_tokens: int) -> None:
    fields = {"f": write(tmp_path / "f.jsonl", PAIRS)}
    model, tok = tiny.llama(), tiny.tokenizer()
    component = score(tmp_path, model=model, tok=tok, fields=fields, batch_tokens=batch_tokens).components[0]
    assert component.raw == pytest.approx(np.mean([nats / count for nats, count in slow(model, tok, PAIRS)]), abs=1e-5)


def test_an_overlong_pair_fails_its_field_by_default_and_no_other(tmp_path: Path) -> None:
    fields = {
        "long": write(tmp_path / "long.jsonl", [*PAIRS, LONG]),
        "short": write(tmp_path / "short.jsonl", PAIRS),
    }
    vector = score(tmp_path, fields=fields)
    long, short = vector.components
    assert (long.status, long.raw, long.n_items, short.status) == ("failed", None, 6, "ok")
    assert long.reason and "pair long: pair of" in long.reason and "overflow: skip or overflow: truncate" in long.reason
    assert vector.status == "partial" and vector.scalar is None


def test_overlong_pairs_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = [PAIRS[0], LONG, *PAIRS[1:]]
    fields = {"f": write(tmp_path / "f.jsonl", rows)}
    model, tok = tiny.llama(), tiny.tokenizer()
    component = score(tmp_path, model=model, tok=tok, fields=fields, overflow="skip").components[0]
    assert (component.status, component.n_items, component.n_scored) == ("partial", 6, 5)
    assert component.detail["n_skipped"] == 1
    assert component.raw == pytest.approx(np.mean([nats / count for nats, count in slow(model, tok, PAIRS)]), abs=1e-5)
    columns = items(tmp_path, component)
    assert columns["id"] == [row["id"] for row in rows]
    assert columns["status"] == ["ok", "skipped", "ok", "ok", "ok", "ok"]
    assert columns["logprob"][1] is None and None not in columns["logprob"][2:]


def test_overlong_pairs_lose_the_beginning_of_q_and_are_counted(tmp_path: Path) -> None:
    fields = {"f": write(tmp_path / "f.jsonl", [*PAIRS, LONG])}
    model, tok = tiny.llama(max_position_embeddings=100), tiny.tokenizer()
    component = score(tmp_path, model=model, tok=tok, fields=fields, overflow="truncate").components[0]
    assert (component.status, component.n_scored, component.detail["n_truncated"]) == ("ok", 6, 1)
    columns = items(tmp_path, component)
    assert columns["status"] == ["ok"] * 5 + ["truncated"]
    context = tok(LONG["q"].rstrip())["input_ids"]
    ids = (context + tok(LONG["q"] + LONG["r"])["input_ids"][len(context) :])[-101:]
    with torch.no_grad():
        logprob = torch.log_softmax(model(torch.tensor([ids[:-1]])).logits[0].double(), -1)
    n = columns["n_tokens"][5]
    expected = sum(float(logprob[i - 1, ids[i]]) for i in range(len(ids) - n, len(ids)))
    assert columns["logprob"][5] == pytest.approx(expected, abs=1e-4)


def test_a_field_whose_every_pair_is_too_long_fails_with_that_cause(tmp_path: Path) -> None:
    fields = {"f": write(tmp_path / "f.jsonl", [LONG])}
    component = score(tmp_path, fields=fields, overflow="skip").components[0]
    assert component.reason == "all 1 pairs are longer than the model's context; shorten the field"


def test_broken_weights_fail_and_are_named(tmp_path: Path) -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    vector = score(tmp_path, model=model, fields={"f": write(tmp_path / "f.jsonl", PAIRS)})
    component = vector.components[0]
    assert (component.status, component.raw, vector.status, vector.vector) == ("failed", None, "failed", [None])
    assert component.reason and "model.layers.1.mlp.up_proj.weight holds NaN or infinity" in component.reason
    assert "log-prob not finite in 5 of 5 pairs" in component.reason
    assert items(tmp_path, component)["status"] == ["failed"] * 5


def test_a_broken_item_is_counted_and_never_averaged_in(tmp_path: Path) -> None:
    model, tok = tiny.llama(), tiny.tokenizer()
    broken = tok("héllo", add_special_tokens=False)["input_ids"][1]
    with torch.no_grad():
        model.get_input_embeddings().weight[broken] = float("inf")
    component = score(tmp_path, model=model, tok=tok, fields={"f": write(tmp_path / "f.jsonl", PAIRS)}).components[0]
    kept = [row for row in PAIRS if row["id"] != "unicode"]
    assert (component.status, component.n_items, component.n_scored) == ("partial", 5, 4)
    assert component.reason and "first in pair unicode" in component.reason
    assert component.raw == pytest.approx(np.mean([nats / count for nats, count in slow(model, tok, kept)]), abs=1e-5)


def test_a_missing_chat_template_fails_only_the_conversations(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    fields = {"chat": write(tmp_path / "chat.jsonl", [chat]), "text": write(tmp_path / "text.jsonl", PAIRS)}
    vector = score(tmp_path, tok=tiny.tokenizer(chat_template=None), fields=fields)
    assert [component.status for component in vector.components] == ["failed", "ok"]
    assert vector.components[0].reason and "chat template" in vector.components[0].reason


def test_a_missing_tokenizer_fails_the_vector_with_its_cause(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    tiny.llama().save_pretrained(folder)
    field = write(tmp_path / "f.jsonl", PAIRS)
    prepared = prepare(parse_spec({"components": [{"name": "f", "kind": "logprob", "field": field}]}, folder=tmp_path))
    (vector,) = run(prepared, find_checkpoints([str(folder)]), out=tmp_path / "out").feed
    assert vector.status == "failed"
    assert vector.components[0].reason and "no tokenizer in" in vector.components[0].reason


def test_a_limit_takes_the_first_pairs(tmp_path: Path) -> None:
    model, tok = tiny.llama(), tiny.tokenizer()
    fields = {"f": {"field": write(tmp_path / "f.jsonl", PAIRS), "limit": 2}}
    component = score(tmp_path, model=model, tok=tok, fields=fields).components[0]
    assert component.n_items == 2
    means = [nats / count for nats, count in slow(model, tok, PAIRS[:2])]
    assert component.raw == pytest.approx(np.mean(means), abs=1e-5)


def test_dtype_and_engine_stand_in_the_provenance(tmp_path: Path) -> None:
    fields = {"f": write(tmp_path / "f.jsonl", PAIRS)}
    provenance = score(tmp_path, fields=fields, dtype="bfloat16").provenance
    assert (provenance.engine, provenance.dtype, provenance.device) == ("torch", "bfloat16", "cpu")


def test_a_prompt_goes_around_every_question(tmp_path: Path) -> None:
    asked = [{**row, "q": f"Q: {row['q']} A:"} for row in PAIRS]
    fields = {
        "prompted": {"field": write(tmp_path / "plain.jsonl", PAIRS), "prompt": "Q: {q} A:"},
        "written": write(tmp_path / "asked.jsonl", asked),
        "plain": "plain.jsonl",
    }
    prompted, written, plain = score(tmp_path, fields=fields).components
    assert prompted.raw == written.raw != plain.raw


def test_a_prompt_needs_a_place_for_the_question_and_plain_pairs(tmp_path: Path) -> None:
    write(tmp_path / "plain.jsonl", PAIRS)
    with pytest.raises(SpecError, match=r"prompt must hold \{q\} once"):
        score(tmp_path, fields={"f": {"field": "plain.jsonl", "prompt": "Q:"}})
    talk = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}]
    write(tmp_path / "talk.jsonl", talk)
    with pytest.raises(SpecError, match="holds conversations"):
        score(tmp_path, fields={"f": {"field": "talk.jsonl", "prompt": "Q: {q}"}})
