"""The inputs of a report: run folders with a feed, and folders or files of tau2 simulations. Reads; decides nothing.

A run in progress is read as far as it is written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DataError
from harness.feed.feed import Feed, read_feed
from harness.feed.lines import FEED_FILE
from harness.feed.tracks import Track, tracks_of

SIMULATIONS = ("simulations.jsonl", "unfinished.jsonl", "results.json")
"""Files by which a folder of simulations is recognised: ours, also with simulations without a reward, and upstream's."""
RUN_SCHEMAS = {"harness.run/1": "feed", "harness.tau2_run/1": "simulations"}
EXPECTED = "a run folder, a feed (rewards.jsonl), or a folder or file of tau2 simulations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder. `feed`: its vectors, for every step the one measured last; `tracks`: the same with their items."""

    label: str
    path: Path
    folder: Path
    feed: Feed
    tracks: tuple[Track, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A folder or file of simulations."""

    label: str
    path: Path


Source = Run | Simulated


def read_sources(paths: list[Path]) -> list[Source]:
    """The kind of each path; labels are folder names, made unique. Raises DataError for a path that is none of these."""
    labels = _labels(paths)
    return [_read(path, label) for path, label in zip(paths, labels, strict=True)]


def _labels(paths: list[Path]) -> list[str]:
    """The shortest endings of the paths that are unique."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        twice = next(str(path) for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1)
        raise DataError(f"{twice} is named twice; name each run once")
    n = 1
    while len({own[-n:] for own in parts}) < len(parts):
        n += 1
    return ["/".join(own[-n:]) for own in parts]


def _read(path: Path, label: str) -> Source:
    kind = _kind(path)
    if kind == "simulations":
        return Simulated(label=label, path=path)
    feed = read_feed(path).latest() if path.is_file() or (path / FEED_FILE).exists() else Feed([])
    folder = path if path.is_dir() else path.parent
    return Run(label=label, path=path, folder=folder, feed=feed, tracks=tuple(tracks_of(path, feed)))


def _kind(path: Path) -> str:
    if not path.exists():
        raise DataError(f"nothing at {path}; name {EXPECTED}")
    if path.is_file():
        return "feed" if _starts_like_a_feed(path) else "simulations"
    if (path / FEED_FILE).exists():
        return "feed"
    if any((path / name).exists() for name in SIMULATIONS):
        return "simulations"
    kind = RUN_SCHEMAS.get(_schema(path / "run.json"))
    if kind is None:
        raise DataError(
            f"{path} is no run: it has neither {FEED_FILE} nor {' nor '.join(SIMULATIONS)}; name {EXPECTED}"
        )
    return kind


def _schema(path: Path) -> str:
    """The schema in a run.json; "" where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return ""
    return str(found.get("schema")) if isinstance(found, dict) else ""


def _starts_like_a_feed(path: Path) -> bool:
    """By name, or by the schema in its first line."""
    if path.name == FEED_FILE:
        return True
    try:
        with path.open("rb") as stream:
            return b'"harness.reward_vector/' in stream.read(200)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
