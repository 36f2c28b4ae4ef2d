"""Finds fetched files of a data set on the hub again while offline, by a list that is kept when they are fetched.

`datasets` finds a prepared copy of a whole configuration offline, but not one of a pattern of files, though the hub's cache has
them. A pattern alone does not show whether all files that it matched are there; the list does, for one commit and one pattern.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.cached_file import cache_folder
from harness.core.digest import digest_json
from harness.core.errors import StateError
from harness.core.journal import write_atomically


def keep(path: str, commit: str, pattern: str, *, builder: str, urls: Sequence[str]) -> None:
    """Store which files a pattern matches at a commit, and their builder in `datasets`. Does nothing where it cannot write."""
    prefix = f"hf://datasets/{path}@{commit}/"
    files = [url.removeprefix(prefix) for url in urls]
    if not files or any(file == url for file, url in zip(files, urls, strict=True)):
        return  # not files of this repository at this commit
    content = json.dumps({"builder": builder, "files": files}, ensure_ascii=False)
    try:
        write_atomically(_list_of(path, commit, pattern), content.encode())
    except StateError:
        return


def kept(path: str, commit: str, pattern: str, *, split: str) -> Any | None:
    """The rows of the kept copy; None without a list, or where a file of it is missing. Makes no request."""
    import datasets
    from huggingface_hub import try_to_load_from_cache

    try:
        found = json.loads(_list_of(path, commit, pattern).read_bytes())
        builder, names = str(found["builder"]), list(map(str, found["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    files = [try_to_load_from_cache(path, name, revision=commit, repo_type="dataset") for name in names]
    here = [file for file in files if isinstance(file, str)]
    if len(here) < len(names):
        return None

    def prepared(**options: Any) -> Any:
        # load_dataset_builder reads a file name as a pattern
        escaped = [glob.escape(file) for file in here]
        made = datasets.load_dataset_builder(builder, data_files={split: escaped}, **options)
        made.download_and_prepare()
        return made.as_dataset(split=split)

    rows = prepared()
    if builder != "csv":
        return rows
    text = datasets.Features({column: datasets.Value("string") for column in rows.column_names})
    return prepared(features=text, keep_default_na=False)


def _list_of(path: str, commit: str, pattern: str) -> Path:
    name = digest_json([path, commit, pattern]).removeprefix("sha256:")
    return cache_folder() / "hub-files" / f"{name}.json"
