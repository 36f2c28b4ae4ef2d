"""What a run would do, without doing it: requests, tokens, and how long it may take. Loads tokenizers, no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.checkpoints.open import Opener
from harness.checkpoints.whole import Size, check_whole
from harness.core.checkpoint import Checkpoint
from harness.core.component import Component, Estimate
from harness.core.errors import CheckpointError, DataError, HarnessError, SpecError, StateError
from harness.feed.lines import FEED_FILE, read_vectors
from harness.run.ledger import Entry, Ledger, check_run
from harness.spec.prepared import Prepared, Row
from harness.track.kinds import trackers_of

FLOPS_PER_PARAMETER = 2
"""Of a forward pass, per token; attention is left out."""
SHARE_OF_PEAK = 0.5
"""What scoring reaches of a large matrix product's speed (docs/performance.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One component, over every checkpoint that is left. Tokens and seconds are None where they cannot be known.

    `seconds_from`: `earlier` measurements of the run folder, or `size` of the models and this machine's speed.
    """

    component: str
    kind: str
    n_checkpoints: int
    requests: int
    prompt_tokens: int | None
    generated_tokens: int | None
    seconds: float | None
    seconds_from: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is left to do. `broken`: checkpoints that will become failed vectors, and why. `stopped_by`: why the run would not begin."""

    n_checkpoints: int
    n_done: int
    lines: tuple[Line, ...]
    broken: dict[str, str]
    stopped_by: str | None = None


def forecast(
    prepared: Prepared, checkpoints: Sequence[Checkpoint], *, out: Path, run_name: str | None = None
) -> Forecast:
    """Look at everything, measure nothing, write nothing.

    Tokens are counted with the tokenizer of the first checkpoint that a component can be measured on.
    Raises HarnessError for what would stop the run.
    """
    spec = prepared.spec
    opener = Opener(spec.opening)
    stopped_by = None
    try:
        opener.check(served=prepared.served)
        trackers_of(spec.track, folder=out)
        check_run(out, run=run_name or prepared.run, spec_digest=prepared.digest, spec=spec.as_json())
    except (SpecError, StateError) as error:  # a plan may be made on another machine than the one that serves
        stopped_by = str(error)
    places = {vector.place for vector in read_vectors(out / FEED_FILE)}
    left: dict[Path, Checkpoint] = {}
    sizes: dict[Path, Size] = {}
    broken: dict[str, str] = {}
    for checkpoint in checkpoints:
        if all(row.place(checkpoint) in places for row in prepared.rows):
            continue
        try:
            sizes[checkpoint.folder] = check_whole(checkpoint, allow_pickle=spec.allow_pickle)
            left[checkpoint.folder] = checkpoint
        except CheckpointError as error:
            broken[checkpoint.label] = str(error)
    ahead = list(left.values())
    earlier = _earlier(out)
    lines = []
    for row in prepared.rows:
        for component in row.components:
            alike = [other for other in prepared.rows if _same(component.config.name, row, other)]
            if row is not alike[0]:
                continue  # measured once, used in every row
            here = [item for item in ahead if any(other.place(item) not in places for other in alike)]
            suffix = row.suffix if len(alike) == 1 else ""
            here_sizes = [sizes[item.folder] for item in here]
            lines.append(_line(component, suffix, here, here_sizes, opener, spec.device, earlier))
    return Forecast(
        n_checkpoints=len(checkpoints),
        n_done=len(checkpoints) - len(ahead) - len(broken),
        lines=tuple(lines),
        broken=broken,
        stopped_by=stopped_by,
    )


def _same(name: str, row: Row, other: Row) -> bool:
    """Whether the variables leave a component as it is between two rows."""
    return row.definitions[name] == other.definitions[name]


def _line(
    component: Component,
    suffix: str,
    checkpoints: Sequence[Checkpoint],
    sizes: Sequence[Size],
    opener: Opener,
    device: str,
    earlier: dict[str, float],
) -> Line:
    estimate = Estimate(requests=0, prompt_tokens=0, generated_tokens=0)
    for item in checkpoints:
        try:
            with opener.open(item) as subject:
                estimate = component.estimate(subject)
            break
        except (CheckpointError, DataError):  # in a run this is a failed measurement: try the next checkpoint
            if item is checkpoints[-1]:
                raise
    n = len(checkpoints)
    name = component.config.name
    seconds, whence = None, None
    if name in earlier:
        seconds, whence = earlier[name] * n, "earlier"
    elif not component.served and estimate.prompt_tokens is not None:
        seconds, whence = _seconds(estimate.prompt_tokens, sizes, device), "size"
    return Line(
        component=name + suffix,
        kind=component.config.kind,
        n_checkpoints=n,
        requests=estimate.requests * n,
        prompt_tokens=None if estimate.prompt_tokens is None else estimate.prompt_tokens * n,
        generated_tokens=None if estimate.generated_tokens is None else estimate.generated_tokens * n,
        seconds=seconds,
        seconds_from=whence,
    )


def _seconds(tokens: int, sizes: Sequence[Size], device: str) -> float:
    from harness.engines.scoring.pace import flops_per_s

    flops = sum(FLOPS_PER_PARAMETER * size.n_parameters * tokens for size in sizes)
    return flops / (flops_per_s(device) * SHARE_OF_PEAK)


def _earlier(out: Path) -> dict[str, float]:
    """Mean seconds of each component in the run folder."""
    try:
        entries: list[Entry] = Ledger(out).entries if (out / "ledger.jsonl").exists() else []
    except HarnessError:
        return {}
    times: dict[str, list[float]] = {}
    for entry in entries:
        times.setdefault(entry.component, []).append(entry.seconds)
    return {name: sum(values) / len(values) for name, values in times.items()}
