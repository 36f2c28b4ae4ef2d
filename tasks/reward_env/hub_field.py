"""Fields sampled from data sets on the Hugging Face hub, or from local copies of them with the same columns.

A definition says which rows (path, names, split, sample, seed) and what q and r are (two Jinja templates over a row).
The same loader serves `harness` and lm-eval.
"""

from __future__ import annotations

import glob
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.core.digest import digest_bytes
from harness.core.errors import DataError
from harness.core.measurement import Record
from harness.core.pair import Pair
from harness.tasks.reward_env.field import PairField

LOADERS = {".json": "json", ".jsonl": "json", ".zst": "json", ".gz": "json", ".parquet": "parquet", ".csv": "csv"}


class HubDefinition(Record):
    """A field on the hub. `names` are data set configurations, read one after the other."""

    path: str
    names: list[str | None] = [None]
    split: str
    data_files: str | None = None
    """Pattern of files inside the repository, where only some are wanted."""
    q: str
    r: str
    sample: int | None = Field(default=None, ge=1)
    seed: int = 0
    revision: str | None = None


def load_hub_field(definition: HubDefinition, *, name: str, data_files: Sequence[Path] = ()) -> PairField:
    """Load, sample and render. `data_files` are local files read instead of the hub. Raises DataError.

    `source` records the revision asked for and the commit it resolved to (for local files, their content).
    """
    rows, resolved = _read_local(data_files, name) if data_files else _read_hub(definition, name)
    total = len(rows)
    if not total:
        raise DataError(f"field {name!r} is empty: {definition.path} split {definition.split!r} has no rows")
    chosen = list(range(total))
    if definition.sample is not None:
        if total < definition.sample and not data_files:
            raise DataError(
                f"field {name!r} samples {definition.sample} rows, but {definition.path} split {definition.split!r} has {total}; "
                "give a revision that has them"
            )
        chosen = sorted(random.Random(definition.seed).sample(chosen, min(definition.sample, total)))
    source = {
        "dataset": definition.path,
        "names": [item for item in definition.names if item],
        "split": definition.split,
        "revision": definition.revision,
        "resolved_revision": resolved,
        "sampled": len(chosen),
        "rows": total,
        "seed": definition.seed,
        "q": definition.q,
        "r": definition.r,
    }
    return PairField(name=name, source=source, content=_render(definition, name, rows, chosen))


def _render(definition: HubDefinition, name: str, rows: Any, chosen: Sequence[int]) -> tuple[Pair, ...]:
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    q_template = environment.from_string(definition.q)
    r_template = environment.from_string(definition.r)
    pairs = []
    for index in chosen:
        row = rows[index]
        try:
            q, r = q_template.render(**row), r_template.render(**row)
        except (TemplateError, TypeError, LookupError, ValueError) as error:
            raise DataError(
                f"field {name!r} row {index}: its template does not fit the row ({error}); columns are {sorted(row)}"
            ) from error
        if not r.strip():
            raise DataError(f"field {name!r} row {index}: r is empty")
        pairs.append(Pair(id=str(index), q=q, r=r))
    return tuple(pairs)


def expand_files(patterns: Sequence[str], folder: Path) -> list[Path]:
    """Local files for glob patterns relative to `folder`. Raises DataError for a pattern that matches nothing."""
    files: list[Path] = []
    for pattern in patterns:
        found = sorted(Path(match) for match in glob.glob(str(folder / pattern), recursive=True))  # noqa: PTH207
        if not found:
            raise DataError(f"data_files {str(folder / pattern)!r} matches no file")
        files += found
    return files


def _read_local(files: Sequence[Path], name: str) -> tuple[Any, str]:
    import datasets

    loader = LOADERS.get(files[0].suffix)
    if loader is None:
        raise DataError(f"field {name!r}: {files[0]} is none of {', '.join(LOADERS)}")
    try:
        content = digest_bytes(*(path.read_bytes() for path in files))
        rows = datasets.load_dataset(loader, data_files=[str(path) for path in files], split="train")
    except Exception as error:
        raise DataError(f"field {name!r}: cannot read {files[0]}: {_first_line(error)}") from error
    return rows, content


def _read_hub(definition: HubDefinition, name: str) -> tuple[Any, str | None]:
    import datasets

    parts = []
    try:
        for configuration in definition.names:
            files = {definition.split: definition.data_files} if definition.data_files else None
            parts.append(
                datasets.load_dataset(
                    definition.path,
                    configuration,
                    split=definition.split,
                    data_files=files,
                    revision=definition.revision,
                )
            )
    except Exception as error:
        raise DataError(
            f"field {name!r}: cannot load data set {definition.path} ({_first_line(error)}); "
            "connect to the hub once, or give local files of the same columns as data_files"
        ) from error
    return datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0], _resolved_revision(parts)


def _resolved_revision(parts: Sequence[Any]) -> str | None:
    """The commit in the addresses the files came from: hf://datasets/<path>@<commit>/..."""
    commits = {
        match.group(1)
        for part in parts
        for address in (part.info.download_checksums or {})
        if (match := re.match(r"hf://datasets/[^@]+@([0-9a-f]{40})/", address))
    }
    return commits.pop() if len(commits) == 1 else None


def _first_line(error: Exception) -> str:
    message = str(error).strip()
    return f"{type(error).__name__}: {message.splitlines()[0]}" if message else type(error).__name__
