"""From the measurements of one checkpoint to its reward vector: standardise, shrink, weigh, subtract. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from harness.core.component import ComponentConfig
from harness.core.errors import SpecError
from harness.core.measurement import Measurement
from harness.core.vector import (
    CheckpointRecord,
    ComponentRecord,
    Mixture,
    Provenance,
    ReferenceMode,
    ReferenceRecord,
    RewardVector,
)
from harness.reward_models.reference import Reference, label
from harness.reward_models.statistics import Spread, reliability, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardization:
    """Which mean and standard deviation to use: those of a reference, of the trajectory so far, or none."""

    mode: ReferenceMode
    reference: Reference | None = None

    def check(self, definitions: Mapping[str, str]) -> None:
        """Refuse a reference that was fitted on something else. Raises SpecError."""
        if self.reference is None:
            return
        for name, definition in definitions.items():
            component = self.reference.component(name)
            if component is None:
                known = ", ".join(c.name for c in self.reference.components)
                raise SpecError(
                    f"the reference has no component {name!r} (it has {known}); fit it again with this spec"
                )
            if component.definition is not None and component.definition != definition:
                raise SpecError(
                    f"the reference was fitted on another {name!r}: its field, template or revision changed since; "
                    "fit it again with this spec"
                )

    def spread(self, name: str, measured: Sequence[float]) -> Spread | None:
        """What standardises a component that was `measured` so far in its trajectory, this checkpoint included.

        Running statistics are those of Algorithm 2; null where there are fewer than two values.
        """
        if self.reference is not None:
            fitted = self.reference.component(name)
            return None if fitted is None else Spread(fitted.mean, fitted.std)
        return spread(measured) if self.mode == "running" and len(measured) >= 2 else None

    def n_vectors(self, so_far: int) -> int:
        """How many vectors the statistics come from; `so_far` in this trajectory."""
        if self.reference is not None:
            return self.reference.n
        return so_far if self.mode == "running" else 0


def standardize(raw: float | None, known: Spread | None, *, higher_is_better: bool) -> float | None:
    """(raw - mean) / std, negated where lower is better; null where undefined (nothing measured, nothing varies)."""
    if raw is None or known is None or known.std <= 0:
        return None
    z = (raw - known.mean) / known.std
    if not math.isfinite(z):
        return None
    return z if higher_is_better else -z


def weighted_sum(components: Sequence[ComponentRecord]) -> float | None:
    """sum_i lambda_i Score_i (Eq. 6), lower-is-better components negated; null if a component that counts is missing."""
    terms = []
    for component in components:
        if component.weight == 0:
            continue
        if component.raw is None:
            return None
        terms.append(component.weight * (component.raw if component.higher_is_better else -component.raw))
    return math.fsum(terms)


def earlier_steps(step: int | None, history: Sequence[RewardVector]) -> list[RewardVector]:
    """The vectors of one trajectory that come before `step`, by step; all of them where the step is not known.

    A live trajectory may measure a step again after a restart: the latest vector of a step stands for it.
    """
    latest = {vector.step: vector for vector in history}
    return sorted(
        (vector for vector in latest.values() if step is None or vector.step is None or vector.step < step),
        key=lambda vector: vector.place.order,
    )


def build_vector(
    *,
    run: str,
    trajectory: str,
    step: int | None,
    checkpoint: CheckpointRecord,
    mixture: Mixture | None,
    variables: Mapping[str, JsonValue],
    configs: Sequence[ComponentConfig],
    weights: Sequence[float],
    measurements: Sequence[Measurement],
    standardization: Standardization,
    history: Sequence[RewardVector],
    provenance: Provenance,
) -> RewardVector:
    """Assemble one vector. `history` holds the vectors of the same trajectory written before this one.

    `standardized` uses the mode's statistics, `shrunk` = reliability * standardized, `scalar` is Eq. 6's weighted sum
    of the raw scores, `gain` its difference to the previous step. What is undefined is null and named in `warnings`.
    """
    warnings: list[str] = []
    alike = [v for v in history if v.provenance.spec == provenance.spec and _same_tokenizer(v.checkpoint, checkpoint)]
    earlier = earlier_steps(step, alike)
    components = []
    spreads = []
    for config, measurement, weight in zip(configs, measurements, weights, strict=True):
        so_far = [c.raw for vector in earlier for c in vector.components if c.name == config.name]
        measured = [raw for raw in (*so_far, measurement.raw) if raw is not None]
        known = standardization.spread(config.name, measured)
        spreads.append(known)
        z = standardize(measurement.raw, known, higher_is_better=measurement.higher_is_better)
        trust = reliability(measurement.stderr, known.std) if known else None
        if z is None and measurement.raw is not None and standardization.mode != "none":
            why = "its standard deviation is 0" if known else "measured on 1 checkpoint so far; two are needed"
            warnings.append(f"{config.name}: standardized is null, {why}")
        components.append(
            ComponentRecord(
                **measurement.model_dump(),
                name=config.name,
                kind=config.kind,
                role=config.role,
                standardized=z,
                reliability=trust,
                shrunk=None if z is None or trust is None else trust * z,
                weight=weight,
            )
        )
    scalar = weighted_sum(components)
    missing = [c.name for c in components if c.raw is None and c.weight != 0]
    if missing:
        warnings.append(f"scalar is null: {', '.join(missing)} missing")
    gain, warning = _gain(step, scalar, history, checkpoint, spec=provenance.spec)
    if warning:
        warnings.append(warning)
    statuses = {c.status for c in components}
    return RewardVector(
        run=run,
        trajectory=trajectory,
        step=step,
        status="ok" if statuses == {"ok"} else "failed" if statuses == {"failed"} else "partial",
        checkpoint=checkpoint,
        mixture=mixture,
        variables=dict(variables),
        components=components,
        vector=[c.raw for c in components],
        standardized=[c.standardized for c in components],
        reference=ReferenceRecord(
            id=standardization.reference.id if standardization.reference else None,
            mode=standardization.mode,
            mean=[known.mean if known else None for known in spreads],
            std=[known.std if known else None for known in spreads],
            n=standardization.n_vectors(len(earlier) + 1),
        ),
        scalar=scalar,
        gain=gain,
        warnings=warnings,
        provenance=provenance,
    )


def _gain(
    step: int | None,
    scalar: float | None,
    history: Sequence[RewardVector],
    checkpoint: CheckpointRecord,
    *,
    spec: str,
) -> tuple[float | None, str | None]:
    """Eq. 6, and why it is null where that is not obvious."""
    numbered = [vector for vector in earlier_steps(step, history) if vector.step is not None]
    if step is None or scalar is None or not numbered:
        return None, None
    previous = numbered[-1]
    if previous.provenance.spec != spec:
        return None, f"gain is null: {label(previous)} was measured with another spec or other field content"
    if not _same_tokenizer(previous.checkpoint, checkpoint):
        return None, f"gain is null: {label(previous)} has another tokenizer, and scores are per token"
    if previous.scalar is None:
        return None, f"gain is null: {label(previous)} has no scalar"
    return scalar - previous.scalar, None


def _same_tokenizer(first: CheckpointRecord, second: CheckpointRecord) -> bool:
    """Whether per-token scores of two checkpoints compare; one whose tokenizer is not known is taken to."""
    return None in (first.tokenizer, second.tokenizer) or first.tokenizer == second.tokenizer
