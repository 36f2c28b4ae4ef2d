"""What tasks ask, as content, and where their data came from: identity and provenance. Builds nothing."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from harness.core.digest import digest_bytes, digest_json
from harness.tasks.suites.build import Built
from harness.tasks.suites.sandbox import RULES

PLACES = {"dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "task", "task_alias", "tag", "metadata"}
"""Keys of a task's configuration with the place and name of its content; the content itself is in the digest instead."""


def definition(built: Built, seed: int) -> dict[str, JsonValue]:
    """What is asked, as content: configuration with its functions' files, documents, examples. No path, no name of a file."""
    return {
        "limit": built.limit,
        "fewshot_seed": seed,
        "aggregate": None
        if built.group is None
        else _plain([vars(a) for a in built.group.aggregate_metric_list or []]),
        "tasks": {name: _content(task, built.limit) for name, task in sorted(built.tasks.items())},
        **(
            {"sandbox": RULES}
            if any(getattr(task.config, "unsafe_code", False) for task in built.tasks.values())
            else {}
        ),
    }


def _content(task: Any, limit: int | None) -> str:
    config = {key: value for key, value in vars(task.config).items() if key not in PLACES and value is not None}
    fewshot = getattr(config.get("fewshot_config"), "__dict__", None)
    if fewshot is not None:
        config["fewshot_config"] = fewshot
    docs = task.task_docs if hasattr(task, "task_docs") else task.eval_docs
    examples: list[Any] = []
    if task.config.num_fewshot and hasattr(task, "sampler"):
        examples = list(task.sampler.df)
    return digest_json(
        [str(task.VERSION), _plain(type(task)), _plain(config), _rows(docs, limit), _rows(examples, None)]
    )


def _rows(docs: Any, limit: int | None) -> str:
    """Digest of documents in order."""
    rows = docs if limit is None else (docs[i] for i in range(min(limit, len(docs))))
    return digest_bytes(*(digest_json(_plain(row)).encode() for row in rows))


def _plain(value: Any) -> JsonValue:
    """A configuration as JSON: a function as its name and the digest of the file it stands in."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(entry) for entry in value]
    if isinstance(value, str | int | bool | type(None)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    if callable(value):
        try:
            source = inspect.getsourcefile(value)
            content = digest_bytes(Path(source).read_bytes()) if source else ""
        except (TypeError, OSError):
            content = ""
        return f"{getattr(value, '__qualname__', type(value).__qualname__)} {content}"
    return f"{type(value).__name__} {value}" if hasattr(value, "isoformat") else type(value).__name__


def source(task: Any) -> dict[str, JsonValue]:
    """Where a task's data came from, for the provenance: path, configuration, and the revision where it is known."""
    config = task.config
    found: dict[str, JsonValue] = {"path": config.dataset_path, "version": str(task.VERSION)}
    if config.dataset_name:
        found["name"] = config.dataset_name
    revisions = {
        part.split("/")[0]
        for split in getattr(task, "dataset", {}).values()
        for url in (getattr(getattr(split, "info", None), "download_checksums", None) or {})
        if "@" in url
        for part in [url.rpartition("@")[2]]
    }
    if len(revisions) == 1:
        found["revision"] = revisions.pop()
    return found
