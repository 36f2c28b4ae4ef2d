"""Shards of a run put together: the feed, ledger and files of a run that was never split. Measures nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import StateError
from harness.core.journal import Journal, write_atomically
from harness.core.place import Place
from harness.core.vector import RewardVector
from harness.feed.feed import Feed
from harness.feed.lines import FEED_FILE, read_vectors
from harness.run.items import RunItems
from harness.run.ledger import RUN_SCHEMA, open_run
from harness.run.vectors import rebuilt

COPIED = ("items", "work")
"""Folders of a run that its vectors name files in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What `merge` made. `products`: the libraries of float32 products that the shards used, more than one where they differ."""

    feed: Feed
    path: Path
    n_shards: int
    products: tuple[str, ...]


def merge(out: Path, shards: Sequence[Path]) -> Merged:
    """Write the run that the shards are of into `out`; again gives the same. Raises StateError or DataError.

    Every shard has to be there and finished, and all of one run: otherwise nothing is written.
    """
    heads = [_head(folder) for folder in shards]
    first = heads[0]
    for folder, head in zip(shards, heads, strict=True):
        for key, words in (("spec_digest", "another spec"), ("run", "another name"), ("shard", "another whole")):
            if _compared(head, key) != _compared(first, key):
                raise StateError(f"{folder} is a shard of {words} than {shards[0]}; merge shards of one command")
    numbers = {head["shard"]["number"]: folder for folder, head in zip(shards, heads, strict=True)}
    missing = [str(number) for number in range(1, first["shard"]["of"] + 1) if number not in numbers]
    if missing or len(numbers) < len(shards):
        what = (
            f"shard {', '.join(missing)} of {first['shard']['of']} is missing" if missing else "a shard is there twice"
        )
        raise StateError(f"{what}; name the folder of each shard once")
    places = [Place(*place) for place in first["shard"]["places"]]
    vectors: dict[Place, RewardVector] = {}
    for folder in shards:
        vectors |= {vector.place: vector for vector in read_vectors(folder / FEED_FILE)}
    absent = [place for place in places if place not in vectors]
    if absent:
        raise StateError(
            f"{len(absent)} of {len(places)} vector(s) are not measured yet, the first of {absent[0].trajectory} step "
            f"{absent[0].step}; run the shards to their end"
        )
    products = tuple(dict.fromkeys(str(head["products"]) for head in heads if head.get("products")))
    feed = gather(
        out, shards, head=first, run=first["run"], vectors=[vectors[place] for place in places], products=products
    )
    return Merged(feed=Feed(feed), path=out / FEED_FILE, n_shards=len(shards), products=products)


def gather(
    out: Path, folders: Sequence[Path], *, head: dict[str, Any], run: str, vectors: Sequence[RewardVector], products: Sequence[str]
) -> list[RewardVector]:  # fmt: skip
    """Write the run whose parts lie in `folders` into `out`: their items and ledgers, and the vectors by trajectory and step.

    `head`: the run.json of one of them. Again gives the same. Raises StateError.
    """
    with open_run(out, run=run, spec_digest=head["spec_digest"], spec=head["spec"]) as ledger:
        for folder in folders:
            for name in COPIED:
                _copy(folder / name, out / name)
            for _, line in Journal(folder / "ledger.jsonl").lines():
                if ledger.get(json.loads(line)["key"]) is None:
                    ledger.add(line)
        if products:
            ledger.products(lambda _: products[0])
        whole = {vector.place: vector for vector in rebuilt(vectors, RunItems(out))}
        feed = [whole[vector.place] for vector in vectors]
        write_atomically(out / FEED_FILE, "".join(vector.to_line() + "\n" for vector in feed).encode())
    return feed


def _head(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        head: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if head["schema"] == RUN_SCHEMA and {"number", "of", "places"} <= head["shard"].keys():
            return head
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise StateError(f"{folder} holds no shard (run.json of `harness score --shard`); name the folders that it wrote")


def _compared(head: dict[str, Any], key: str) -> Any:
    return (head["shard"]["of"], head["shard"]["places"]) if key == "shard" else head[key]


def _copy(source: Path, target: Path) -> None:
    """Every file that is not there yet, as a link where the file system allows it."""
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if path.is_dir() or there.exists():
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, there)
        except OSError:
            shutil.copyfile(path, there)
