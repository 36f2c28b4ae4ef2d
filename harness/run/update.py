"""A run folder brought up to date: its vectors assembled anew from their measurements and items. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import StateError
from harness.core.held_folder import held_folder
from harness.core.journal import write_atomically
from harness.core.vector import RewardVector
from harness.feed.feed import Feed
from harness.feed.items import read_table
from harness.feed.lines import FEED_FILE, read_vectors
from harness.reward_models.reference import label
from harness.run.items import RunItems
from harness.run.vectors import rebuilt


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """What `update` did. `n_changed` vectors differ from what the file had."""

    feed: Feed
    path: Path
    n_changed: int


def update(folder: Path) -> Updated:
    """Assemble every vector of a run folder anew, so that it has what this version computes; measurements stay as they are.

    Raises StateError for a folder that is no run's or in use, or has lost items that its vectors' errors were computed from;
    DataError for a feed that cannot be read.
    """
    path = folder / FEED_FILE
    if not (folder / "run.json").exists() or not path.exists():
        raise StateError(
            f"{folder} holds no run (run.json and {FEED_FILE}); name the folder that `harness score` wrote"
        )
    with held_folder(folder):
        before = read_vectors(path)
        _check_items(before, folder)
        after = rebuilt(before, RunItems(folder))
        lines = [vector.to_line() for vector in after]
        known = {vector.to_line() for vector in before}
        n_changed = sum(line not in known for line in lines)
        content = "".join(line + "\n" for line in lines).encode()
        if content != path.read_bytes():
            write_atomically(path, content)
    return Updated(feed=Feed(after), path=path, n_changed=n_changed)


def _check_items(vectors: Sequence[RewardVector], folder: Path) -> None:
    """Raises StateError if items are missing: an update would replace the errors and alarms computed from them by None."""
    lost: list[tuple[RewardVector, str]] = []
    for vector in vectors:
        for component in vector.components:
            where = component.detail.get("items")
            had_items = component.n_clusters is not None or component.change_stderr is not None
            if had_items and not (isinstance(where, str) and read_table(folder / where, ()) is not None):
                lost.append((vector, component.name))
    if lost:
        vector, name = lost[0]
        raise StateError(
            f"{folder}: the items of {len(lost)} measurement(s) are gone or cannot be read, {name} of {label(vector)} first; an update would take "
            f"the errors and alarms that were computed from them. Put them back ({folder / 'items'}), or leave the feed as it is"
        )
