"""Token ids on disk are keyed by content and never trusted when damaged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.pair import Pair
from harness.core.tokens import TokenSet
from harness.tasks.reward_env.encode import encode
from harness.tasks.reward_env.token_store import StoredTokens, stored_tokens

PAIRS = [
    Pair(id="a", q="What is 1 + 1?", r=" Two.", cluster="sums"),
    Pair(id="zweitens", q="", r="Ein längerer Satz, ohne Frage. 🙂"),
    Pair(id="c", q="  ", r="x"),
]
TOKENS = encode(tiny.tokenizer(), PAIRS)


def same(first: TokenSet | None, second: TokenSet) -> bool:
    assert first is not None
    assert [dataclasses.astuple(pair)[2:] for pair in first.pairs] == [dataclasses.astuple(p)[2:] for p in second.pairs]
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(first.pairs, second.pairs, strict=True))
    return [pair.id for pair in first.pairs] == [p.id for p in second.pairs] and first.n_boundary == second.n_boundary


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    stored = StoredTokens(tmp_path / "new" / "t.bin")
    assert stored.read() is None
    stored.write(TOKENS)
    assert same(stored.read(), TOKENS)


@given(st.data())
@settings(max_examples=60)
def test_a_damaged_file_is_not_trusted(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    stored = StoredTokens(tmp_path_factory.mktemp("store") / "t.bin")
    stored.write(TOKENS)
    content = bytearray(stored.path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    stored.path.write_bytes(bytes(content))
    assert stored.read() is None


def test_another_tokenizer_or_another_content_is_another_file() -> None:
    paths = {stored_tokens(tokenizer, field).path for tokenizer in ("t1", "t2") for field in ("f1", "f2")}
    assert len(paths) == 4


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    stored = StoredTokens(tmp_path / "file" / "t.bin")
    stored.write(TOKENS)
    assert stored.read() is None
