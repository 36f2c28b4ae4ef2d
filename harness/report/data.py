"""Everything a report shows, as values for JSON: read once, computed by `reward_models`, bounded in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.errors import DataError
from harness.feed.place_name import parse_place
from harness.feed.tracks import read_tracks
from harness.report.curves import curves
from harness.report.failures import failures
from harness.report.keep import Keep
from harness.report.pairs import pairs
from harness.report.places import Standing, chosen, standings
from harness.report.questions import Strings, questions
from harness.report.simulations import Simulations, groups
from harness.report.source import Run, Simulated, read_sources
from harness.report.summary import summary
from harness.reward_models.items import Items, Layout
from harness.reward_models.side import Coordinate, Side

LAST, COMPARISONS = 24, 2_500
"""By default LAST checkpoints are compared with each other, fewer if their components would make more than COMPARISONS comparisons
(which take a second or two)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The blocks of a page, without the transcripts."""

    title: str
    feed: dict[str, Any]
    compared: dict[str, Any]
    simulations: dict[str, Any]
    more: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of a report. `last`: number of checkpoints compared with each other; `against`: one more, by its place."""

    paths: tuple[Path, ...]
    title: str | None = None
    last: int | None = None
    against: str | None = None
    keep: Keep = Keep.ALL


class Reading:
    """The sources of a report, read once."""

    def __init__(self, wanted: Wanted) -> None:
        """Raises DataError for a path that is no run, or a bad place."""
        self.wanted = wanted
        sources = read_sources(list(wanted.paths))
        self._runs = [one for one in sources if isinstance(one, Run)]
        simulated = [one for one in sources if isinstance(one, Simulated)]
        self._places = standings(self._runs)
        self.simulations = Simulations(groups(self._places, simulated), keep=wanted.keep)
        self._labels = [one.label for one in sources]

    def report(self) -> Report:
        """Everything but the transcripts."""
        names = ", ".join(self._labels)
        return Report(
            title=self.wanted.title or names,
            feed={**curves(self._places), "runs": summary(self._runs, self._places)},
            compared=self._compared(),
            simulations=self.simulations.listed(),
            more=failures(self._places),
        )

    def _compared(self) -> dict[str, Any]:
        picked = chosen(self._places, at_most=self.wanted.last or self._last())
        standing: list[Standing] = [self._places[index] for index in picked]
        sides = _sharing([_labelled(place.track.side(place.vector.step), place.label) for place in standing])
        names = list(dict.fromkeys(name for side in sides for name in side.coordinates))
        if self.wanted.against is not None:
            sides.append(_against(self.wanted.against))
        strings = Strings()
        return {
            "places": [*picked, *([None] if self.wanted.against is not None else [])],
            "labels": [side.label for side in sides],
            "raw": {name: [_raw(side, name) for side in sides] for name in names},
            "names": names,
            "against": len(sides) - 1 if self.wanted.against is not None else None,
            "pairs": pairs(sides, names),
            "items": {name: questions(name, standing, sides[: len(standing)], strings) for name in names},
            "strings": strings.all,
            "n_places": len(self._places),
        }

    def _last(self) -> int:
        most = max((len(place.vector.components) for place in self._places), default=1)
        n = LAST
        while n > 4 and most * n * (n - 1) // 2 > COMPARISONS:
            n -= 1
        return n


def _labelled(side: Side, label: str) -> Side:
    return replace(side, label=label)


def _sharing(sides: Sequence[Side]) -> list[Side]:
    """The same sides, with one Layout object for all checkpoints that scored the same items, which makes comparing their pairs cheap."""
    known: dict[str, Layout] = {}

    def shared(one: Coordinate) -> Coordinate:
        if not isinstance(one.items, Items):
            return one
        own = one.items.layout
        where = known.setdefault(one.name, own)
        same = where.scope == own.scope and where.same(own)
        return replace(one, items=replace(one.items, layout=where)) if same else one

    return [replace(side, coordinates={name: shared(one) for name, one in side.coordinates.items()}) for side in sides]


def _raw(side: Side, name: str) -> float | None:
    from harness.report import numbers

    return numbers.value(side.coordinates[name].measurement.raw) if name in side.coordinates else None


def _against(text: str) -> Side:
    """The checkpoint at a place; without a step the last one. Raises DataError."""
    place = parse_place(text)
    tracks = read_tracks(place.path)
    which, step = place.chosen([track.name for track in tracks], [track.training for track in tracks])
    if len(which) > 1:
        names = ", ".join(tracks[index].name for index in which)
        raise DataError(f"{text} names several trajectories ({names}); write {place.path}:TRAJECTORY@STEP")
    track = tracks[which[0]]
    wanted = track.steps[0] if step == "first" else track.steps[-1] if step in (None, "last") else step
    if wanted not in track.steps:
        raise DataError(f"{text}: no step {wanted}; it has {', '.join(map(str, track.steps))}")
    return track.side(wanted)


def left_out(wanted: Wanted, report: Report, n_transcripts: int) -> Sequence[str]:
    """Messages on what the page leaves out."""
    said = []
    n, of = len(report.compared["places"]), report.compared["n_places"]
    if report.compared["against"] is not None:
        n -= 1
    if n < of:
        said.append(
            f"{n} of {of:,} checkpoints are compared with each other: last and first of each trajectory before others (--last)"
        )
    every = len(report.simulations["all"])
    if n_transcripts < every and wanted.keep is not Keep.NONE:
        why = "" if wanted.keep is Keep.ALL else " (--simulations all keeps those of successes too)"
        said.append(f"{n_transcripts:,} of {every:,} simulations have their transcript here{why}; the list has all")
    elif every and wanted.keep is Keep.NONE:
        said.append("no transcripts (--simulations none)")
    return said
