"""Where a benchmark's data comes from: the hub, or files of the same shape. What is missing is found within seconds."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from harness.core.errors import SpecError
from harness.core.measurement import Record

BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv", ".arrow": "arrow", ".txt": "text"}
"""A file's suffix -> the loader of `datasets` that reads it. `.json.gz` and the like: by what stands before."""
PACKAGED = {*BUILDERS.values(), "webdataset", "xml", "pandas"}
SCRIPTS = {"EleutherAI/logiqa": "task harness_logiqa asks the same questions and loads"}
"""Script data sets, which `datasets` 4 and later refuse, and what to do instead."""
SAVED = ("dataset_dict.json", "dataset_info.json")
REACH_S = 3.0
"""Seconds to wait for a host to accept a connection."""


class DataSource(Record):
    """Another source of one task's data. `{name}` and `{task}` in a path stand for the data set's configuration (the
    subject, for MMLU) and for the task."""

    path: str | None = Field(
        default=None,
        description="a local copy of the data set's repository, a folder written by save_to_disk, or a hub id",
    )
    name: str | None = Field(default=None, description="configuration of the data set; default: the task's own")
    files: dict[str, str | list[str]] = Field(
        default={}, description="split -> JSON, JSONL, Parquet, CSV or Arrow files, patterns allowed"
    )
    revision: str | None = Field(default=None, description="of the data set on the hub; default: its newest")

    def resolved(self, folder: Path) -> DataSource:
        """Paths relative to `folder`, the spec's, become paths relative to the working directory."""
        path = self.path
        if path is not None and not Path(path).is_absolute() and (folder / path.split("{")[0]).exists():
            path = str(folder / path)
        files = {
            split: [str(folder / one) for one in ([found] if isinstance(found, str) else found)]
            for split, found in self.files.items()
        }
        return self.model_copy(update={"path": path, "files": files})

    def overrides(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What it changes in a task's configuration. Raises SpecError."""
        known = {"name": config.get("dataset_name") or "", "task": config.get("task") or ""}

        def filled(text: str) -> str:
            try:
                return text.format(**known)
            except (KeyError, IndexError, ValueError) as error:
                raise SpecError(f"data: {text!r} may hold {{name}} and {{task}} alone ({error})") from error

        if self.files:
            if self.path or self.revision or self.name:
                raise SpecError("data: `files` stands alone; path, name and revision go with a data set of its own")
            files = {split: [filled(one) for one in found] for split, found in self.files.items()}
            builder = _builder([one for some in files.values() for one in some])
            return {
                "custom_dataset": None,
                "dataset_path": builder,
                "dataset_name": None,
                "dataset_kwargs": {"data_files": files, **({"sample_by": "document"} if builder == "text" else {})},
            }
        kept = {k: v for k, v in (config.get("dataset_kwargs") or {}).items() if k not in ("data_files", "sample_by")}
        changes: dict[str, Any] = {"dataset_kwargs": kept if self.path else dict(config.get("dataset_kwargs") or {})}
        if self.name is not None:
            changes["dataset_name"] = self.name
        if self.revision is not None:
            changes["dataset_kwargs"]["revision"] = self.revision
        if self.path is not None:
            path = filled(self.path)
            if any((Path(path) / mark).exists() for mark in SAVED):
                return {"custom_dataset": partial(load_saved, path), "dataset_path": path, "dataset_kwargs": {}}
            changes |= {"custom_dataset": None, "dataset_path": path}
        if not (self.path or self.name or self.revision):
            raise SpecError("data: give path, files, name or revision")
        return changes


def load_saved(path: str, **_: Any) -> Any:
    """A data set that `save_to_disk` wrote."""
    import datasets

    return datasets.load_from_disk(path)


def _builder(files: list[str]) -> str:
    kinds = {
        next((BUILDERS[s] for s in reversed(Path(file).suffixes) if s in BUILDERS), Path(file).name) for file in files
    }
    if len(kinds) != 1 or not kinds <= set(BUILDERS.values()):
        raise SpecError(
            f"data: files must be of one kind out of {', '.join(BUILDERS)}; found {', '.join(sorted(kinds))}"
        )
    return kinds.pop()


def problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Why a task's data cannot be loaded, as far as files, caches and one connection show. Loads nothing."""
    path = config.get("dataset_path")
    if config.get("custom_dataset") is not None or not isinstance(path, str):
        return
    if path in SCRIPTS:
        yield f"{path} is a data set with a script of its own, which `datasets` refuses; {SCRIPTS[path]}"
        return
    if path in PACKAGED:
        files = (config.get("dataset_kwargs") or {}).get("data_files") or {}
        rows = files.items() if isinstance(files, Mapping) else [("train", files)]
        for split, found in rows:
            for one in [found] if isinstance(found, str) else found:
                if "://" in one:
                    if not _reachable(one):
                        yield f"{one} (split {split}) cannot be reached"
                elif not _some_file(one):
                    yield f"no file {one} (split {split})"
        return
    if Path(path).exists():
        return
    if path.startswith((".", "/")) or path.count("/") != 1:
        yield f"no folder {path}"
    elif not cached(path) and not hub_reachable():
        yield f"{path} is not on this machine, and the hub cannot be reached"


def _some_file(pattern: str) -> bool:
    path = Path(pattern)
    if path.exists():
        return True
    base = Path(path.anchor) if path.is_absolute() else Path()
    return any(True for _ in base.glob(str(path.relative_to(base))))


def cached(name: str) -> bool:
    """Whether the caches of the hub or of `datasets` have something of this data set."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    prepared = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")
    return (hub / f"datasets--{name.replace('/', '--')}").exists() or (prepared / name.replace("/", "___")).exists()


def hub_reachable() -> bool:
    """Whether the environment allows requests to the hub, and it accepts a connection within REACH_S."""
    offline = any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on")
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    )
    return not offline and _reachable(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")


def _reachable(url: str) -> bool:
    parts = urlsplit(url)
    return _takes_connections(parts.scheme, parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))


@cache
def _takes_connections(scheme: str, host: str, port: int) -> bool:
    if scheme == "hf":
        return hub_reachable()
    if scheme in urllib.request.getproxies():
        return True  # the proxy decides
    try:
        with socket.create_connection((host, port), timeout=REACH_S):
            return True
    except OSError:
        return False
