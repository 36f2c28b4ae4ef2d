"""Upstream's guidelines for simulated users: a text file, from a data folder or from inspect-evals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import DataError
from harness.core.extras import install
from harness.tasks.tau2 import port
from harness.tasks.tau2.files import read_bytes

FOLDER = "user_simulator"


def read_guidelines(data: Path | None, *, tools: bool) -> str:
    """The guidelines for users with or without tools. Raises DataError where there are none."""
    name = "simulation_guidelines_tools" if tools else "simulation_guidelines"
    for folder, packaged in _folders(data):
        for suffix in (".md", ".txt"):
            path = folder / FOLDER / f"{name}{suffix}"
            if path.is_file():
                text = read_bytes(path).decode("utf-8").rstrip() + "\n"
                # The port's copies have a blank line before the last one, which upstream's do not.
                head, blank, last = text.rpartition("\n\n")
                return f"{head}\n{last}" if packaged and blank and "\n" not in last.rstrip() else text
    raise DataError(f"no {FOLDER}/{name}.md; give tau2-bench's data folder with `data`, or run: {install('tau2')}")


def _folders(data: Path | None) -> Iterator[tuple[Path, bool]]:
    """Where guidelines may lie: in the data folder, beside its domains, in the port; and whether they are the port's."""
    if data is not None:
        for folder in (data, data.parent, data / "tau2", data / "data" / "tau2"):
            yield folder, False
    yield port.data_folder().parent, True
