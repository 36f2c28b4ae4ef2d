"""Whether the components of small models tell which mixture is better for large ones: two scales compared. Reads nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from harness.core.errors import DataError, SpecError
from harness.feed.recipes import matched
from harness.reward_models.agreement import FEWEST, Agreement, agreement
from harness.reward_models.signal import SHORTEST_TAIL, RunScores, Signal, signal_of
from harness.reward_models.steering import Verdict, verdict, weights, words_of
from harness.run.scale import Scale, ScaleComponent

VALIDATION_SCHEMA: Final = "harness.validation/1"
ALL = "all targets"
"""The mean of several targets in standard deviations over mixtures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """A component of the proxies. `agreements`: by target, the first being the one that decides; empty without a target."""

    name: str
    metric: str
    signal: Signal
    agreements: Mapping[str, Agreement]
    verdict: Verdict | None

    @property
    def agreement(self) -> Agreement | None:
        """With what decides: the target, or the mean of several."""
        return next(iter(self.agreements.values()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What `harness validate` says. `targets`: signal of what decides and of every target; empty without a target.

    `weights`: None where no component steers, or they cannot stand in a spec.
    """

    proxies: Scale
    against: Scale | None
    n_matched: int
    last: int
    seed: int
    components: tuple[Validated, ...]
    targets: Mapping[str, Signal]
    weights: Mapping[str, float] | None
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "schema": VALIDATION_SCHEMA,
            "last": self.last,
            "seed": self.seed,
            "proxies": _scale_json(self.proxies),
            "against": None if self.against is None else _scale_json(self.against),
            "n_matched": self.n_matched,
            "targets": {name: asdict(signal) for name, signal in self.targets.items()},
            "components": [
                {
                    "name": one.name,
                    "metric": one.metric,
                    "signal": asdict(one.signal),
                    "agreements": {name: asdict(found) for name, found in one.agreements.items()},
                    "verdict": one.verdict,
                    "words": words_of(one.verdict, target=bool(self.targets)),
                    "weight": None if self.weights is None else self.weights.get(one.name),
                }
                for one in self.components
            ],
            "weights": None if self.weights is None else dict(self.weights),
            "remarks": list(self.remarks),
        }


def _scale_json(scale: Scale) -> dict[str, Any]:
    return {
        "feeds": list(scale.feeds),
        "n_runs": scale.n_runs,
        "mixtures": [
            {"first_run": name, "shares": dict(recipe.total), "turns": len(recipe.turns)}
            for name, recipe in zip(scale.names, scale.recipes, strict=True)
        ],
    }


def validated(proxies: Scale, against: Scale | None, targets: Sequence[str], *, last: int, seed: int) -> Validation:
    """Compare. Raises SpecError for a target that is not there, DataError for too few mixtures in common."""
    remarks = list(proxies.remarks)
    pairs: list[tuple[int, int]] = []
    chosen: dict[str, ScaleComponent] = {}
    signals: dict[str, Signal] = {}
    if against is not None:
        remarks += [f"targets: {words}" for words in against.remarks]
        named = _named(against, targets)
        pairs = _pairs(proxies, against, remarks)
        chosen = _targets(named, [other for _, other in pairs])
        signals = {name: signal_of(one.scores(one.mixtures)) for name, one in chosen.items()}
        remarks += [f"targets: {words}" for words in _unknown(chosen.values(), signals)]
        remarks += [
            f"target {name}: its spread is no more than its noise, so little is decided by it"
            for name, one in signals.items()
            if one.moves is False
        ]
    components = []
    for component in proxies.components.values():
        signal = signal_of(component.scores(component.mixtures))
        found: dict[str, Agreement] = {}
        for name, target in chosen.items():
            common = [(a, b) for a, b in pairs if a in component.mixtures and b in target.mixtures]
            if len(common) < FEWEST:
                remarks.append(
                    f"{component.name}: only {len(common)} mixtures in common with {name}; {FEWEST} are needed"
                )
                continue
            score = component.scores([a for a, _ in common])
            goal = target.scores([b for _, b in common])
            found[name] = agreement(score, goal, seed=seed)
        deciding = next(iter(chosen), None)
        decided = None if deciding is None else found.get(deciding)
        judged = None if deciding is not None and decided is None else verdict(signal, decided)
        components.append(
            Validated(name=component.name, metric=component.metric, signal=signal, agreements=found, verdict=judged)
        )
    remarks += _unknown(proxies.components.values(), {one.name: one.signal for one in components})
    return Validation(
        proxies=proxies,
        against=against,
        n_matched=len(pairs),
        last=last,
        seed=seed,
        components=tuple(components),
        targets=signals,
        weights=_weights(components, remarks) if chosen else None,
        remarks=tuple(remarks),
    )


def _pairs(proxies: Scale, against: Scale, remarks: list[str]) -> list[tuple[int, int]]:
    """The mixtures of both scales: (its number among the proxies, among the targets)."""
    shared = set(proxies.feeds) & set(against.feeds)
    if shared:
        raise DataError(f"{sorted(shared)[0]} stands on both sides; a run says nothing about how it decides for others")
    found = matched(proxies.recipes, against.recipes, (proxies.names, against.names))
    pairs = [(number, other) for number, other in enumerate(found) if other is not None]
    lonely = [f"{proxies.names[n]} ({proxies.recipes[n]})" for n, other in enumerate(found) if other is None]
    others = set(range(len(against.recipes))) - {other for _, other in pairs}
    lonely_targets = [f"{against.names[n]} ({against.recipes[n]})" for n in sorted(others)]
    if len(pairs) < FEWEST:
        examples = "; ".join([*lonely[:2], *lonely_targets[:2]])
        raise DataError(
            f"{len(pairs)} mixtures were trained on at both scales, and {FEWEST} are needed at least: runs are matched by the "
            f"shares they were trained on, and these stand alone: {examples}"
        )
    for words, names in (("proxies", lonely), ("targets", lonely_targets)):
        if names:
            remarks.append(f"{len(names)} mixtures of the {words} have no run at the other scale, first {names[0]}")
    return pairs


def _named(against: Scale, names: Sequence[str]) -> dict[str, ScaleComponent]:
    """The targets that were asked for."""
    for name in names:
        if name not in against.components:
            raise SpecError(
                f"--target {name}: {', '.join(against.feeds)} has no such component; it has {', '.join(against.components)}"
            )
    if not names:
        raise SpecError(f"name what is to be decided: --target COMPONENT,...; there is {', '.join(against.components)}")
    return {name: against.components[name] for name in names}


def _targets(chosen: Mapping[str, ScaleComponent], mixtures: Sequence[int]) -> dict[str, ScaleComponent]:
    """What decides first: the target, or the mean of several in standard deviations over the mixtures."""
    common = [mixture for mixture in mixtures if all(mixture in one.mixtures for one in chosen.values())]
    spreads = {}
    for name, one in chosen.items():
        if len(common) < FEWEST:
            raise DataError(f"{', '.join(chosen)} were measured on {len(common)} common mixtures; {FEWEST} are needed")
        means = one.scores(common).mean
        if np.ptp(means) == 0:
            raise DataError(
                f"target {name} does not vary over the {len(common)} common mixtures; nothing is decided by it"
            )
        spreads[name] = (float(means.mean()), float(np.std(means, ddof=1)))
    return dict(chosen) if len(chosen) == 1 else {ALL: _together(chosen, spreads), **chosen}


def _together(chosen: Mapping[str, ScaleComponent], spreads: Mapping[str, tuple[float, float]]) -> ScaleComponent:
    """The mean of z over the targets, on the runs and steps that have them all."""
    share = 1 / len(chosen)
    runs: dict[int, RunScores] = {}
    for run in set.intersection(*(set(one.runs) for one in chosen.values())):
        tails = {
            name: dict(zip(one.runs[run].steps, one.runs[run].values, strict=True)) for name, one in chosen.items()
        }
        steps = sorted(set.intersection(*(set(tail) for tail in tails.values())))
        values = tuple(
            math.fsum(share * (tails[name][step] - mean) / std for name, (mean, std) in spreads.items())
            for step in steps
        )
        runs[run] = RunScores(next(iter(chosen.values())).runs[run].mixture, tuple(steps), values)

    def variance(parts: Sequence[float | None]) -> float | None:
        """Of the mean, as if targets shared no items; None where one is not known."""
        known = [part for part in parts if part is not None]
        weights = [(share / std) ** 2 for _, std in spreads.values()]
        return None if len(known) < len(parts) else math.fsum(w * part for w, part in zip(weights, known, strict=True))

    return ScaleComponent(
        name=ALL,
        metric="standard deviations",
        higher_is_better=True,
        runs=dict(sorted(runs.items())),
        item=variance([one.item for one in chosen.values()]),
        item_of_repeats=variance([one.item_of_repeats for one in chosen.values()]),
    )


def _unknown(components: Iterable[ScaleComponent], signals: Mapping[str, Signal]) -> list[str]:
    """What is not known of the noise, once for all components it is not known of."""
    missing: dict[str, list[str]] = {}
    for component in components:
        signal = signals[component.name]
        if signal.seed is None:
            missing.setdefault("no mixture was trained twice, so noise of the seed is not known", []).append(
                component.name
            )
        if signal.step is None:
            missing.setdefault(f"no run has {SHORTEST_TAIL} last steps, so noise of the step is not known", []).append(
                component.name
            )
        if signal.noise is None:
            missing.setdefault("nothing tells its noise, so neither signal nor verdict is known", []).append(
                component.name
            )
    return [f"{', '.join(names)}: {words}" for words, names in missing.items()]


def _weights(components: Sequence[Validated], remarks: list[str]) -> dict[str, float] | None:
    """By component of a spec; None where none steers, or a spec could not tell the columns apart."""
    found = weights({one.name: (one.verdict, one.signal, one.agreement) for one in components})
    if found is None:
        remarks.append("no component steers, so no weights are suggested")
        return None
    varied = [name for name in found if "[" in name]
    if varied:
        remarks.append(
            f"no weights are suggested: the spec varies {varied[0]}, and has one weight for all of its values"
        )
        return None
    return found
