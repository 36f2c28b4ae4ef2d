"""From the measurements of one checkpoint to its reward vector: standardise, shrink, weigh, subtract. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from harness.reward_models.alarm import watched
from harness.reward_models.evidence import Evidence
from harness.reward_models.gain import (
    Step,
    gain_df,
    gain_error,
    gain_standardized,
    incomparable,
    scalar_error,
    step_of,
    without_error,
)
from harness.reward_models.history import History
from harness.reward_models.interval import interval
from harness.reward_models.items import Items, NoItems
from harness.reward_models.reference import Reference, label
from harness.reward_models.statistics import Spread, reliability, spread
from harness.reward_models.telling import FIRST_OF_RUNNING


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

        Running statistics are those of Algorithm 2; None where there are fewer than two values.
        """
        if self.reference is not None:
            fitted = self.reference.component(name)
            return None if fitted is None else Spread(fitted.mean, fitted.std)
        return spread(measured) if self.mode == "running" and len(measured) >= 2 else None

    @property
    def id(self) -> str | None:
        """Of the reference, where it is frozen."""
        return None if self.reference is None else self.reference.id

    def n_vectors(self, so_far: int) -> int:
        """How many vectors the statistics come from; `so_far` in this trajectory."""
        if self.reference is not None:
            return self.reference.n
        return so_far if self.mode == "running" else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Standardization):
    """The frozen standardisation that a vector recorded; the reference file is not needed."""

    vector: RewardVector

    def spread(self, name: str, measured: Sequence[float]) -> Spread | None:
        """As recorded."""
        record = self.vector.reference
        for component, mean, std in zip(self.vector.components, record.mean, record.std, strict=True):
            if component.name == name and mean is not None and std is not None:
                return Spread(mean, std)
        return None

    @property
    def id(self) -> str | None:
        """As recorded."""
        return self.vector.reference.id

    def n_vectors(self, so_far: int) -> int:
        """As recorded."""
        return self.vector.reference.n


def standardization_of(vector: RewardVector) -> Standardization:
    """How a vector was standardised, so that it can be assembled again."""
    mode = vector.reference.mode
    return Recorded(mode=mode, vector=vector) if mode == "frozen" else Standardization(mode=mode)


def standardize(raw: float | None, known: Spread | None, *, higher_is_better: bool) -> float | None:
    """(raw - mean) / std, negated where lower is better; None where undefined (nothing measured, nothing varies)."""
    if raw is None or known is None or known.std <= 0:
        return None
    z = (raw - known.mean) / known.std
    if not math.isfinite(z):
        return None
    return z if higher_is_better else -z


def weighted_sum(components: Sequence[ComponentRecord]) -> float | None:
    """sum_i lambda_i Score_i (Eq. 6), lower-is-better components negated; None if a component that counts is missing."""
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
    evidence: Evidence | None = None,
) -> RewardVector:
    """Assemble one vector. `history` holds the vectors of the same trajectory written before this one.

    `standardized` uses the mode's statistics, `shrunk` = reliability * standardized, `scalar` is Eq. 6's weighted sum
    of the raw scores, `gain` its difference to the previous step. What is undefined is None and named in `warnings`.
    `evidence`: the items, from which intervals, changes, reliability and the errors of scalar and gain are computed.
    """
    warnings: list[str] = []
    past = history if isinstance(history, History) else History(history)
    earlier = past.earlier(step, spec=provenance.spec, checkpoint=checkpoint)
    previous = past.previous(step)
    why = None if previous is None else incomparable(previous, checkpoint, spec=provenance.spec)
    base = None if why else previous
    components: list[ComponentRecord] = []
    spreads: dict[str, Spread | None] = {}
    steps: dict[str, Step] = {}
    unwatched: dict[str, str] = {}
    n_sources = sum(config.role == "source" for config in configs)
    for config, measurement, weight in zip(configs, measurements, weights, strict=True):
        name = config.name
        measured = [*earlier.raws.get(name, ()), *([] if measurement.raw is None else [measurement.raw])]
        known = spreads[name] = standardization.spread(name, measured)
        z = standardize(measurement.raw, known, higher_is_better=measurement.higher_is_better)
        if z is None and measurement.raw is not None and standardization.mode != "none":
            what = "its standard deviation is 0" if known else FIRST_OF_RUNNING
            warnings.append(f"{name}: standardized is null, {what}")
        now = NoItems("not at hand") if evidence is None else evidence.now(name)
        step_here = steps[name] = step_of(name, measurement, base, now=now, evidence=evidence)
        guard = watched(config, measurement, earlier, step=step, now=now, evidence=evidence, n_sources=n_sources)
        if guard.why is not None:
            unwatched[name] = guard.why
        residual = None if evidence is None else evidence.residual(name, earlier)
        n = len(measured) if standardization.mode == "running" else standardization.n_vectors(0)
        trust = reliability(residual.noise if residual else None, known, n=n)
        components.append(
            ComponentRecord(
                **{**measurement.model_dump(), **_seen(now)},
                name=name,
                kind=config.kind,
                role=config.role,
                standardized=z,
                reliability=trust,
                shrunk=None if z is None or trust is None else trust * z,
                weight=weight,
                change=step_here.change,
                change_stderr=step_here.change_stderr,
                n_paired=step_here.n_paired,
                change_df=step_here.change_df,
                allowed_loss=guard.allowed_loss,
                best_step=guard.best_step,
                loss=guard.loss,
                loss_bound=guard.loss_bound,
                alarm=guard.alarm,
            )
        )
    scalar = weighted_sum(components)
    missing = [c.name for c in components if c.raw is None and c.weight != 0]
    if missing:
        warnings.append(f"scalar is null: {', '.join(missing)} missing")
    gain = standardized_gain = None
    if scalar is not None and previous is not None:
        if why is None and previous.scalar is None:
            why = f"{label(previous)} has no scalar"
        if why is None:
            assert previous.scalar is not None
            gain = scalar - previous.scalar
            standardized_gain = gain_standardized(components, previous, spreads)
        else:
            warnings.append(f"gain is null: {why}")
    scalar_stderr = None if scalar is None else scalar_error(components, steps)
    if evidence is not None and scalar is not None and scalar_stderr is None:
        lacking = ", ".join(without_error(components, steps))
        warnings.append(f"scalar_stderr is null: {lacking} has no error, its items are too few or all alike")
    gain_stderr = None if gain is None else gain_error(components, steps)
    if evidence is not None:
        reasons = {name: step_here.why for name, step_here in steps.items() if step_here.why is not None}
        warnings += _grouped("no paired error", reasons) + _grouped("no alarm", unwatched)
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
            id=standardization.id,
            mode=standardization.mode,
            mean=[known.mean if known else None for known in spreads.values()],
            std=[known.std if known else None for known in spreads.values()],
            n=standardization.n_vectors(earlier.n + 1),
        ),
        scalar=scalar,
        scalar_stderr=scalar_stderr,
        gain=gain,
        gain_stderr=gain_stderr,
        gain_standardized=standardized_gain,
        gain_df=None if gain_stderr is None else gain_df(components, steps),
        previous_step=None if base is None else base.step,
        warnings=warnings,
        provenance=provenance,
    )


def _seen(now: Items | NoItems) -> dict[str, Any]:
    """What a measurement's items say of it; nothing where they are not at hand, so that what it had stays."""
    return {"interval": interval(now), "n_clusters": now.layout.n_clusters} if isinstance(now, Items) else {}


def _grouped(what: str, reasons: Mapping[str, str]) -> list[str]:
    """One warning for the components that lack something for the same reason."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return [f"{what} for {', '.join(some)}: {reason}" for reason, some in names.items()]
