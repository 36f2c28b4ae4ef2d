"""The page: one HTML file with its style, scripts and data inside, which asks for nothing else. Knows no statistics."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import harness
from harness.report.data import Reading, Report, Wanted, left_out

SCRIPTS = (
    "vendor/uPlot.iife.min.js",
    *(
        f"js/{name}.js"
        for name in (
            "page",
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
    """The page of some runs. Where it would be larger than `max_bytes` transcripts are left out, as many as need be.

    Raises DataError for what cannot be read.
    """
    reading = Reading(wanted)
    report = reading.report()
    n = report.simulations["n_kept"]
    content = _rendered(wanted, report)
    while len(content) > max_bytes and n:
        n = n // 2 if len(content) > 1.5 * max_bytes else n * 3 // 4
        report = replace(report, simulations=reading.simulations(at_most=n))
        content = _rendered(wanted, report)
    return content


def _rendered(wanted: Wanted, report: Report) -> bytes:
    said = [*left_out(wanted, report, report.simulations["n_kept"]), *report.simulations["notes"]]
    report = replace(report, more={**report.more, "left_out": said})
    style = "\n".join(map(_resource, STYLES))
    script = "\n".join(map(_resource, SCRIPTS))
    page: str = _template().render(
        title=report.title,
        style=style,
        script=script,
        policy=_policy(style, script),
        licence=_resource("vendor/uPlot-LICENSE"),
        schema=SCHEMA,
        version=harness.__version__,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        blocks={name: _block(getattr(report, name)) for name in ("feed", "compared", "simulations", "more")},
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
    """Nothing but these scripts and these styles; no request of any kind, and no text that becomes markup."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _block(value: Any) -> str:
    """JSON, gzipped (with no time in it, so that equal values give equal bytes), in base64: `</script` cannot occur."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("ascii"), 9, mtime=0)).decode()


def read_block(page: str, name: str) -> Any:
    """A block of a page that was written, decoded again."""
    start = page.index(f'id="data-{name}">') + len(f'id="data-{name}">')
    return json.loads(gzip.decompress(base64.b64decode(page[start : page.index("<", start)])))
