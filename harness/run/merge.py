"""Shards of a run put together: the feed, ledger and files of a run that was never split. Measures nothing."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import StateError
from harness.core.journal import Journal, write_atomically, write_failure
from harness.core.measurement import Measurement
from harness.core.place import Place
from harness.core.vector import RewardVector
from harness.feed.feed import Feed
from harness.feed.lines import FEED_FILE, read_vectors
from harness.reward_models.reference import label
from harness.run.items import RunItems
from harness.run.ledger import RUN_SCHEMA, open_run, short
from harness.run.vectors import rebuilt

COPIED = ("items", "work")
"""Subfolders of a run, each with a folder per measurement, that its vectors refer to."""
TEXTS_FOLDER = "texts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What `merge` wrote. `products`: the libraries of float32 products that the shards used, more than one where they differ."""

    feed: Feed
    path: Path
    n_shards: int
    products: tuple[str, ...]


def merge(out: Path, shards: Sequence[Path]) -> Merged:
    """Write the run that the shards are parts of into `out`. Idempotent. Raises StateError or DataError.

    All shards of one run have to be given and finished: otherwise nothing is written.
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
        for vector in read_vectors(folder / FEED_FILE):
            known = vectors.setdefault(
                vector.place, vector
            )  # in two, where checkpoints came between two runs of a shard
            if (
                None not in (prints := {known.checkpoint.fingerprint, vector.checkpoint.fingerprint})
                and len(prints) > 1
            ):
                raise StateError(
                    f"{label(vector)} has other weights in {folder} than in another shard; measure the shards again, each with "
                    "a new --out"
                )
            if _further(vector, known):
                vectors[vector.place] = vector
    absent = [place for place in places if place not in vectors]
    if absent:
        raise StateError(
            f"{len(absent)} of {len(places)} vector(s) are not measured yet, the first of {absent[0].trajectory} step "
            f"{absent[0].step}; run the shards to their end"
        )
    _check_behind(out, vectors, places)
    shards = [numbers[number] for number in sorted(numbers)]
    products = tuple(dict.fromkeys(str(head["products"]) for head in heads if head.get("products")))
    feed = gather(
        out, shards, head=first, run=first["run"], vectors=[vectors[place] for place in places], products=products
    )
    return Merged(feed=Feed(feed), path=out / FEED_FILE, n_shards=len(shards), products=products)


def gather(
    out: Path, folders: Sequence[Path], *, head: dict[str, Any], run: str, vectors: Sequence[RewardVector], products: Sequence[str]
) -> list[RewardVector]:  # fmt: skip
    """Write the run whose parts are in `folders` into `out`: their items and ledgers, and the vectors by trajectory and step.

    `head`: the run.json of one of them. Idempotent. Raises StateError.
    """
    with open_run(out, run=run, spec_digest=head["spec_digest"], spec=head["spec"]) as ledger:
        owners: dict[str, Path] = {}
        for folder in folders:
            for _, line in Journal(folder / "ledger.jsonl").lines():
                key = json.loads(line)["key"]
                owners.setdefault(short(key), folder)
                if ledger.get(key) is None:
                    ledger.add(line)
        for folder in folders:
            for name in COPIED:
                for path in sorted((folder / name).glob("*")):
                    if path.name == TEXTS_FOLDER or owners.setdefault(path.name, folder) == folder:
                        _copy(path, out / name / path.name)
        stored = {entry.items: entry.measurement for entry in ledger.entries if entry.items is not None}
        vectors = [_measured_once(vector, stored) for vector in vectors]
        if products:
            ledger.products(lambda _: products[0])
        whole = {vector.place: vector for vector in rebuilt(vectors, RunItems(out))}
        feed = [whole[vector.place] for vector in vectors]
        write_atomically(out / FEED_FILE, "".join(vector.to_line() + "\n" for vector in feed).encode())
    return feed


def _measured_once(vector: RewardVector, stored: Mapping[str, Measurement]) -> RewardVector:
    """The vector with the measurements whose items were kept, where two shards measured equal weights.

    `stored`: by file of items.
    """
    components = []
    for component in vector.components:
        where = component.detail.get("items")
        known = stored.get(where) if isinstance(where, str) else None
        if known is not None and (known.raw, known.n_scored) != (component.raw, component.n_scored):
            now = {name: getattr(known, name) for name in Measurement.model_fields}
            component = component.model_copy(update={**now, "detail": {**known.detail, "items": where}})
        components.append(component)
    return vector.model_copy(update={"components": components})


def _further(one: RewardVector, other: RewardVector | None) -> bool:
    """Whether a vector has more items scored than the other, in any component."""
    scored = {} if other is None else {component.name: component.n_scored for component in other.components}
    return any(component.n_scored > scored.get(component.name, 0) for component in one.components)


def _check_behind(out: Path, vectors: Mapping[Place, RewardVector], places: Sequence[Place]) -> None:
    """Refuse to overwrite what was measured in the merged folder itself. Raises StateError."""
    path = out / FEED_FILE
    known = read_vectors(path) if path.exists() else []
    wanted = set(places)
    more = [one for one in known if one.place not in wanted or _further(one, vectors[one.place])]
    if more:
        raise StateError(
            f"{out} holds more than the shards do: {len(more)} vector(s) that were measured there, {label(more[0])} first; "
            "merge into a new folder"
        )


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
    """Copy a file, or every file of a folder, each atomically; as a hard link where the file system allows it."""
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        there = target / path.relative_to(source)
        if path.is_dir() or (there.exists() and (there.samefile(path) or filecmp.cmp(path, there, shallow=False))):
            continue
        temporary = there.with_name(f".{there.name}.{os.getpid()}.tmp")
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            try:
                os.link(path, temporary)
            except OSError:
                shutil.copyfile(path, temporary)
            temporary.replace(there)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise write_failure(there, error) from error
