"""What a simulated user is told about being one: a text file of upstream's, from a data folder or from inspect-evals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import DataError
from harness.tasks.tau2 import port
from harness.tasks.tau2.files import read_bytes

FOLDER = "user_simulator"


def read_guidelines(data: Path | None, *, tools: bool) -> str:
    """The guidelines for users with or without tools. Raises DataError where there are none."""
    name = "simulation_guidelines_tools" if tools else "simulation_guidelines"
    for folder in _folders(data):
        for suffix in (".md", ".txt"):
            path = folder / FOLDER / f"{name}{suffix}"
            if path.is_file():
                return read_bytes(path).decode("utf-8").rstrip() + "\n"
    raise DataError(
        f"no {FOLDER}/{name}.md; give tau2-bench's data folder with --data, or run: pip install 'mixture-harness[tau2]'"
    )


def _folders(data: Path | None) -> Iterator[Path]:
    """Where guidelines may lie: in the data folder, beside its domains, in the port."""
    if data is not None:
        yield from (data, data.parent, data / "tau2", data / "data" / "tau2")
    yield port.data_folder().parent
