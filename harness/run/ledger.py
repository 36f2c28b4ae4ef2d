"""A run's folder: what is done and what is not. Survives kill -9 at any moment.

run.json         which run this is: schema, run, spec digest, spec
ledger.jsonl     one line per finished measurement, written before any vector uses it
items/           per-item scores, Parquet, one folder per measurement; items/texts/ has what was asked, once
residuals/       the item x checkpoint residuals of long trajectories, a cache
work/            what a measurement in progress keeps, one folder each
rewards.jsonl    the feed, one line per checkpoint (and per row of `vary`)
seen.json        the files that checkpoints had when they were last compared with the feed, a cache
errors.log       tracebacks of unexpected errors
serve/           logs of the servers that were started
.lock            held by the one process that writes
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from harness.core.digest import digest_json
from harness.core.endpoint import How
from harness.core.errors import StateError
from harness.core.held_folder import held_folder
from harness.core.journal import Follower, Journal, write_atomically
from harness.core.measurement import Measurement, Record, is_open
from harness.feed.items import LINK, TEXTS
from harness.feed.lines import FEED_FILE

RUN_SCHEMA = "harness.run/1"
UNCOUNTED = ("device", "batch_tokens", "trust_remote_code", "allow_pickle", "serve", "track")
"""Keys of a spec that a message about another spec leaves out: no part of what is measured, or (`serve`) of served components only."""
Table = Mapping[str, Sequence[Any]]


class Entry(Record):
    """One finished measurement of one component on one set of weights. `table`: its items, until they are stored.

    `host`, `executor`: where and by which executor it was made; None in entries of versions that did not record it.
    """

    key: str
    component: str
    measurement: Measurement
    engine: str | None = None
    dtype: str | None = None
    device: str | None = None
    served: How | None = None
    host: str | None = None
    executor: str | None = None
    items: str | None = None
    started: str
    seconds: float = Field(ge=0)
    table: Any = Field(default=None, exclude=True, repr=False)


def entry_key(fingerprint: str, tokenizer: str | None, definition: str, *, answering: str | None = None) -> str:
    """What makes two measurements the same one: weights, tokenizer and what is measured; never a name or a path.

    `answering`: of a served checkpoint, what else decides its answers (`Opener.serving.answering`); None where nothing does.
    """
    return digest_json([fingerprint, tokenizer, definition, *([] if answering is None else [answering])])


def short(key: str) -> str:
    """The name of a measurement's folder under items/ and work/."""
    return key.removeprefix("sha256:")[:16]


class Ledger:
    """Measurements by key, in memory and on disk. Use `open_run` to get one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.feed = Journal(folder / FEED_FILE)
        self._journal = Journal(folder / "ledger.jsonl")
        self._read = Follower(self._journal.path)
        self._entries: dict[str, Entry] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what was appended to the ledger since it was last read. Raises StateError."""
        if not self._read.continues():
            self._entries = {}
        for number, line in self._read.new():
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError as error:
                raise StateError(
                    f"{self._journal.path} line {number} is not a ledger entry ({error.errors()[0]['msg']}); "
                    "it was written by another version or edited; use another --out"
                ) from error
            self._entries[entry.key] = entry

    def get(self, key: str) -> Entry | None:
        """The finished measurement, if there is one."""
        return self._entries.get(key)

    @property
    def entries(self) -> list[Entry]:
        """Every finished measurement."""
        return list(self._entries.values())

    def products(self, decide: Callable[[str | None], str]) -> str:
        """The library of this run's float32 products: `decide` gets the name stored in run.json (or None); what it returns is stored.

        Raises what `decide` raises, and StateError.
        """
        path = self.folder / "run.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        choice = decide(content.get("products"))
        if content.get("products") != choice:
            write_atomically(path, json.dumps({**content, "products": choice}, indent=2).encode() + b"\n")
        return choice

    def add(self, line: bytes) -> None:
        """Commit a line of another ledger, byte for byte. Raises StateError."""
        self._journal.append(line.decode())
        self.refresh()

    def put(self, entry: Entry) -> Entry:
        """Store per-item scores, then commit the measurement; the entry as stored. Raises StateError.

        A failure, or a measurement that a later attempt may complete, is not committed: it goes into the vector and is never
        reused.
        """
        if entry.table:
            where = f"items/{short(entry.key)}/{entry.component}.parquet"
            write_atomically(self.folder / where, _parquet(*self._without_texts(entry.table)))
            entry = entry.model_copy(update={"items": where})
        if not is_open(entry.measurement):
            self._journal.append(entry.model_dump_json())
            self._read.skip()
            self._entries[entry.key] = entry.model_copy(update={"table": None})
        return entry

    def _without_texts(self, table: Table) -> tuple[Table, str | None]:
        """A table without its texts, which are the same for every checkpoint, and the file that has them (None without any)."""
        texts = {name: table[name] for name in ("id", *TEXTS) if name in table}
        if not texts.keys() - {"id"} or "id" not in texts:
            return table, None
        digest = digest_json([[name, list(column)] for name, column in texts.items()])
        where = f"items/texts/{digest.removeprefix('sha256:')[:16]}.parquet"
        if not (self.folder / where).exists():
            write_atomically(self.folder / where, _parquet(texts))
        return {name: column for name, column in table.items() if name not in TEXTS}, where


def _parquet(items: Table, texts: str | None = None) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    made = pa.table({name: pa.array(list(column)) for name, column in items.items()})
    if texts is not None:
        made = made.replace_schema_metadata({LINK: texts.encode()})
    pq.write_table(made, buffer)
    return buffer.getvalue()


@contextlib.contextmanager
def open_run(
    folder: Path,
    *,
    run: str,
    spec_digest: str,
    spec: dict[str, JsonValue],
    shard: dict[str, JsonValue] | None = None,
    known: Ledger | None = None,
) -> Iterator[Ledger]:
    """Lock the folder for writing. `known`: its ledger from an earlier call, which then reads only what is new.

    `shard`: the part of a run that the folder holds, None for a whole run.

    Raises StateError if the folder is in use, holds another run, or cannot be written.
    """
    with held_folder(folder):
        _claim(folder, run=run, spec_digest=spec_digest, spec=spec, shard=shard)
        if known is None:
            known = Ledger(folder)
        else:
            known.refresh()
        yield known


def _claim(
    folder: Path, *, run: str, spec_digest: str, spec: dict[str, JsonValue], shard: dict[str, JsonValue] | None
) -> None:
    """Write run.json into a new folder; refuse one that holds another run, or another part of it."""
    path = folder / "run.json"
    content: dict[str, JsonValue] = {"schema": RUN_SCHEMA, "run": run, "spec_digest": spec_digest, "spec": spec}
    if not check_run(folder, run=run, spec_digest=spec_digest, spec=spec):
        held = content if shard is None else {**content, "shard": shard}
        write_atomically(path, json.dumps(held, indent=2).encode() + b"\n")
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    before = known.get("shard")
    if (before and before["number"], before and before["of"]) != (shard and shard["number"], shard and shard["of"]):
        what = f"shard {before['number']}/{before['of']} of a run" if before else "a whole run"
        raise StateError(f"{folder} holds {what}; use another --out, one for each shard")
    if before != shard:  # checkpoints have come since
        write_atomically(path, json.dumps({**known, "shard": shard}, indent=2).encode() + b"\n")


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """What differs between two specs, by key, with both values where they are short; components by name."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            if where or key not in UNCOUNTED:
                yield from _differences(before.get(key), now.get(key), f"{where}.{key}" if where else str(key))
        return
    if where == "components" and isinstance(before, list) and isinstance(now, list):
        then, here = ({one["name"]: one for one in some} for some in (before, now))
        for name in dict.fromkeys([*then, *here]):
            if name not in here or name not in then:
                yield f"component {name} ({'not here' if name not in here else 'new'})"
            else:
                yield from _differences(then[name], here[name], f"{name}")
        return
    if before != now:
        values = [json.dumps(one) for one in (before, now)]
        yield where if max(map(len, values)) > 40 else f"{where} {values[0]}, here {values[1]}"


def check_run(folder: Path, *, run: str | None, spec_digest: str, spec: Mapping[str, JsonValue] | None = None) -> bool:
    """Whether the folder holds this run already; false for a new folder. Raises StateError for one with another run.

    `run` None: whatever its name. `spec`: to say what of it differs.
    """
    path = folder / "run.json"
    if not path.exists():
        if (folder / FEED_FILE).exists():
            raise StateError(
                f"{folder} has a {FEED_FILE} but no run.json, so it is not a run of ours; use another --out"
            )
        return False
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        schema, digest, name = known["schema"], known["spec_digest"], known["run"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"cannot read {path} ({error}); restore it or use another --out") from error
    if schema != RUN_SCHEMA:
        raise StateError(f"{folder} was written by another version ({schema}); use another --out")
    if digest != spec_digest:
        other = [] if spec is None else list(_differences(known.get("spec"), spec))
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        what = f"{', '.join(other[:4])}{more}" if other else "the content of its data, or of its reference"
        raise StateError(f"{folder} holds a run of another spec; what differs: {what}. Use another --out")
    if run is not None and name != run:
        raise StateError(f"{folder} holds run {name!r}, not {run!r}; use another --out or the same --run")
    return True
