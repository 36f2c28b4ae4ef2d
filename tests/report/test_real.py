"""A report of recordings that nobody here made: whole, in a kilobyte or so each."""

from __future__ import annotations

from pathlib import Path

from browser import browser, needs_browser
from tau2_samples import shared

from harness.report.data import Wanted
from harness.report.page import read_block, write_page
from harness.report.simulations import MESSAGE, lines_of
from harness.tau2.recordings.checks import text_of

KB_EACH = 1.3
"""Of the page, for a simulation of 20 messages or so by any of several models: what bzip2 leaves of what they wrote."""


def recordings() -> list[Path]:
    return sorted(shared("tau2_real").glob("airline-*.json.gz"))[:6]


def test_a_recorded_simulation_takes_a_kilobyte_or_so_and_nothing_of_it_is_lost() -> None:
    paths = recordings()
    page = write_page(Wanted(paths=tuple(paths)), max_bytes=10**8).decode()
    lines = [line for path in paths for line in lines_of(path)]
    transcripts = read_block(page, "transcripts")
    shown = {number: messages for number, _, messages in transcripts["shown"]}
    assert shown.keys() == set(range(len(lines)))
    for number, line in enumerate(lines):
        messages = line["messages"]
        assert [one[0] for one in shown[number]] == [one["role"] for one in messages]
        for (role, _, text, *_), message in zip(shown[number], messages, strict=True):
            whole = text_of(message.get("content"))
            kept = transcripts["texts"][role][text] if text else ""
            assert kept == whole or (kept.partition("… (")[0] == whole[: MESSAGE if role != "tool" else 1500])
    assert len(page) / 1000 < 130 + KB_EACH * len(lines)


@needs_browser
def test_a_recorded_transcript_is_read_in_the_browser_as_it_was_recorded(tmp_path: Path) -> None:
    paths = recordings()[:2]
    path = tmp_path / "page.html"
    path.write_bytes(write_page(Wanted(paths=tuple(paths)), max_bytes=10**8))
    lines = [line for one in paths for line in lines_of(one)]
    with browser() as web:
        web.open(path)
        for number in (0, len(lines) // 2, len(lines) - 1):
            read = web.run("return report.transcript(arguments[0]).messages.map((one) => one.content)", number)
            wrote = [text_of(message.get("content")) for message in lines[number]["messages"]]
            assert [said[:1000] for said in read] == [said[:1000] for said in wrote]
        assert web.console() == [] and web.requests() == [path.resolve().as_uri()]
