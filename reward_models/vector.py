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
from harness.reward_models.history import History, same_tokenizer
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
    history: History | Sequence[RewardVector],
    provenance: Provenance,
) -> RewardVector:
    """Assemble one vector. `history` holds the vectors of the same trajectory written before this one.

    `standardized` uses the mode's statistics, `shrunk` = reliability * standardized, `scalar` is Eq. 6's weighted sum
    of the raw scores, `gain` its difference to the previous step. What is undefined is null and named in `warnings`.
    """
    warnings: list[str] = []
    past = history if isinstance(history, History) else History(history)
    earlier = past.earlier(step, spec=provenance.spec, checkpoint=checkpoint)
    components = []
    spreads = []
    for config, measurement, weight in zip(configs, measurements, weights, strict=True):
        measured = [*earlier.raws.get(config.name, ()), *([] if measurement.raw is None else [measurement.raw])]
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
    gain, warning = _gain(step, scalar, past, checkpoint, spec=provenance.spec)
    if warning:
        warnings.append(warning)
    previous = past.previous(step)
    if previous is not None and checkpoint.fingerprint and previous.checkpoint.fingerprint == checkpoint.fingerprint:
        warnings.append(f"the weights are those of step {previous.step}")
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
            n=standardization.n_vectors(earlier.n + 1),
        ),
        scalar=scalar,
        gain=gain,
        warnings=warnings,
        provenance=provenance,
    )


def _gain(
    step: int | None,
    scalar: float | None,
    history: History,
    checkpoint: CheckpointRecord,
    *,
    spec: str,
) -> tuple[float | None, str | None]:
    """Eq. 6, and why it is null where that is not obvious."""
    previous = history.previous(step)
    if scalar is None or previous is None:
        return None, None
    if previous.provenance.spec != spec:
        return None, f"gain is null: {label(previous)} was measured with another spec or other field content"
    if not same_tokenizer(previous.checkpoint, checkpoint):
        return None, f"gain is null: {label(previous)} has another tokenizer, and scores are per token"
    if previous.scalar is None:
        return None, f"gain is null: {label(previous)} has no scalar"
    return scalar - previous.scalar, None
