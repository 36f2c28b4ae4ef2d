"""The checkpoints of a report in order, and which of them are compared with each other. Reads no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.vector import RewardVector
from harness.feed.tracks import Track
from harness.report.source import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One checkpoint of the report. `lane`: number of its trajectory; `label`: its name on the page."""

    run: Run
    track: Track
    lane: int
    lane_name: str
    vector: RewardVector

    @property
    def label(self) -> str:
        """`mix-2@7`; without a step the trajectory alone."""
        step = self.vector.step
        return self.lane_name if step is None else f"{self.lane_name}@{step}"


def standings(runs: Sequence[Run]) -> list[Standing]:
    """Every checkpoint by run, trajectory and step."""
    names = [track.name for run in runs for track in run.tracks]
    found: list[Standing] = []
    lane = 0
    for run in runs:
        for track in run.tracks:
            # A name that occurs in two runs is prefixed with its run's.
            name = track.name if names.count(track.name) == 1 else f"{run.label}:{track.name}"
            found += [
                Standing(run=run, track=track, lane=lane, lane_name=name, vector=vector)
                for vector in run.feed.trajectory(track.name)
            ]
            lane += 1
    return found


def chosen(places: Sequence[Standing], *, at_most: int) -> list[int]:
    """Indices of the checkpoints that are compared with each other: in turn each trajectory's last, first, last but one, and so on.

    The trajectories that were measured last come first, and are the ones kept if there are too many.
    """
    lanes: dict[int, list[int]] = {}
    for index, place in enumerate(places):
        lanes.setdefault(place.lane, []).append(index)
    newest = sorted(lanes.values(), key=lambda of: places[of[-1]].vector.provenance.started, reverse=True)
    if 2 * len(newest) > at_most:  # a first and a last of fewer, rather than the last of each
        newest = newest[: max(1, at_most // 2)]
    turns = [[of[-1], *of[:1], *reversed(of[1:-1])] if len(of) > 1 else of for of in newest]
    longest = max((len(of) for of in turns), default=0)
    taken = [of[turn] for turn in range(longest) for of in turns if turn < len(of)]
    return sorted(taken[:at_most])
