"""The runs of one size of model over mixtures, read from feeds and their per-item scores, as arrays. Compares nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DataError
from harness.core.vector import ComponentRecord, RewardVector
from harness.feed.feed import read_feed
from harness.feed.lines import FEED_FILE
from harness.feed.recipes import Recipe, grouped, recipe_of
from harness.feed.runs import NoShares, Run, RunStep, check_alike, runs_of
from harness.reward_models.items import Items, NoItems
from harness.reward_models.residual import Residual, extended
from harness.reward_models.signal import MixtureScores, RunScores, mixture_scores
from harness.run.items import RunItems


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScaleComponent:
    """A component on the runs of a scale: number of the run -> its last scores, higher is better."""

    name: str
    metric: str
    higher_is_better: bool
    runs: Mapping[int, RunScores]
    item: float | None
    item_of_repeats: float | None

    def scores(self, mixtures: Sequence[int]) -> MixtureScores:
        """Over these mixtures, in this order; every one has to have a run."""
        made = mixture_scores(list(self.runs.values()), item=self.item, item_of_repeats=self.item_of_repeats)
        return made.of([made.mixtures.index(mixture) for mixture in mixtures])

    @property
    def mixtures(self) -> list[int]:
        """Those that a run was measured on."""
        return sorted({run.mixture for run in self.runs.values()})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scale:
    """Runs of one size of model, grouped by mixture. `names`: of each mixture, the first run trained on it."""

    feeds: tuple[str, ...]
    n_runs: int
    recipes: tuple[Recipe, ...]
    names: tuple[str, ...]
    components: Mapping[str, ScaleComponent]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    run: Run
    name: str
    items: RunItems


def feed_path(feed: Path) -> Path:
    """The file that a feed argument means."""
    return (feed / FEED_FILE if feed.is_dir() else feed).resolve()


def read_scale(feeds: Sequence[Path], *, last: int) -> Scale:
    """Runs of all the feeds. `last`: how many of a run's last steps tell the noise of a step.

    Raises DataError for runs whose mixture is not known, which measured different things, are the same weights, or are
    trained on one mixture to different lengths.
    """
    sources = _sources(feeds)
    remarks: list[str] = []
    check_alike([source.run for source in sources])
    recipes: list[Recipe] = []
    kept: list[_Source] = []
    for source in sources:
        recipe = recipe_of(source.run)
        if isinstance(recipe, NoShares):
            if recipe.started:
                raise DataError(recipe.reason)
            remarks.append(f"{source.name} is left out: it was trained on no mixture")
        else:
            recipes.append(recipe)
            kept.append(source)
    if not kept:
        raise DataError(f"no run with a mixture in {', '.join(map(str, feeds))}; there is nothing to compare")
    names = [source.name for source in kept]
    mixtures = grouped(recipes, names)
    _check_repeats(kept, mixtures)
    firsts = [mixtures.index(number) for number in range(max(mixtures) + 1)]
    ends = {source.run.last.step for source in kept}
    if len(ends) > 1:
        by_end = {end: [s.name for s in kept if s.run.last.step == end] for end in ends}
        few = min(by_end.values(), key=len)
        remarks.append(
            f"runs end at different steps ({', '.join(sorted(map(str, ends)))}), so their scores differ by that too; "
            f"{few[0]} ends at {next(end for end, members in by_end.items() if members is few)}"
        )
    columns = list(dict.fromkeys(name for source in kept for name in source.run.last.components))
    components = {}
    without: dict[str, list[str]] = {}
    for column in columns:
        found, said, why = _component(column, kept, mixtures, last=last)
        remarks += said
        if found is not None:
            components[column] = found
        if why is not None:
            without.setdefault(why, []).append(column)
    remarks += [f"{', '.join(names)}: no item noise: {why}" for why, names in without.items()]
    if not components:
        raise DataError(f"no component was measured at the end of any run in {', '.join(map(str, feeds))}")
    return Scale(
        feeds=tuple(map(str, feeds)),
        n_runs=len(kept),
        recipes=tuple(recipes[first] for first in firsts),
        names=tuple(names[first] for first in firsts),
        components=components,
        remarks=tuple(remarks),
    )


def _sources(feeds: Sequence[Path]) -> list[_Source]:
    sources: list[_Source] = []
    for feed in feeds:
        prefix = f"{feed}: " if len(feeds) > 1 else ""
        items = RunItems(feed_path(feed).parent)
        sources += [_Source(run, f"{prefix}{run.name}", items) for run in runs_of(read_feed(feed), source=prefix)]
    known: dict[str, str] = {}
    for source in sources:
        for vector in source.run.last.vectors[:1]:
            weights = vector.checkpoint.fingerprint
            if weights is not None and known.setdefault(weights, source.name) != source.name:
                raise DataError(
                    f"{source.name} and {known[weights]} end with the same weights; a run that counts twice is no repeat: "
                    "leave one out"
                )
    return sources


def _check_repeats(sources: Sequence[_Source], mixtures: Sequence[int]) -> None:
    """Runs of one mixture are repeats of each other, and have to be of one length."""
    first: dict[int, _Source] = {}
    for source, mixture in zip(sources, mixtures, strict=True):
        other = first.setdefault(mixture, source)
        here, there = source.run.last, other.run.last
        tokens = {here.tokens_seen, there.tokens_seen} - {None}
        if here.step != there.step or len(tokens) > 1:
            raise DataError(
                f"{source.name} and {other.name} are trained on one mixture to different lengths (step {here.step}, "
                f"{here.tokens_seen} tokens; step {there.step}, {there.tokens_seen} tokens): they are no repeats; "
                "take out the run that is not finished, or of another scale"
            )


def _component(
    column: str, sources: Sequence[_Source], mixtures: Sequence[int], *, last: int
) -> tuple[ScaleComponent | None, list[str], str | None]:
    """A component on every run that has it at its last step, what is to be said about it, and why it has no item noise."""
    runs: dict[int, RunScores] = {}
    remarks: list[str] = []
    failures: list[str] = []
    example: ComponentRecord | None = None
    n_partial = 0
    for index, (source, mixture) in enumerate(zip(sources, mixtures, strict=True)):
        record = source.run.last.components.get(column)
        if record is None or record.raw is None:
            failures.append(f"{source.name} ({'not measured' if record is None else record.reason})")
            continue
        example = record
        n_partial += record.status == "partial"
        sign = 1.0 if record.higher_is_better else -1.0
        tail = [
            (step, component.raw)
            for step in source.run.steps[-last:]
            if (component := step.components.get(column)) is not None and component.raw is not None
        ]
        runs[index] = RunScores(
            mixture,
            tuple(float(-1 if step.step is None else step.step) for step, _ in tail),
            tuple(sign * raw for _, raw in tail),
        )
    if failures:
        more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""
        remarks.append(f"{column}: has no value at the end of {', '.join(failures[:3])}{more}")
    if n_partial:
        remarks.append(f"{column}: not every item was scored in {n_partial} of {len(runs)} runs")
    if example is None:
        return None, remarks, None
    item, of_repeats, why = _item_noise(column, {index: sources[index] for index in runs}, mixtures)
    if item is not None and why is not None:
        remarks.append(f"{column}: its item noise is of fewer runs: {why}")
        why = None
    return (
        ScaleComponent(
            name=column,
            metric=example.metric,
            higher_is_better=example.higher_is_better,
            runs=runs,
            item=item,
            item_of_repeats=of_repeats,
        ),
        remarks,
        why,
    )


def _item_noise(
    column: str, sources: Mapping[int, _Source], mixtures: Sequence[int]
) -> tuple[float | None, float | None, str | None]:
    """Variance of a run's score by the item x run residual: of all runs, and among runs of one mixture; or why there is none."""
    everything: Residual | None = None
    repeats: dict[int, Residual | None] = {}
    n_runs: dict[int, int] = {}
    why = None
    for index, source in sources.items():
        found = _items(source, column)
        if isinstance(found, NoItems):
            why = why or f"{source.name}: {found.reason}"
            continue
        everything = extended(everything, found)
        mixture = mixtures[index]
        repeats[mixture] = extended(repeats.get(mixture), found)
        n_runs[mixture] = n_runs.get(mixture, 0) + 1
    noise = None if everything is None else everything.noise
    if noise is None:
        return None, None, why or "it takes two runs with items that vary"
    pooled = [
        (n_runs[mixture] - 1, residual.noise)
        for mixture, residual in repeats.items()
        if residual is not None and n_runs[mixture] > 1 and residual.noise is not None
    ]
    df = sum(count for count, _ in pooled)
    return noise, (sum(count * variance for count, variance in pooled) / df if df else None), why


def _items(source: _Source, column: str) -> Items | NoItems:
    step = source.run.last
    record = step.components[column]
    return source.items.of(_holder(step, record), record.name)


def _holder(step: RunStep, record: ComponentRecord) -> RewardVector:
    return next(v for v in step.vectors if any(component is record for component in v.components))
