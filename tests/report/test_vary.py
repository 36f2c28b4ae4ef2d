"""A report of a run whose spec varies its prompts: every row is read as what it is, and never taken for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from browser import browser, needs_browser

from harness.checkpoints.find import find_checkpoints
from harness.report.data import Wanted
from harness.report.page import read_block, write_page
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec

PAIRS = '{"q": "def add(a, b):", "r": " return a + b"}\n{"q": "The quick brown", "r": " fox"}\n'
ROWS = ("run[alpha=0]", "run[alpha=1]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("vary")
    (made / "pairs.jsonl").write_text(PAIRS)
    components = [
        {"name": "asked", "kind": "logprob", "field": "pairs.jsonl", "prompt": "alpha={alpha} {q}"},
        {"name": "plain", "kind": "logprob", "field": "pairs.jsonl"},
    ]
    spec = parse_spec({"components": components, "vary": {"alpha": [0, 1]}}, folder=made)
    for step in (1, 2):
        tiny.save(made / "run" / f"checkpoint-{step}", tiny.llama(step))
    run(prepare(spec), find_checkpoints([str(made / "run")]), out=made / "out")
    return made / "out"


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    path = folder / "report.html"
    path.write_bytes(write_page(Wanted(paths=(folder,)), max_bytes=10**7))
    return path


def block(page: Path, name: str) -> Any:
    return read_block(page.read_text(encoding="utf-8"), name)


def test_each_row_has_a_curve_of_its_own_and_the_page_says_why_they_do_not_compare(page: Path) -> None:
    feed = block(page, "feed")
    assert feed["lanes"] == list(ROWS)
    asked, plain = feed["components"]
    assert asked["remark"] is None and asked["varied"].startswith("each value of alpha has prompts of its own")
    assert plain["remark"] is None and plain["varied"] is None
    assert feed["runs"][0]["facts"]["varied"] == ["alpha = 0, 1"]
    assert " | " in feed["runs"][0]["sources"]["asked"]["content"]


def test_rows_are_never_compared_where_they_asked_otherwise(page: Path) -> None:
    compared = block(page, "compared")
    labels = compared["labels"]
    assert labels == [f"{row}@{step}" for row in ROWS for step in (1, 2)]
    status = {
        name: [compared["pairs"]["texts"][number] for number in compared["pairs"]["components"][name]["status"]]
        for name in ("asked", "plain")
    }
    assert status["asked"] == ["paired", "refused", "refused", "refused", "refused", "paired"]
    assert status["plain"] == ["paired"] * 6


def test_a_question_is_shown_as_its_own_row_asked_it(page: Path) -> None:
    compared = block(page, "compared")
    asked, strings = compared["items"]["asked"], compared["strings"]
    said = [[strings[number] for number in asked["prompt"][kind]] for kind in asked["kind"]]
    assert [words[0] for words in said] == [f"alpha={alpha} def add(a, b):" for alpha in (0, 0, 1, 1)]


@needs_browser
def test_the_browser_lists_no_question_between_rows(page: Path) -> None:
    with browser() as web:
        for at, alpha in ((0, 0), (2, 1)):
            web.open(page)
            web.run(f"report.setComponent('asked'); report.setPair({at}, {at + 1})")
            web.run("document.querySelectorAll('.qa').forEach((one) => { one.open = true; })")
            assert web.run(f"return document.querySelector('#questions').textContent.includes('alpha={alpha} def add')")
        web.run("report.setPair(0, 3)")
        assert web.run("return document.querySelectorAll('.qa').length") == 0
        assert "their spec varies it (variable alpha 0 and 1)" in web.text("#questions")
        assert web.console() == []
