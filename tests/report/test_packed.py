"""Blocks of a page: what is packed comes out again, in Python and in a browser, and holds no character of markup."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from browser import browser, needs_browser
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.report.packed import packed, unpacked

SCRIPT = Path(__file__).parents[2] / "harness" / "report" / "js" / "packed.js"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=50, deadline=None)
@given(JSON)
def test_what_is_packed_comes_out_again(value: Any) -> None:
    text = packed(value)
    assert unpacked(text) == value and packed(value) == text
    assert text.isascii() and text.isprintable() and not set(text) & set("<>&'\"")


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        packed([float("nan")])


def samples() -> dict[str, Any]:
    """Of every path through the decoder: nothing, long runs of one byte, several blocks, all bytes, many codes of Huffman's."""
    rng = random.Random(0)
    return {
        "nothing": None,
        "one": "a",
        **{f"a run of {n}": "a" * n for n in (3, 4, 5, 254, 255, 256, 259, 260, 1_000_000)},
        "hostile": "</script><!--\ud800\u2028\0\r\n\u202e",
        "numbers": [rng.random() for _ in range(30_000)],
        "several blocks": "".join(chr(rng.randrange(32, 127)) for _ in range(1_000_000)),
        "alike": [f"the same words {i % 7}" for i in range(60_000)],
    }


@needs_browser
def test_a_browser_reads_what_python_packs(tmp_path: Path) -> None:
    values = samples()
    page = tmp_path / "page.html"
    blocks = "".join(
        f'<script type="text/plain" id="data-{at}">{packed(one)}</script>' for at, one in enumerate(values.values())
    )
    page.write_text(
        f"<!DOCTYPE html><body>{blocks}<script>{SCRIPT.read_text()}\ndocument.documentElement.dataset.ready = '0'</script>",
        encoding="utf-8",
    )
    with browser() as web:
        web.open(page)
        for at, (name, value) in enumerate(values.items()):
            same = "return JSON.stringify(block(arguments[0])) === JSON.stringify(JSON.parse(arguments[1]))"
            assert web.run(same, str(at), json.dumps(value)), name
        assert web.console() == []
