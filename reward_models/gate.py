"""Go, no-go or inconclusive: a comparison held against a policy. Pure arithmetic.

A demand is met where the whole 95% interval of the improvement is on its side, broken where the whole interval is on the
other, and otherwise inconclusive. What could not be measured never passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.core.measurement import Interval
from harness.reward_models.comparison import Comparison
from harness.reward_models.component_comparison import BY_ITEMS, ComponentComparison
from harness.reward_models.policy import Policy, Rule
from harness.reward_models.power import items_to_decide, times_to_decide

SCALAR = "scalar"
"""What the weighted sum is called among components."""
Decision = Literal["GO", "NO-GO", "INCONCLUSIVE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """One rule on one component. `name`: the component's, `scalar`, or `role NAME` where no component has the role.

    `improvement` and `interval`: positive for better, in the unit of the values. `n_items`: the items behind them.
    `n_items_to_decide`: how many would decide in 80% of cases if the estimate were the truth; `times_to_decide`: as a factor.
    """

    name: str
    rule: str
    threshold: float
    decision: Decision
    improvement: float | None = None
    interval: Interval | None = None
    n_items: int | None = None
    n_items_to_decide: int | None = None
    times_to_decide: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """NO-GO where any ruling is; else INCONCLUSIVE where any is; else GO. `unruled`: components without a rule; `unknown`:
    names that the policy ignores and no component has.
    """

    comparison: Comparison
    rulings: tuple[Ruling, ...]
    unruled: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def decision(self) -> Decision:
        """Of all rulings together."""
        return worst([ruling.decision for ruling in self.rulings])


def worst(decisions: Sequence[Decision]) -> Decision:
    """What several decisions come to; of none INCONCLUSIVE."""
    for decision in ("NO-GO", "INCONCLUSIVE", "GO"):
        if decision in decisions:
            return decision
    return "INCONCLUSIVE"


def decide(comparison: Comparison, policy: Policy) -> GateResult:
    """Every rule of the policy on the components it applies to; a rule without any is inconclusive."""
    by_name = {component.name: component for component in comparison.components}
    ruled = {name: rule for name, rule in policy.components.items() if name in by_name}
    ruled |= {
        name: policy.roles[component.role]
        for name, component in by_name.items()
        if component.role in policy.roles and name not in policy.components and name not in policy.ignore
    }
    rulings = [_ruling(by_name[name], ruled[name]) for name in by_name if name in ruled]
    rulings += _absent(comparison, policy)
    if policy.scalar is not None:
        rulings.append(_scalar(comparison, policy.scalar))
    unruled = tuple(name for name in by_name if name not in ruled)
    unknown = tuple(name for name in policy.ignore if name not in by_name)
    return GateResult(comparison=comparison, rulings=tuple(rulings), unruled=unruled, unknown=unknown)


def _absent(comparison: Comparison, policy: Policy) -> Iterator[Ruling]:
    names = [component.name for component in comparison.components]
    for name, rule in policy.components.items():
        if name not in names:
            reason = f"neither side has it; there is {', '.join(names)}"
            yield Ruling(name=name, rule=str(rule), threshold=rule.threshold, decision="INCONCLUSIVE", reason=reason)
    for role, rule in policy.roles.items():
        of_role = [component.name for component in comparison.components if component.role == role]
        if all(name in policy.ignore for name in of_role):
            reason = f"ignore leaves none of {', '.join(of_role)}" if of_role else "no component has this role"
            yield Ruling(
                name=f"role {role}", rule=str(rule), threshold=rule.threshold, decision="INCONCLUSIVE", reason=reason
            )


def _ruling(component: ComponentComparison, rule: Rule) -> Ruling:
    n_items = component.n_paired or min(
        (side.n_scored for side in (component.before, component.after) if side is not None), default=0
    )
    made = _held(
        component.name,
        rule,
        improvement=component.improvement,
        interval=component.improvement_interval,
        stderr=component.stderr,
        n_items=n_items,
        reason=component.reason if component.status in BY_ITEMS else f"{component.status}: {component.reason}",
    )
    unscored = [
        (side.n_items - side.n_scored, side.n_items, side.reason)
        for side in (component.before, component.after)
        if side is not None and side.n_items
    ]
    lacking, of, why = max(unscored, default=(0, 0, None), key=lambda one: one[0] / one[1])
    if made.decision == "GO" and of and lacking / of > rule.max_unscored:
        reason = (
            f"{lacking} of {of} items have no score ({why or 'no reason given'}); max_unscored: {rule.max_unscored:g}"
        )
        return replace(made, decision="INCONCLUSIVE", reason=reason)
    return made


def _scalar(comparison: Comparison, rule: Rule) -> Ruling:
    scalar = comparison.scalar
    made = _held(
        SCALAR,
        rule,
        improvement=scalar.change,
        interval=scalar.interval,
        stderr=scalar.stderr,
        n_items=None,
        reason=scalar.reason,
    )
    lacking = [c.name for c in comparison.components if c.weight and c.n_unscored]
    share = max(
        (
            (side.n_items - side.n_scored) / side.n_items
            for c in comparison.components
            if c.weight
            for side in (c.before, c.after)
            if side is not None and side.n_items
        ),
        default=0.0,
    )
    if made.decision == "GO" and share > rule.max_unscored:
        reason = f"items of {', '.join(lacking)} have no score; max_unscored: {rule.max_unscored:g}"
        return replace(made, decision="INCONCLUSIVE", reason=reason)
    return made


def _held(
    name: str,
    rule: Rule,
    *,
    improvement: float | None,
    interval: Interval | None,
    stderr: float | None,
    n_items: int | None,
    reason: str | None,
) -> Ruling:
    """A rule against an improvement's interval."""
    threshold = rule.threshold
    if improvement is None or interval is None:
        return Ruling(
            name=name,
            rule=str(rule),
            threshold=threshold,
            decision="INCONCLUSIVE",
            improvement=improvement,
            reason=reason or "it has no interval",
        )
    decision: Decision = "GO" if interval.low >= threshold else "NO-GO" if interval.high < threshold else "INCONCLUSIVE"
    needed = times = None
    if decision == "INCONCLUSIVE" and stderr:
        times = times_to_decide(improvement - threshold, stderr)
        needed = None if n_items is None else items_to_decide(improvement - threshold, stderr, n_items)
    return Ruling(
        name=name,
        rule=str(rule),
        threshold=threshold,
        decision=decision,
        improvement=improvement,
        interval=interval,
        n_items=n_items,
        n_items_to_decide=needed,
        times_to_decide=times,
        reason=reason,
    )
