"""The page: one HTML file with its style, scripts and data inside, which makes no requests. Knows no statistics."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import harness
from harness.report.data import Reading, Wanted, left_out
from harness.report.packed import packed, unpacked

SCRIPTS = (
    "vendor/uPlot.iife.min.js",
    *(
        f"js/{name}.js"
        for name in (
            "page",
            "packed",
            "numbers",
            "summary",
            "curves",
            "compare",
            "matrix",
            "questions",
            "simulations",
            "failures",
            "main",
        )
    ),
)
STYLES = ("vendor/uPlot.min.css", "report.css")
SCHEMA = "harness.report/1"


def write_page(wanted: Wanted, *, max_bytes: int) -> bytes:
    """The page of some runs. Transcripts are left out until it has at most `max_bytes`, or has none left.

    Raises DataError for what cannot be read.
    """
    reading = Reading(wanted)
    report = reading.report()
    blocks = {name: packed(getattr(report, name)) for name in ("feed", "compared", "simulations")}
    n = len(reading.simulations.wanted)
    while True:
        blocks["transcripts"] = packed(reading.simulations.transcripts(at_most=n))
        said = [*left_out(wanted, report, n), *report.simulations["notes"]]
        content = _rendered(report.title, {**blocks, "more": packed({**report.more, "left_out": said})})
        over = len(content) - max_bytes
        if over <= 0 or not n:
            return content
        of = len(blocks["transcripts"])
        n = min(n - 1, int(n * 0.98 * max(0, of - over) / of))


def _rendered(title: str, blocks: Mapping[str, str]) -> bytes:
    style = "\n".join(map(_resource, STYLES))
    script = "\n".join(map(_resource, SCRIPTS))
    page: str = _template().render(
        title=title,
        style=style,
        script=script,
        policy=_policy(style, script),
        licence=_resource("vendor/uPlot-LICENSE"),
        schema=SCHEMA,
        version=harness.__version__,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        blocks=blocks,
    )
    return page.encode("utf-8", "backslashreplace")


@cache
def _template() -> Any:
    from jinja2 import BaseLoader, Environment, StrictUndefined

    environment = Environment(loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_resource("page.html.j2"))


@cache
def _resource(name: str) -> str:
    return (files("harness.report") / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy: only these scripts and styles, no requests, and no text may become markup."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def read_block(page: str, name: str) -> Any:
    """A block of a written page, decoded."""
    start = page.index(f'id="data-{name}">') + len(f'id="data-{name}">')
    return unpacked(page[start : page.index("<", start)])
