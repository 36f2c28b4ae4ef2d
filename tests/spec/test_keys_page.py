"""The page of keys is made from the records that read them."""

from __future__ import annotations

from pathlib import Path

from harness.spec.keys_page import keys_page


def test_the_page_in_docs_is_what_the_schemas_say() -> None:
    page = Path(__file__).parents[2] / "docs" / "keys.md"
    assert page.read_text(encoding="utf-8") == keys_page(), "run: harness schema --keys > docs/keys.md"


def test_every_key_has_a_meaning_and_stands_in_one_line() -> None:
    rows = [line for line in keys_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 70
    assert [row for row in rows if row.count(" | ") < 2 or row.endswith("|  |")] == []
