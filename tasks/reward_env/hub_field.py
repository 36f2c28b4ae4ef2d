"""Fields sampled from data sets on the Hugging Face hub, or from local copies of them with the same columns.

A definition says which rows (path, names, split, sample, seed) and what q and r are (two Jinja templates over a row).
The same loader serves `harness` and lm-eval.
"""

from __future__ import annotations

import datetime
import glob
import hashlib
import math
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
from harness.tasks.reward_env.hub_copy import keep, kept
from harness.tasks.reward_env.records import PACKED, kind_of, read_records

TEXT_FILES = (".json", ".jsonl", ".csv", ".tsv")
"""Local files read as they are; each may end in .gz or .zst as well, which alone stand for JSON lines."""
COMMIT = re.compile(r"[0-9a-f]{40}")


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

    `source` records the definition's revision and the commit it resolved to (for local files, their digest).
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

    environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, finalize=_printed)
    try:
        q_template, r_template = environment.from_string(definition.q), environment.from_string(definition.r)
    except TemplateError as error:
        raise DataError(f"field {name!r}: its template of q or r is not valid Jinja ({error}); correct it") from error
    pairs = []
    for index in chosen:
        try:
            row = rows[index]
        except Exception as error:
            raise DataError(f"field {name!r} row {index}: cannot read it ({_first_line(error)}); repair it") from error
        try:
            q, r = q_template.render(row), r_template.render(row)
        except Exception as error:
            raise DataError(
                f"field {name!r} row {index}: its template does not fit the row ({error}); columns are {sorted(row)}"
            ) from error
        if not r.strip():
            raise DataError(
                f"field {name!r} row {index}: r is empty, so there is nothing to score; change its template"
            )
        pairs.append(Pair(id=str(index), q=q, r=r))
    return tuple(pairs)


def _printed(value: Any) -> Any:
    if value is None:
        raise ValueError("a column it prints is null, which would be scored as the word None")
    if isinstance(value, bytes | bytearray):
        raise ValueError("a column it prints holds bytes, which is no text; save it as text")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(
            f"a column it prints is {value}, which is no number; remove the row, or save the column as text"
        )
    if isinstance(value, datetime.timedelta):
        raise ValueError("a column it prints was read as a duration, which is not the file's text; save it as text")
    if isinstance(value, datetime.date | datetime.time):
        raise ValueError("a column it prints was read as a date, which is not the file's text; format it with strftime")
    return value


def expand_files(patterns: Sequence[str], folder: Path) -> list[Path]:
    """Local files for names or glob patterns relative to `folder`. Raises DataError for one that matches nothing."""
    files: list[Path] = []
    for pattern in patterns:
        literal = folder / pattern
        matches = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207
        found = [literal] if literal.is_file() else sorted(folder / match for match in matches)
        if not found:
            raise DataError(f"data_files {str(literal)!r} matches no file; give the path of a local copy, or a pattern")
        files += found
    return files


def _read_local(files: Sequence[Path], name: str) -> tuple[Any, str]:
    """Rows of local files, and the files' digest. Text files are not read by `datasets`, which makes numbers of the cells of a
    CSV file, None of `NA`, and dates of JSON strings that look like one. Raises DataError."""
    kinds = {kind_of(path) or (".jsonl" if path.suffix in PACKED else "") for path in files}
    unknown = next(
        (path for path in files if kind_of(path) not in (*TEXT_FILES, ".parquet") and path.suffix not in PACKED), None
    )
    if unknown is not None:
        raise DataError(f"field {name!r}: {unknown} is none of {', '.join((*TEXT_FILES, '.parquet', *PACKED))}")
    where = f"{files[0]}" if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    try:
        empty = [path for path in files if not path.stat().st_size]
        if empty:
            raise DataError(f"field {name!r}: {empty[0]} is empty")
        content = digest_bytes(*(_file_hash(path) for path in files))
        rows = _parquet_rows(files) if kinds == {".parquet"} else _text_rows(files, name)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"field {name!r}: cannot read {where} ({_first_line(error)}); give an intact file with the data set's columns"
        ) from error
    return rows, content


def _parquet_rows(files: Sequence[Path]) -> Any:
    import datasets

    # load_dataset reads a file name as a pattern
    return datasets.load_dataset("parquet", data_files=[glob.escape(str(path)) for path in files], split="train")


def _text_rows(files: Sequence[Path], name: str) -> list[dict[str, Any]]:
    """The records of all files, each with every column; one that a record does not have is None."""
    try:
        records = [record.value for path in files for record in read_records(path)]
    except DataError as error:
        raise DataError(f"field {name!r}: {error}") from error
    return _every_column(records)


def _every_column(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    columns = dict.fromkeys(key for row in rows for key in row)
    return [dict.fromkeys(columns) | row for row in rows]


def _file_hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _read_hub(definition: HubDefinition, name: str) -> tuple[Any, str | None]:
    import datasets
    from datasets.packaged_modules.csv.csv import Csv
    from datasets.packaged_modules.json.json import Json

    files = {definition.split: definition.data_files} if definition.data_files else None
    if files is not None and (copy := _kept_copy(definition)) is not None:
        return copy
    parts, commits = [], set()
    try:
        for configuration in definition.names:
            builder = datasets.load_dataset_builder(
                definition.path, configuration, data_files=files, revision=definition.revision
            )
            if Path(definition.path).is_dir() and isinstance(builder, Csv | Json):
                parts.append(_text_rows([Path(file) for file in builder.config.data_files[definition.split]], name))
            else:
                if isinstance(builder, Csv):
                    builder = csv_as_text(builder, definition, configuration)
                builder.download_and_prepare()
                parts.append(builder.as_dataset(split=definition.split))
            commits.add(str(builder.hash))
            if definition.data_files and COMMIT.fullmatch(str(builder.hash)):
                urls = list(map(str, builder.config.data_files[definition.split]))
                keep(definition.path, str(builder.hash), definition.data_files, builder=builder.name, urls=urls)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"field {name!r}: cannot load data set {definition.path} ({_first_line(error)}); "
            "connect to the hub once, or give local files of the same columns as data_files"
        ) from error
    rows = parts[0]
    if len(parts) > 1:
        lists = all(isinstance(part, list) for part in parts)
        rows = _every_column([row for part in parts for row in part]) if lists else datasets.concatenate_datasets(parts)
    if not all(COMMIT.fullmatch(commit) for commit in commits):
        return rows, None  # `path` is a folder here, not a repository
    wanted = _cached_commit(definition)
    if len(commits) > 1 or (wanted is not None and commits != {wanted}):
        raise DataError(
            f"field {name!r}: without the hub, data set {definition.path} comes from commit {', '.join(sorted(commits))}, "
            f"which is not revision {definition.revision or 'main'}; connect to the hub, or set revision to that commit"
        )
    return rows, commits.pop()


def _kept_copy(definition: HubDefinition) -> tuple[Any, str] | None:
    """While offline ($HF_HUB_OFFLINE), the rows of the files that were fetched before, and their commit; None where one is missing."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    assert definition.data_files is not None
    commit = _cached_commit(definition) if HF_HUB_OFFLINE and definition.names == [None] else None
    if commit is None:
        return None
    try:
        rows = kept(definition.path, commit, definition.data_files, split=definition.split)
    except Exception as error:
        raise DataError(
            f"field {definition.path!r}: cannot read the copy of its files at commit {commit} ({_first_line(error)}); "
            "connect to the hub once, or give local files of the same columns as data_files"
        ) from error
    return None if rows is None else (rows, commit)


def csv_as_text(builder: Any, definition: HubDefinition, configuration: str | None) -> Any:
    """The builder of the same CSV data set that reads every cell as text: 0.50 stays 0.50, and NA stays NA."""
    import datasets

    builder.download_and_prepare()
    columns = builder.as_dataset(split=definition.split).column_names
    return datasets.load_dataset_builder(
        definition.path,
        configuration,
        data_files={definition.split: definition.data_files} if definition.data_files else None,
        revision=definition.revision,
        features=datasets.Features({column: datasets.Value("string") for column in columns}),
        keep_default_na=False,
    )


def _cached_commit(definition: HubDefinition) -> str | None:
    """The commit of the definition's revision, where the hub's cache shows it.

    Offline, `datasets` silently takes the newest prepared copy of a data set, of any revision.
    """
    from huggingface_hub import try_to_load_from_cache

    if definition.revision and COMMIT.fullmatch(definition.revision):
        return definition.revision
    card = try_to_load_from_cache(definition.path, "README.md", revision=definition.revision, repo_type="dataset")
    return Path(card).parent.name if isinstance(card, str) else None


def _first_line(error: BaseException) -> str:
    while type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__  # `datasets` wraps the cause in an error without details
    message = str(error).strip()
    return f"{type(error).__name__}: {message.splitlines()[0]}" if message else type(error).__name__
