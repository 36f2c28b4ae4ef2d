"""From one step to the next: every component's paired change, and the errors of scalar and gain. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.measurement import Measurement
from harness.core.vector import CheckpointRecord, ComponentRecord, RewardVector
from harness.reward_models.evidence import Evidence
from harness.reward_models.history import same_tokenizer
from harness.reward_models.items import Items, NoItems
from harness.reward_models.paired import change, differences, gain_stderr, sum_stderr
from harness.reward_models.reference import label
from harness.reward_models.statistics import Spread


def incomparable(previous: RewardVector, checkpoint: CheckpointRecord, *, spec: str) -> str | None:
    """Why nothing can be subtracted from a vector; None where it can."""
    if previous.provenance.spec != spec:
        return f"{label(previous)} was measured with another spec or other field content"
    if not same_tokenizer(previous.checkpoint, checkpoint):
        return f"{label(previous)} has another tokenizer, and scores are per token"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One component from the previous step to this one. `before` and `after`: its items, where they are at hand."""

    change: float | None = None
    change_stderr: float | None = None
    change_df: float | None = None
    n_paired: int | None = None
    before: Items | None = None
    after: Items | None = None
    why: str | None = None
    """Why there is no change, or no error of one, where this step has a value."""


def step_of(
    name: str,
    measurement: Measurement,
    previous: RewardVector | None,
    *,
    now: Items | NoItems,
    evidence: Evidence | None,
) -> Step:
    """The paired change; without items the difference of the values, where both scored every item."""
    after = now if isinstance(now, Items) else None
    old = None if previous is None else next((c for c in previous.components if c.name == name), None)
    if previous is None or old is None or measurement.raw is None:
        return Step(after=after)
    if old.raw is None:
        return Step(after=after, why=f"{label(previous)} has no value of it")
    found: Items | NoItems = NoItems("not at hand")
    before: Items | NoItems = found if evidence is None else evidence.of(previous, name)
    if isinstance(now, Items) and isinstance(before, Items):
        found = differences(before, now)
        if isinstance(found, Items):
            made = change(found)
            return Step(
                change=made.change,
                change_stderr=made.stderr,
                change_df=None if made.stderr is None else made.df or float(made.n_clusters - 1),
                n_paired=made.n_paired,
                before=before,
                after=now,
                why=None if made.stderr is not None else "too few clusters, or equal items",
            )
    whole = old.status == measurement.status == "ok" and old.n_items == measurement.n_items
    why = next(one.reason for one in (now, before, found) if isinstance(one, NoItems))
    return Step(change=measurement.raw - old.raw if whole else None, after=after, why=why)


def _signed(component: ComponentRecord) -> float:
    return component.weight if component.higher_is_better else -component.weight


def scalar_error(components: Sequence[ComponentRecord], steps: Mapping[str, Step]) -> float | None:
    """Standard error of the weighted sum over another sample of items; None where a component that counts has none.

    A component without items enters with its own standard error, as if it shared none; one of 0 is no error.
    """
    weighted: list[tuple[float, Items]] = []
    others = []
    for component in components:
        if component.weight == 0:
            continue
        items = steps[component.name].after
        if items is not None:
            weighted.append((_signed(component), items))
        elif component.stderr:
            others.append((component.weight * component.stderr) ** 2)
        else:
            return None
    together = sum_stderr(weighted)
    return None if together is None else math.sqrt(math.fsum([together * together, *others]))


def gain_error(components: Sequence[ComponentRecord], steps: Mapping[str, Step]) -> float | None:
    """Standard error of the gain; None where a component that counts is not paired."""
    weighted = []
    for component in components:
        if component.weight == 0:
            continue
        step = steps[component.name]
        if step.before is None or step.after is None:
            return None
        weighted.append((_signed(component), step.before, step.after))
    return gain_stderr(weighted)


def gain_df(components: Sequence[ComponentRecord], steps: Mapping[str, Step]) -> float | None:
    """Degrees of freedom of the gain's error (Welch and Satterthwaite); None where it has none, or is 0."""
    total, each = 0.0, 0.0
    for component in components:
        step = steps[component.name]
        if component.weight == 0 or step.change_stderr is None or step.change_df is None:
            continue
        variance = (component.weight * step.change_stderr) ** 2
        total += variance
        each += variance * variance / step.change_df
    return total * total / each if each > 0 else None


def without_error(components: Sequence[ComponentRecord], steps: Mapping[str, Step]) -> list[str]:
    """Names of the components for which a scalar has no error."""
    return [c.name for c in components if c.weight != 0 and scalar_error([c], steps) is None]


def gain_standardized(
    components: Sequence[ComponentRecord], previous: RewardVector, spreads: Mapping[str, Spread | None]
) -> float | None:
    """The gain of the weighted sum of z, both steps by this step's mean and std; None where a component that counts has no z."""
    earlier = {component.name: component.raw for component in previous.components}
    terms = []
    for component in components:
        if component.weight == 0:
            continue
        before, spread = earlier.get(component.name), spreads[component.name]
        if component.raw is None or before is None or spread is None or spread.std <= 0:
            return None
        terms.append(_signed(component) * (component.raw - before) / spread.std)
    total = math.fsum(terms)
    return total if math.isfinite(total) else None
