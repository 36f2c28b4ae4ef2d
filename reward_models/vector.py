"""From the measurements of one checkpoint to its reward vector: standardise, shrink, weigh, subtract. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from harness.reward_models.reference import Reference, definitions_of, label
from harness.reward_models.statistics import reliability, spread


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

    def statistics(
        self, names: Sequence[str], rows: Sequence[Mapping[str, float | None]]
    ) -> tuple[list[float | None], list[float | None], int]:
        """(mean, std, n) per component. `rows` are raw values by name: the trajectory's earlier vectors, then this one.

        Null where fewer than two values exist. Running statistics are those of Algorithm 2.
        """
        if self.mode == "none":
            return [None] * len(names), [None] * len(names), 0
        mean: list[float | None] = []
        std: list[float | None] = []
        for name in names:
            fitted = self.reference.component(name) if self.reference else None
            measured = [value for row in rows if (value := row.get(name)) is not None]
            if self.mode == "frozen" and fitted is not None:
                mean.append(fitted.mean)
                std.append(fitted.std)
            elif self.mode == "running" and len(measured) >= 2:
                estimate = spread(measured)
                mean.append(estimate.mean)
                std.append(estimate.std)
            else:
                mean.append(None)
                std.append(None)
        return mean, std, self.reference.n if self.reference else len(rows)


def standardize(raw: float | None, mean: float | None, std: float | None, *, higher_is_better: bool) -> float | None:
    """(raw - mean) / std, negated where lower is better; null where undefined (nothing measured, nothing varies)."""
    if raw is None or mean is None or std is None or std <= 0:
        return None
    z = (raw - mean) / std
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


def previous_step(step: int | None, history: Sequence[RewardVector]) -> RewardVector | None:
    """The latest vector of the highest earlier step. `history` holds one trajectory."""
    earlier = [vector for vector in history if step is not None and vector.step is not None and vector.step < step]
    return max(reversed(earlier), key=lambda vector: vector.step or 0, default=None)


def build_vector(
    *,
    run: str,
    trajectory: str,
    step: int | None,
    checkpoint: CheckpointRecord,
    mixture: Mixture | None,
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
    names = [config.name for config in configs]
    same_spec = [vector for vector in history if vector.provenance.spec == provenance.spec]
    # A live trajectory may measure a step again after a restart: the latest vector of a step stands for it.
    by_step = {vector.step: vector for vector in same_spec if step is None or vector.step is None or vector.step < step}
    rows: list[dict[str, float | None]] = [{c.name: c.raw for c in vector.components} for vector in by_step.values()]
    rows.append({name: measurement.raw for name, measurement in zip(names, measurements, strict=True)})
    mean, std, n = standardization.statistics(names, rows)
    components = []
    for config, measurement, weight, mu, sigma in zip(configs, measurements, weights, mean, std, strict=True):
        z = standardize(measurement.raw, mu, sigma, higher_is_better=measurement.higher_is_better)
        trust = reliability(measurement.stderr, sigma)
        if z is None and measurement.raw is not None and standardization.mode != "none":
            if sigma is None:
                warnings.append(f"{config.name}: standardized is null, {n} checkpoint(s) so far; two are needed")
            else:
                warnings.append(f"{config.name}: standardized is null, its standard deviation is 0")
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
    missing = [c.name for c in components if c.raw is None]
    if scalar is None:
        warnings.append(f"scalar is null: {', '.join(missing)} missing")
    gain, warning = _gain(step, scalar, history, provenance)
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
        components=components,
        vector=[c.raw for c in components],
        standardized=[c.standardized for c in components],
        reference=ReferenceRecord(
            id=standardization.reference.id if standardization.reference else None,
            mode=standardization.mode,
            mean=mean,
            std=std,
            n=n,
        ),
        scalar=scalar,
        gain=gain,
        warnings=warnings,
        provenance=provenance,
    )


def _gain(
    step: int | None, scalar: float | None, history: Sequence[RewardVector], provenance: Provenance
) -> tuple[float | None, str | None]:
    """Eq. 6, and why it is null where that is not obvious."""
    previous = previous_step(step, history)
    if previous is None or scalar is None:
        return None, None
    if previous.provenance.spec != provenance.spec:
        return None, f"gain is null: {label(previous)} was measured with another spec"
    now = {name: task.get("definition") for name, task in provenance.tasks.items()}
    if definitions_of(previous) != now:
        return None, f"gain is null: {label(previous)} was measured on other field content"
    if previous.scalar is None:
        return None, f"gain is null: {label(previous)} has no scalar"
    return scalar - previous.scalar, None
