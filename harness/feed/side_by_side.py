"""Several feeds for one table or plot: trajectories renamed apart, and a warning for what must not be compared.

Computes no reward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.core.errors import DataError
from harness.feed.feed import Feed, read_feed
from harness.reward_models.logprob import METRIC
from harness.reward_models.reference import definitions_of


def read_feeds(paths: Sequence[Path]) -> list[Feed]:
    """Each feed; a trajectory whose name stands in several gets its folder's name before it. Raises DataError."""
    resolved = [path.resolve() for path in paths]
    folders = [path if path.is_dir() else path.parent for path in resolved]
    if len(set(folders)) < len(folders):
        twice = next(path for path, folder in zip(paths, folders, strict=True) if folders.count(folder) > 1)
        raise DataError(f"{twice} is named twice; name each feed once")
    feeds = [read_feed(path) for path in paths]
    names = [name for feed in feeds for name in feed.trajectories]
    if len(set(names)) == len(names):
        return feeds
    depth = next(
        depth
        for depth in range(1, 1 + max(len(f.parts) for f in folders))
        if len({f.parts[-depth:] for f in folders}) == len(folders)
    )
    return [
        Feed(
            [
                vector.model_copy(update={"trajectory": _told_apart(vector.trajectory, names, folder, depth)})
                for vector in feed
            ]
        )
        for feed, folder in zip(feeds, folders, strict=True)
    ]


def _told_apart(name: str, names: Sequence[str], folder: Path, depth: int) -> str:
    return name if names.count(name) < 2 else "/".join((*folder.parts[-depth:], name))


def differences(feeds: Sequence[Feed]) -> Iterator[str]:
    """What must not be compared between the feeds, and why: one sentence each."""
    definitions: dict[str, set[str | None]] = {}
    tokenizers: set[str | None] = set()
    references: set[str | None] = set()
    for feed in feeds:
        for vector in feed:
            for name, definition in definitions_of(vector).items():
                if not vector.variables:
                    definitions.setdefault(name, set()).add(definition)
            references.add(vector.reference.id)
            if METRIC in {component.metric for component in vector.components}:
                tokenizers.add(vector.checkpoint.tokenizer)
    if len(feeds) < 2:
        return
    unlike = [name for name, found in definitions.items() if len(found - {None}) > 1]
    if unlike:
        yield f"not the same in every feed: {', '.join(unlike)} (another field, template, limit or revision); do not compare these columns"
    if len(tokenizers - {None}) > 1:
        yield f"the checkpoints have different tokenizers, and {METRIC} is per token; compare their bits per byte"
    if len(references) > 1:
        yield "z, scalar and gain_standardized are standardised by different references; compare raw values"
