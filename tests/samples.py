"""Small reward vectors for tests, made by the code that makes real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.component import ComponentConfig
from harness.core.measurement import Measurement, failed
from harness.core.place import suffix
from harness.core.vector import CheckpointRecord, Mixture, Provenance, RewardVector
from harness.feed.feed import Feed
from harness.reward_models.evidence import Evidence
from harness.reward_models.vector import Standardization, build_vector

RUNNING = Standardization(mode="running")
NONE = Standardization(mode="none")


def measurement(raw: float | None = -2.5, stderr: float | None = 0.1, **changes: Any) -> Measurement:
    """A whole log-prob measurement of ten pairs; a failed one for None."""
    if raw is None:
        return failed("logprob_per_token", "the checkpoint is broken", n_items=10)
    settings: dict[str, Any] = {
        "metric": "logprob_per_token",
        "raw": raw,
        "stderr": stderr,
        "n_items": 10,
        "n_scored": 10,
        "status": "ok",
        "detail": {"bits_per_byte": -raw / 3, "n_tokens": 120, "n_bytes": 480},
    }
    return Measurement(**{**settings, **changes})


def provenance(definitions: Mapping[str, str | None], *, spec: str = "sha256:spec-1") -> Provenance:
    """Of a scoring run on a CPU."""
    return Provenance(
        harness="0.1.0",
        spec=spec,
        engine="torch",
        dtype="float32",
        device="cpu",
        packages={"torch": "2.13.0"},
        tasks={name: {"definition": definition} for name, definition in definitions.items()},
        seed=0,
        started="2026-01-02T03:04:05.678+00:00",
        seconds=1.5,
    )


def vector(
    raws: Mapping[str, float | Measurement | None],
    *,
    step: int | None = 0,
    trajectory: str = "a",
    history: Sequence[RewardVector] = (),
    standardization: Standardization = RUNNING,
    weights: Sequence[float] | None = None,
    mixture: Mapping[str, float] | None = None,
    definitions: Mapping[str, str | None] | None = None,
    spec: str = "sha256:spec-1",
    evidence: Evidence | None = None,
    sources: Mapping[str, float | None] | None = None,
) -> RewardVector:
    """The vector of one checkpoint from raw values (or whole measurements) by component name.

    `sources`: which of them are, with their allowed loss.
    """
    place = f"{trajectory}/checkpoint-{step}"
    return build_vector(
        run="test",
        trajectory=trajectory,
        step=step,
        checkpoint=CheckpointRecord(path=place, kind="full", fingerprint=f"sha256:{place}"),
        mixture=None if mixture is None else Mixture.parse(mixture),
        variables={},
        configs=[
            ComponentConfig(name=name, kind="logprob", role="source", allowed_loss=sources[name])
            if sources and name in sources
            else ComponentConfig(name=name, kind="logprob")
            for name in raws
        ],
        weights=[1 / len(raws)] * len(raws) if weights is None else weights,
        measurements=[raw if isinstance(raw, Measurement) else measurement(raw) for raw in raws.values()],
        standardization=standardization,
        history=[earlier for earlier in history if earlier.trajectory == trajectory],
        provenance=provenance(definitions or {name: f"sha256:{name}" for name in raws}, spec=spec),
        evidence=evidence,
    )


def seen(item: RewardVector, tokens: int | None, *, sizes: Sequence[float] | None = None) -> RewardVector:
    """The vector with the tokens its run has seen, and sizes of its domains."""
    record = item.checkpoint.model_copy(update={"tokens_seen": tokens})
    mixture = item.mixture if item.mixture is None else item.mixture.model_copy(update={"sizes": sizes})
    return item.model_copy(update={"checkpoint": record, "mixture": mixture})


def varied(item: RewardVector, **variables: Any) -> RewardVector:
    """The vector as one of those that a spec's `vary` makes of a checkpoint."""
    trajectory = f"{item.trajectory}{suffix(variables)}"
    return item.model_copy(update={"variables": variables, "trajectory": trajectory})


def feed(*rows: Mapping[str, float | None], trajectory: str = "a", **settings: Any) -> Feed:
    """A trajectory with a vector per row, at steps 0, 10, 20, ..."""
    vectors: list[RewardVector] = []
    for index, raws in enumerate(rows):
        vectors.append(vector(raws, step=10 * index, trajectory=trajectory, history=vectors, **settings))
    return Feed(vectors)


def write(vectors: Sequence[RewardVector], path: Path) -> Path:
    """A feed file."""
    path.write_text("".join(item.to_line() + "\n" for item in vectors), encoding="utf-8")
    return path


def as_json(item: RewardVector) -> dict[str, Any]:
    """A vector as the JSON object that stands in a feed, to be broken by a test."""
    value: dict[str, Any] = json.loads(item.to_line())
    return value
