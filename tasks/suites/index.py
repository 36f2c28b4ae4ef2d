"""lm-eval's index of tasks, cached on disk: lm-eval itself reads 14,000 files in every process."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.core.cached_file import cache_folder
from harness.core.digest import digest_json
from harness.core.errors import SpecError, StateError
from harness.core.extras import install
from harness.core.journal import write_atomically

TESTED = "0.4.13"
"""The release whose internal functions are used."""


def lm_eval_version() -> str:
    """The installed version of lm-eval. Raises SpecError where there is none, or another than TESTED."""
    try:
        found = version("lm_eval")
    except PackageNotFoundError as error:
        raise SpecError(f"kind: lm_eval needs lm-eval; {install('suites')}") from error
    if found != TESTED:
        raise SpecError(
            f"kind: lm_eval needs lm-eval {TESTED}, and {found} is installed; pip install lm_eval=={TESTED}"
        )
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and logged messages of lm-eval and `datasets`; exceptions pass through."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "huggingface_hub", "httpx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@cache
def task_manager(include: tuple[str, ...]) -> Any:
    """lm-eval's TaskManager over its own tasks, ours and those in `include`, where later ones win. Raises SpecError."""
    lm_eval_version()
    for folder in include:
        if not Path(folder).is_dir():
            raise SpecError(f"include_path {folder} is not a folder")
    try:
        with quiet():
            from lm_eval.tasks import TaskManager

            manager = TaskManager(include_defaults=False, include_path=[str(Path(__file__).parent), *include])
            manager._index = {**_default_index(), **manager._index}
    except ImportError as error:
        raise SpecError(f"kind: lm_eval needs lm-eval, which does not load ({error}); {install('suites')}") from error
    return manager


def _default_index() -> dict[str, Any]:
    """What lm-eval finds in its own folder: name -> Entry, from the cache or read now."""
    import lm_eval.tasks
    from lm_eval.tasks._index import Entry, Kind, TaskIndex

    root = Path(lm_eval.tasks.__file__).parent
    path = cache_folder() / "lm_eval" / f"{_state(root).removeprefix('sha256:')}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Entry(name, Kind[kind], None if where is None else root / where, tags=set(tags))
            for name, (kind, where, tags) in stored.items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found: dict[str, Any] = TaskIndex.build([root])
    rows = {
        name: [e.kind.name, None if e.yaml_path is None else str(e.yaml_path.relative_to(root)), sorted(e.tags)]
        for name, e in found.items()
    }
    with contextlib.suppress(StateError):
        write_atomically(path, json.dumps(rows).encode())
    return found


def _state(root: Path) -> str:
    """Identity of the YAML files below a folder, by name, size and modification time."""
    files = []
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(".yaml"):
                found = (Path(folder) / name).stat()
                files.append([str(Path(folder) / name), found.st_size, found.st_mtime_ns])
    return digest_json([TESTED, sorted(files)])
