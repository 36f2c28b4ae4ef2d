"""Everything that can be found out in seconds about a spec and its checkpoints, before any model is loaded.

Each finding is a value (core/component.py: Check). Nothing is written but the cache of token ids, and a failed finding stops nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.finite import first_non_finite
from harness.checkpoints.open import Opener
from harness.checkpoints.step_names import Numbered
from harness.checkpoints.whole import Size, check_whole
from harness.core.checkpoint import Checkpoint
from harness.core.component import Check, Component
from harness.core.errors import CheckpointError, HarnessError
from harness.feed.lines import FEED_FILE, read_vectors
from harness.run.ledger import check_run
from harness.spec.kinds import component_class
from harness.spec.prepared import Prepared, prepare
from harness.spec.spec import Spec
from harness.track.kinds import trackers_of

GIB = 2**30
HASHED_AT_MOST = 2 * GIB
"""Bytes of weights whose fingerprints are computed; more would take longer than a diagnosis should."""
LEAST_FREE = GIB
"""Bytes of disk below which a run is likely to end in a full one."""
ROOM = 1.2
"""Weights, and what a forward pass needs beside them, over the weights alone."""


def examine(
    spec: Spec,
    arguments: Sequence[str],
    *,
    out: Path | None = None,
    base: str | None = None,
    numbered: Numbered = "ask",
) -> Iterator[Check]:
    """Findings in the order in which a run would meet them; a failed one does not hide what comes after it."""
    try:
        prepared = prepare(spec)
    except HarnessError as error:
        yield Check(name="spec", ok=False, words=str(error))
        yield from _others(spec, str(error))
        return
    yield Check(name="spec", ok=True, words=f"{len(spec.components)} component(s), {prepared.n_items} items")
    yield from _components(prepared)
    yield from _trackers(spec, out or Path("results"))
    yield from _disk(out or Path("results"))
    if out is not None:
        yield from _run_folder(prepared, out)
    if arguments:
        yield from _checkpoints(prepared, arguments, out, base, numbered)
    else:
        yield Check(name="checkpoints", ok=None, words="none given, so nothing about them was checked")


def _components(prepared: Prepared) -> Iterator[Check]:
    """The findings of each component of every row; equal findings of several rows are reported once."""
    said: set[tuple[str, bool | None, str]] = set()
    for row in prepared.rows:
        for component in row.components:
            name = component.config.name
            try:
                checks = list(component.checks())
            except HarnessError as error:
                checks = [Check(name=name, ok=False, words=str(error))]
            for check in checks:
                if (check.name, check.ok, check.words) not in said:
                    said.add((check.name, check.ok, check.words))
                    yield replace(check, name=check.name + row.suffix)


def _trackers(spec: Spec, out: Path) -> Iterator[Check]:
    for words in spec.track:
        try:
            trackers_of([words], folder=out)
        except HarnessError as error:
            yield Check(name=f"tracker {words}", ok=False, words=str(error))
        else:
            yield Check(name=f"tracker {words}", ok=True, words="it can be written to, as far as can be told")


def _others(spec: Spec, first: str) -> Iterator[Check]:
    """The errors of the components besides the one that stopped the spec, one by one."""
    for config in spec.components:
        try:
            component_class(config.kind).load(config, spec.defaults)
        except HarnessError as error:
            if str(error) != first:
                yield Check(name=config.name, ok=False, words=str(error))


def _checkpoints(
    prepared: Prepared, arguments: Sequence[str], out: Path | None, base: str | None, numbered: Numbered
) -> Iterator[Check]:
    spec = prepared.spec
    try:
        found = find_checkpoints(
            arguments,
            base=base,
            numbered=numbered,
            allow_pickle=spec.allow_pickle,
            trust_remote_code=spec.trust_remote_code,
        )
    except HarnessError as error:
        yield Check(name="checkpoints", ok=False, words=str(error))
        return
    sizes: dict[str, Size] = {}
    for checkpoint in found:
        try:
            sizes[checkpoint.label] = check_whole(checkpoint, allow_pickle=spec.allow_pickle)
        except HarnessError as error:
            yield Check(name=checkpoint.label, ok=False, words=str(error))
    whole = [checkpoint for checkpoint in found if checkpoint.label in sizes]
    n_bytes = sum(size.n_bytes for size in sizes.values())
    yield Check(
        name="checkpoints",
        ok=bool(whole) or None,
        words=f"{len(whole)} of {len(found)} whole, {n_bytes / GIB:.2f} GiB of weights",
    )
    if not whole:
        return
    opener = Opener(spec.opening)
    yield from _server(prepared, opener, whole)
    yield from _device(opener, max(size.n_bytes for size in sizes.values()))
    yield from _tokenizers(prepared, opener, whole)
    yield from _weights(opener, whole, n_bytes)
    yield from _fingerprints(prepared, opener, whole, n_bytes, out)


def _weights(opener: Opener, checkpoints: Sequence[Checkpoint], n_bytes: int) -> Iterator[Check]:
    """Whether every tensor has its place in the model and its shape, and, where reading takes seconds, every number is finite."""
    finite: dict[Path, str | None] = {}
    refused, n_files = 0, 0
    for checkpoint in checkpoints:
        try:
            files = opener.models.files(checkpoint)
            n_files += len(files)
            opener.models.dry_load(checkpoint)
            for file in files if n_bytes <= HASHED_AT_MOST else ():
                if file not in finite:
                    finite[file] = first_non_finite([file])
                if (weight := finite[file]) is not None:
                    raise CheckpointError(f"weight {weight} in {file} holds NaN or infinity; the checkpoint is broken")
        except HarnessError as error:
            refused += 1
            yield Check(name=checkpoint.label, ok=False, words=str(error))
    if n_files and not refused:
        numbers = (
            "every number finite"
            if n_bytes <= HASHED_AT_MOST
            else f"numbers not looked at: {n_bytes / GIB:.0f} GiB take too long to read"
        )
        yield Check(name="weights", ok=True, words=f"every tensor has its place, {numbers}")


def _tokenizers(prepared: Prepared, opener: Opener, checkpoints: Sequence[Checkpoint]) -> Iterator[Check]:
    """Whether each tokenizer loads, and has a chat template where something asks through one."""
    chatting = _names(c for c in prepared.components if c.chats and not prepared.spec.serve.chat_template)
    encoding = {repr(c.definition): c for c in prepared.components if c.rank == 0}
    identities: dict[str, str] = {}
    for checkpoint in checkpoints:
        try:
            tokenizer, identity, _ = opener.tokenizers.load(checkpoint)
        except HarnessError as error:
            yield Check(name=checkpoint.label, ok=False, words=str(error))
            continue
        first = identity not in identities
        identities.setdefault(identity, checkpoint.label)
        if first and chatting and not tokenizer.chat_template:
            yield Check(
                name="chat template",
                ok=False,
                words=f"none in {checkpoint.label}, and one is needed for {', '.join(chatting)}; "
                "name one with serve.chat_template",
            )
        if first:
            yield from _encoded(opener, checkpoint, encoding.values())
    if identities:
        differ = " (scores per token do not compare between them)" if len(identities) > 1 else ""
        yield Check(
            name="tokenizer", ok=True if not differ else None, words=f"{len(identities)} different one(s){differ}"
        )


def _encoded(opener: Opener, checkpoint: Checkpoint, components: Iterable[Component]) -> Iterator[Check]:
    """Whether a checkpoint's tokenizer and chat template can encode the fields; the token ids are cached on disk for the run."""
    with opener.open(checkpoint) as subject:
        for component in components:
            try:
                component.estimate(subject)
            except HarnessError as error:
                yield Check(name=component.config.name, ok=False, words=f"{checkpoint.label}: {error}")


def _server(prepared: Prepared, opener: Opener, checkpoints: Sequence[Checkpoint]) -> Iterator[Check]:
    """The server's command or address, and for every checkpoint whether it can be served and how its tool calls are read."""
    served = [component for component in prepared.components if component.served]
    if not served:
        return
    settings = prepared.spec.serve
    try:
        yield Check(name="server", ok=True, words=opener.serving.find_server())
    except HarnessError as error:
        yield Check(name="server", ok=False, words=str(error))
    if settings.url:
        return
    calling = _names(component for component in served if component.calls_tools)
    parsers: dict[str | None, list[str]] = {}
    for checkpoint in checkpoints:
        try:
            opener.serving.check(checkpoint, chats=False, calls=False)
            if calling and not settings.tool_call_parser:
                parsers.setdefault(opener.serving.tool_parser(checkpoint), []).append(checkpoint.label)
        except HarnessError as error:
            yield Check(name=checkpoint.label, ok=False, words=str(error))
    for parser, labels in parsers.items():
        others = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        yield Check(
            name="tool parser",
            ok=parser is not None,
            words=f"{parser} reads the calls of {labels[0]}{others}"
            if parser
            else f"none is known for {labels[0]}{others}, and calls have to be read for {', '.join(calling)}; name one with "
            "serve.tool_call_parser",
        )


def _names(components: Iterable[Component]) -> list[str]:
    """The components' names, each once, whatever the number of rows."""
    return list(dict.fromkeys(component.config.name for component in components))


def _fingerprints(
    prepared: Prepared, opener: Opener, checkpoints: Sequence[Checkpoint], n_bytes: int, out: Path | None
) -> Iterator[Check]:
    """Whether the weights are those that the run folder's feed was measured on, in the place of any row."""
    path = None if out is None else out / FEED_FILE
    if path is None or not path.exists():
        return
    if n_bytes > HASHED_AT_MOST:
        yield Check(name="fingerprints", ok=None, words=f"not compared: {n_bytes / GIB:.0f} GiB take too long to read")
        return
    try:
        known = {vector.place: vector.checkpoint.fingerprint for vector in read_vectors(path)}
        measured = {
            checkpoint.label: (checkpoint, fingerprints)
            for checkpoint in checkpoints
            if (fingerprints := {found for row in prepared.rows if (found := known.get(row.place(checkpoint)))})
        }
        others = [
            label
            for label, (checkpoint, fingerprints) in measured.items()
            if fingerprints != {opener.identifier.identify(checkpoint).fingerprint}
        ]
    except HarnessError as error:
        yield Check(name="fingerprints", ok=False, words=str(error))
        return
    if measured:
        words = f"other weights than the feed's: {', '.join(others)}; use another --out" if others else "as in the feed"
        yield Check(name="fingerprints", ok=not others, words=f"{len(measured)} compared, {words}")


def _device(opener: Opener, largest: int) -> Iterator[Check]:
    """Whether the largest checkpoint fits the memory of where it is scored."""
    from harness.engines.models.load import choose_device, free_memory

    try:
        device = choose_device(opener.options.device)
    except HarnessError as error:
        yield Check(name="device", ok=False, words=str(error))
        return
    free = free_memory(device)
    needed = largest * ROOM
    yield Check(
        name=f"memory of {device}",
        ok=needed <= free,
        words=f"{free / GIB:.1f} GiB free, the largest checkpoint needs about {needed / GIB:.2f} GiB",
    )


def _run_folder(prepared: Prepared, out: Path) -> Iterator[Check]:
    """Whether the folder is new, or holds a run of this very spec (whatever the run's name)."""
    try:
        known = check_run(out, run=None, spec_digest=prepared.digest, spec=prepared.spec.as_json())
    except HarnessError as error:
        yield Check(name="run folder", ok=False, words=str(error))
        return
    yield Check(name="run folder", ok=True, words=f"{out} holds a run of this spec" if known else f"{out} is new")


def _disk(out: Path) -> Iterator[Check]:
    folder = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not folder.is_dir():
        yield Check(name="disk", ok=False, words=f"{folder} is a file, so no run folder can be made at {out}")
        return
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    words = f"{free / GIB:.1f} GiB free at {out}" + ("" if writable else ", which cannot be written to")
    yield Check(name="disk", ok=writable and free >= LEAST_FREE, words=words)
