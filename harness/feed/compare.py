"""From names of checkpoints to comparisons: which trajectory, which step, which seeds belong together. Computes no difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.core.errors import DataError
from harness.feed.place_name import StepName, parse_place
from harness.feed.tracks import Track, read_tracks, trainings
from harness.reward_models.comparison import Comparison, compare_sides


class _Chosen(NamedTuple):
    """Seeds of one training (or one trajectory), and the step that was asked for."""

    tracks: list[Track]
    step: StepName | None


def compare(before: str, after: Sequence[str], *, seeds: bool = False, newest: bool = False) -> list[Comparison]:
    """`after` against `before`, each named as `place_name` reads it; `seeds`: several trajectories of a side are seeds.

    Where neither names a step, both are taken at the highest step that both have; with `newest` (a gate) `after` at its last,
    and `before` at the same step if it has it. Where one names a step, the other is taken at its last. Several trajectories
    on both sides are compared like with like, by name. Raises DataError.
    """
    sources: dict[str, list[Track]] = {}
    first = _chosen([before], sources, seeds=seeds)
    others = _chosen(after, sources, seeds=seeds)
    pairs = [(_partner(first, other, before), other) for other in others]
    if len(pairs) > 1:  # `RUN:base RUN`: every trajectory of RUN but the one they are compared with
        pairs = [pair for pair in pairs if pair[0] != pair[1]] or pairs
    return [_compared(*pair, newest=newest) for pair in pairs]


def _chosen(names: Sequence[str], sources: dict[str, list[Track]], *, seeds: bool) -> list[_Chosen]:
    by_step: dict[StepName | None, list[Track]] = {}
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


def _compared(before: _Chosen, after: _Chosen, *, newest: bool) -> Comparison:
    steps, remarks = _steps(before, after, newest=newest)
    sides = [
        [track.side(step) for track, step in zip(chosen.tracks, at, strict=True)]
        for chosen, at in zip((before, after), steps, strict=True)
    ]
    labels = [[side.label for side in of] for of in sides]
    if set(labels[0]) & set(labels[1]):
        raise DataError(
            f"{', '.join(sorted(set(labels[0]) & set(labels[1])))} is on both sides; name another step or trajectory"
        )
    keys, names = ([{getattr(t, of) for t in chosen.tracks} for chosen in (before, after)] for of in ("key", "name"))
    if keys[0] & keys[1] and not names[0] & names[1] and steps[0] == steps[1]:
        remarks.append("both are seeds of one training: what they differ by is what a seed does")
    for of in sides:
        if len(of) > 1:
            remarks.append(f"seeds of one training: {', '.join(side.label for side in of)}")
    return compare_sides(*sides, remarks=remarks)


def _steps(before: _Chosen, after: _Chosen, *, newest: bool) -> tuple[list[list[int | None]], list[str]]:
    """The step of every track, for both sides; and remarks about the choice."""
    if before.step is not None or after.step is not None:
        taken = [_taken(chosen) for chosen in (before, after)]
        return [steps for steps, _ in taken], [words for _, said in taken for words in said]
    tracks = [*before.tracks, *after.tracks]
    if {id(track) for track in before.tracks} & {id(track) for track in after.tracks}:
        label = before.tracks[0].label(None)
        hint = "name another" if before.tracks[0].steps == (None,) else f"write {label}@STEP"
        raise DataError(f"{label} is on both sides without a step; {hint}")
    common = _common(tracks)
    if newest and common != (last := _common(after.tracks)):
        common = None if last is None or any(last not in track.steps for track in before.tracks) else last
    if common is None:
        lasts = [_taken(chosen)[0] for chosen in (before, after)]
        unlike = len({step for of in lasts for step in of if step is not None}) > 1
        words = "which the other side does not have" if newest else "since they have none in common"
        return lasts, [f"the last step of each is compared, {words}"] if unlike else []
    later = [track.label(track.steps[-1]) for track in tracks if track.steps[-1] != common]
    said = [f"compared at step {common}, the last that both have; there is {', '.join(later)}"] if later else []
    return [[common] * len(before.tracks), [common] * len(after.tracks)], said


def _taken(chosen: _Chosen) -> tuple[list[int | None], list[str]]:
    """A side's steps by itself: as named, else the last that all of its seeds have, else the last of each."""
    if isinstance(chosen.step, int):
        return [_has(track, chosen.step) for track in chosen.tracks], []
    common = _common(chosen.tracks, first=chosen.step == "first")
    if common is not None:
        return [common] * len(chosen.tracks), []
    lasts = [track.steps[-1] for track in chosen.tracks]
    return lasts, ["the seeds have no step in common: the last of each is taken"] if len(set(lasts)) > 1 else []


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
