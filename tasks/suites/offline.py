"""Builds foreign tasks without a network: data sets come from local files or from what was fetched.

Tasks of inspect_evals fetch in their constructors, and wait minutes between attempts. Within `offline` their requests to the
hub are answered from `data` or the hub's cache; any other fails at once with an error that says what to do.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import SpecError
from harness.tasks.suites.data_source import SAVED, DataSource, load_saved
from harness.tasks.suites.inspect_cards import GATED

LOCAL = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"}


class NotHereError(SpecError):
    """Something that a task needs is not on this machine. No OSError, so that retries of other libraries let it pass."""


class LocalHub:
    """Answers for `datasets.load_dataset` and two functions of huggingface_hub. `used`: keys of `data` that were asked for."""

    def __init__(self, data: Mapping[str, DataSource], *, fetch: bool = False) -> None:
        import datasets
        import huggingface_hub

        self.used: set[str] = set()
        self._data, self._fetch = data, fetch
        self._load = _readable(datasets.load_dataset)
        self._snapshot = huggingface_hub.snapshot_download

    def load_dataset(
        self,
        path: str,
        name: str | None = None,
        data_dir: str | None = None,
        data_files: Any = None,
        split: Any = None,
        revision: str | None = None,
        trust_remote_code: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As `datasets.load_dataset`, without the network."""
        given = {"data_dir": data_dir, "data_files": data_files}
        kwargs |= {key: value for key, value in given.items() if value is not None}
        source = self._data.get(path)
        if source is not None and source.files:
            self.used.add(path)
            return self._of_files(path, source, split)
        if source is None and path.count("/") != 1:
            return self._load(path, name=name, split=split, **kwargs)  # a packaged loader (json, csv) or a folder
        try:
            folder = self._folder(path, revision)
        except NotHereError:
            if not self._fetch or source is not None:
                raise
            try:
                return self._load(path, name=name, split=split, revision=revision, **kwargs)
            except Exception as error:
                raise NotHereError(f"{path} cannot be fetched ({type(error).__name__}: {error})") from error
        if any((folder / mark).exists() for mark in SAVED):
            found = load_saved(str(folder))
            return found if split is None or not isinstance(found, dict) else found[split]
        return self._load(str(folder), name=(source.name if source else None) or name, split=split, **kwargs)

    def snapshot_download(self, repo_id: str, *, revision: str | None = None, **kwargs: Any) -> str:
        """As huggingface_hub's, without the network."""
        folder = self._whole(repo_id, revision, kwargs.get("repo_type"))
        if (where := kwargs.get("local_dir")) is None:
            return str(folder)

        def place(source: str, target: str) -> None:
            """In place of what an earlier build left there; a copy would be written through its link, into the user's file."""
            into = Path(target)
            if into.exists() and not into.is_symlink() and into.samefile(source):
                return
            into.unlink(missing_ok=True)
            if repo_id in self._data:
                into.symlink_to(Path(source).resolve())
            else:
                shutil.copy2(source, target)

        shutil.copytree(folder, where, dirs_exist_ok=True, copy_function=place)
        return str(where)

    def hf_hub_download(
        self, repo_id: str, filename: str, *, subfolder: str | None = None, revision: str | None = None, **kwargs: Any
    ) -> str:
        """As huggingface_hub's, without the network."""
        folder = self._whole(repo_id, revision, kwargs.get("repo_type"))
        path = folder / (subfolder or "") / filename
        if not path.exists():
            raise NotHereError(f"{filename} of {repo_id} is not in {folder}; fetch it again, or put it there")
        return str(path)

    def _whole(self, repo_id: str, revision: str | None, repo_type: str | None) -> Path:
        """A repository's folder, fetched where that is allowed."""
        try:
            return self._folder(repo_id, revision, repo_type)
        except NotHereError:
            if not self._fetch or repo_id in self._data:
                raise
            try:
                return Path(self._snapshot(repo_id, repo_type=repo_type or "dataset", revision=revision))
            except Exception as error:
                raise NotHereError(f"{repo_id} cannot be fetched ({type(error).__name__}: {error})") from error

    def _of_files(self, path: str, source: DataSource, split: Any) -> Any:
        base = None if split is None else str(split).partition("[")[0]
        if base is not None and base not in source.files:
            known = ", ".join(source.files)
            raise SpecError(f"data: {path} is asked for split {base!r}, and its files have {known}; name one for it")
        chosen = source if base is None else source.model_copy(update={"files": {base: source.files[base]}})
        found = chosen.resolved(Path()).overrides({})
        try:
            return self._load(found["dataset_path"], split=split, **found["dataset_kwargs"])
        except SpecError as error:
            names = ", ".join(str(one) for some in chosen.files.values() for one in some)
            raise SpecError(f"data: {path}: {names}: {error}") from error

    def _folder(self, repo_id: str, revision: str | None, repo_type: str | None = "dataset") -> Path:
        """Where a repository is on this machine. Raises NotHereError."""
        source = self._data.get(repo_id)
        if source is not None:
            self.used.add(repo_id)
            if source.path is not None and Path(source.path).is_dir():
                return Path(source.path)
            if source.files:
                raise SpecError(
                    f"data: the task reads {repo_id} as a repository; give its `path`, a local copy, not files"
                )
            repo_id, revision = source.path or repo_id, source.revision or revision
        try:
            return Path(
                self._snapshot(repo_id, repo_type=repo_type or "dataset", revision=revision, local_files_only=True)
            )
        except Exception as error:  # any error of the hub's library means that it is not here
            pinned = f" --revision {revision}" if revision else ""
            first = "accept its conditions on the hub, set HF_TOKEN, and fetch it" if repo_id in GATED else "fetch it"
            raise NotHereError(
                f"{repo_id} is not on this machine; {first} with `hf download --repo-type {repo_type or 'dataset'} {repo_id}{pinned}`, or "
                f"set fetch: true, or name a local copy: data: {{{repo_id}: {{path: FOLDER}}}} or {{files: {{SPLIT: FILE.jsonl}}}}"
            ) from error


def _readable(load: Callable[..., Any]) -> Callable[..., Any]:
    """`load_dataset`, whose failures are said at once: inspect_evals takes some of them for an outage, and waits for minutes."""

    def loading(path: str, **options: Any) -> Any:
        try:
            return load(path, **options)
        except Exception as error:
            cause = error.__cause__ or error
            raise SpecError(
                f"{path} cannot be read ({type(cause).__name__}: {' '.join(str(cause).split())[:200]})"
            ) from error

    return loading


def images_in(compose_file: Path) -> list[str]:
    """Names of the images in a compose file; some evals run Docker for them while they are built, with any sandbox."""
    lines = [line.strip() for line in compose_file.read_text(encoding="utf-8").splitlines()]
    return [line.removeprefix("image:").strip() for line in lines if line.startswith("image:")]


def _replace(ours: Sequence[tuple[Any, str, Callable[..., Any]]]) -> list[tuple[Any, str, Any]]:
    """Put ours (home, name, function) in the place of foreign functions: in the package that offers each, and in the modules of
    others that imported it by name. Returns what stood there, and where."""
    wanted = {id(getattr(home, name)): (home, by) for home, name, by in ours}
    found = list(ours)
    for called, module in sys.modules.copy().items():
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict):
            continue
        for key in [key for key, value in names.items() if id(value) in wanted]:
            home, by = wanted[id(names[key])]
            if module is not home and not called.startswith(f"{home.__name__}."):
                found.append((module, key, by))
    replaced = [(module, key, getattr(module, key)) for module, key, _ in found]
    for module, key, by in found:
        setattr(module, key, by)
    return replaced


def _move_caches(package: str) -> list[tuple[Any, str, Any]]:
    """Let an eval keep what it fetches, and what `datasets` makes of it, in a folder that goes with the process. Returns what stood
    in its modules, and where."""
    import datasets

    root = getattr(sys.modules.get("inspect_evals.constants"), "INSPECT_EVALS_CACHE_PATH", None)
    folder = Path(tempfile.mkdtemp(prefix="harness-inspect-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    found: list[tuple[Any, str, Any]] = [(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")]
    for name, module in list(sys.modules.items()):
        if name == package or name.startswith(f"{package}."):
            for key, value in vars(module).items():
                if root is not None and isinstance(value, Path) and value.is_relative_to(root):
                    found.append((module, key, folder / value.relative_to(root)))
    replaced = [(module, key, getattr(module, key)) for module, key, _ in found]
    for module, key, by in found:
        setattr(module, key, by)
    return replaced


@contextlib.contextmanager
def offline(data: Mapping[str, DataSource], *, fetch: bool = False, aside: str | None = None) -> Iterator[LocalHub]:
    """Nothing in this block reaches a network, unless `fetch`: then once, without waiting to try again.

    `aside`: the package of an eval that copies repositories; it finds and leaves its copies elsewhere, so that local data is never
    taken for what was fetched, nor the other way round.

    Not for several threads at a time: functions of foreign modules are replaced.
    """
    import datasets
    import huggingface_hub

    hub = LocalHub(data, fetch=fetch)
    replaced: list[tuple[Any, str, Any]] = []

    lookup = socket.getaddrinfo

    def no_lookup(host: Any, *rest: Any, **kwargs: Any) -> Any:
        shown = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if not fetch and shown not in LOCAL:
            raise NotHereError(
                f"it asks {shown}, and nothing is fetched while a task is built; set fetch: true where that is meant"
            )
        try:
            return lookup(host, *rest, **kwargs)
        except OSError as error:
            raise NotHereError(f"it asks {shown}, which cannot be reached ({error})") from error

    protocols = os.environ.get("GIT_ALLOW_PROTOCOL")
    with tempfile.TemporaryDirectory(prefix="harness-inspect-") as cache:
        ours: list[tuple[Any, str, Callable[..., Any]]] = [
            (datasets, "load_dataset", hub.load_dataset),
            (huggingface_hub, "snapshot_download", hub.snapshot_download),
            (huggingface_hub, "hf_hub_download", hub.hf_hub_download),
            (socket, "getaddrinfo", no_lookup),
        ]
        if (docker := sys.modules.get("inspect_evals.utils.docker_utils")) is not None:
            ours.append((docker, "get_images_from_compose", images_in))
        replaced += _replace(ours)
        if aside is not None:
            replaced += _move_caches(aside)
        # Inspect keeps a copy of each data set by its name on the hub; what local files answered is not that.
        if (module := sys.modules.get("inspect_ai.dataset._sources.hf")) is not None:
            replaced.append((module, "inspect_cache_dir", module.inspect_cache_dir))
            module.inspect_cache_dir = lambda *_, **__: Path(cache)  # type: ignore[attr-defined]
        if not fetch:
            os.environ["GIT_ALLOW_PROTOCOL"] = "file"
        try:
            yield hub
        finally:
            if protocols is None:
                os.environ.pop("GIT_ALLOW_PROTOCOL", None)
            else:
                os.environ["GIT_ALLOW_PROTOCOL"] = protocols
            for module, name, original in reversed(replaced):
                setattr(module, name, original)
