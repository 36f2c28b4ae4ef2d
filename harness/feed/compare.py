"""From names of checkpoints to comparisons: which trajectory, which step, which seeds belong together. Computes no difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.core.errors import DataError
from harness.feed.place_name import Asked, parse_place
from harness.feed.tracks import Track, read_tracks, trainings
from harness.reward_models.comparison import Comparison, compare_sides


class _Chosen(NamedTuple):
    """Seeds of one training (or one trajectory), and the step that was asked for."""

    tracks: list[Track]
    step: Asked | None


def compare(before: str, after: Sequence[str], *, seeds: bool = False) -> list[Comparison]:
    """`after` against `before`, each named as `place_name` reads it; `seeds`: several of `after` are seeds of one training.

    Where neither names a step, both are taken at the highest step that both have; where one does, the other is taken at its
    last. Several trajectories on both sides are compared like with like, by name. Raises DataError.
    """
    sources: dict[str, list[Track]] = {}
    first = _chosen([before], sources, seeds=seeds)
    others = _chosen(after, sources, seeds=seeds)
    pairs = [(_partner(first, other, before), other) for other in others]
    if len(pairs) > 1:  # `RUN:base RUN`: every trajectory of RUN but the one they are compared with
        pairs = [pair for pair in pairs if pair[0] != pair[1]] or pairs
    return [_compared(*pair) for pair in pairs]


def _chosen(names: Sequence[str], sources: dict[str, list[Track]], *, seeds: bool) -> list[_Chosen]:
    by_step: dict[Asked | None, list[Track]] = {}
    for name in names:
        place = parse_place(name)
        known = sources.setdefault(str(place.path), []) or read_tracks(place.path)
        sources[str(place.path)] = known
        picked, step = place.chosen([track.name for track in known], [track.training for track in known])
        of = by_step.setdefault(step, [])
        of += [known[index] for index in picked if known[index] not in of]
    return [_Chosen(group, step) for step, of in by_step.items() for group in trainings(of, as_seeds=seeds)]


def _partner(first: Sequence[_Chosen], other: _Chosen, name: str) -> _Chosen:
    """The training that another is compared with: the only one, or that of its name."""
    if len(first) == 1:
        return first[0]
    alike = [one for one in first if one.tracks[0].training == other.tracks[0].training]
    if len(alike) == 1:
        return alike[0]
    known = ", ".join(dict.fromkeys(track.name for one in first for track in one.tracks))
    raise DataError(
        f"{name} has several trajectories ({known}) and none is called {other.tracks[0].training}; name one, as "
        f"{name.partition('@')[0]}:TRAJECTORY"
    )


def _compared(before: _Chosen, after: _Chosen) -> Comparison:
    steps, remarks = _steps(before, after)
    sides = [
        [track.side(step) for track, step in zip(chosen.tracks, at, strict=True)]
        for chosen, at in zip((before, after), steps, strict=True)
    ]
    labels = [[side.label for side in of] for of in sides]
    if set(labels[0]) & set(labels[1]):
        raise DataError(
            f"{', '.join(sorted(set(labels[0]) & set(labels[1])))} is on both sides; name another step or trajectory"
        )
    keys = [{track.key for track in chosen.tracks} for chosen in (before, after)]
    if keys[0] & keys[1] and steps[0] == steps[1]:
        remarks.append("both are seeds of one training: what they differ by is what a seed does")
    for of in sides:
        if len(of) > 1:
            remarks.append(f"seeds of one training: {', '.join(side.label for side in of)}")
    return compare_sides(*sides, remarks=remarks)


def _steps(before: _Chosen, after: _Chosen) -> tuple[list[list[int | None]], list[str]]:
    """Of every track of both, its step; and what is to be said of the choice."""
    if before.step is None and after.step is None:
        tracks = [*before.tracks, *after.tracks]
        common = _common(tracks)
        same = {id(track) for track in before.tracks} & {id(track) for track in after.tracks}
        if same:
            raise DataError(
                f"{before.tracks[0].label(None)} is on both sides without a step; write {before.tracks[0].label(None)}@STEP"
            )
        if common is not None:
            later = [track.label(track.steps[-1]) for track in tracks if track.steps[-1] != common]
            said = [f"compared at step {common}, the last that both have; there is {', '.join(later)}"] if later else []
            return [[common] * len(before.tracks), [common] * len(after.tracks)], said
        lasts = [[track.steps[-1] for track in chosen.tracks] for chosen in (before, after)]
        unlike = len({step for of in lasts for step in of if step is not None}) > 1
        return lasts, ["no step in common: the last of each is compared"] if unlike else []
    said = []
    steps: list[list[int | None]] = []
    for chosen in (before, after):
        if isinstance(chosen.step, int):
            steps.append([_has(track, chosen.step) for track in chosen.tracks])
            continue
        common = _common(chosen.tracks, first=chosen.step == "first")
        if common is None and len({track.steps[-1] for track in chosen.tracks}) > 1:
            said.append("the seeds have no step in common: the last of each is taken")
        steps.append([track.steps[-1] if common is None else common for track in chosen.tracks])
    return steps, said


def _common(tracks: Sequence[Track], *, first: bool = False) -> int | None:
    """The highest (or first) step that all have."""
    shared = set.intersection(*({step for step in track.steps if step is not None} for track in tracks))
    return (min(shared) if first else max(shared)) if shared else None


def _has(track: Track, step: int) -> int:
    if step in track.steps:
        return step
    known = [str(one) for one in track.steps if one is not None]
    shown = known if len(known) <= 12 else [*known[:3], "...", *known[-3:]]
    raise DataError(f"{track.label(None)} has no step {step}; it has {', '.join(shown) or 'no steps'}")
