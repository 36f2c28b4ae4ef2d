"""Trajectories to choose checkpoints from, whatever they are read from: feeds, run folders, lm-eval's result folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from harness.core.errors import DataError
from harness.core.vector import Mixture, RewardVector
from harness.feed.feed import Feed, read_feed
from harness.feed.items import items_of
from harness.feed.lines import FEED_FILE
from harness.reward_models.seeds import NAMELESS, training_of
from harness.reward_models.side import Coordinate, Side
from harness.reward_models.unlike import VARIABLE

if TYPE_CHECKING:
    from harness.lm_eval.samples import ModelSamples

WITHOUT_DIGEST = ("content", "revision", "task_revision")
"""Keys of a component's task that identify its definition in feeds written before `definition` was recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One trajectory. `key`: equal for the seeds of one training. `read`: the Side at one of its steps, without its label.

    A result folder of lm-eval is a track per model, with the one step None.
    """

    source: str
    name: str
    alone: bool
    """Whether it is the only one of its source."""
    steps: tuple[int | None, ...]
    mixtures: tuple[Mixture | None, ...]
    read: Callable[[int | None], Side]

    @property
    def training(self) -> str:
        """Its name without a seed, or that of its folder where the trajectory's has none."""
        if training_of(self.name) != self.name:
            return training_of(self.name)
        folder = Path(self.source).name
        return training_of(folder) if training_of(folder) != folder else self.name

    @property
    def key(self) -> tuple[str, ...]:
        """Of the training: tracks of equal keys differ only in their seed."""
        if training_of(self.name) != self.name:
            bare = training_of(self.name) == NAMELESS  # `seed1`: its folder says of what
            return ("trajectory", training_of(self.name), self.source if bare else "")
        path = Path(self.source)
        if training_of(path.name) != path.name:
            return ("folder", str(path.parent), training_of(path.name), self.name)
        return ("alone", self.source, self.name)

    def label(self, step: int | None) -> str:
        """What names one of its checkpoints, as the command line takes it."""
        trajectory = "" if self.alone else f":{self.name}"
        return f"{self.source}{trajectory}" + ("" if step is None else f"@{step}")

    def side(self, step: int | None) -> Side:
        """One of its checkpoints, its items read. Raises DataError."""
        return replace(
            self.read(step),
            label=self.label(step),
            trajectory=f"{self.source}:{self.name}",
            training=self.training,
        )

    def mixed_like(self, other: Track) -> bool:
        """Whether the mixtures of their common steps are equal, as far as both are known."""
        theirs = dict(zip(other.steps, other.mixtures, strict=True))
        return all(
            mine is None or (his := theirs.get(step)) is None or mine.normalized() == his.normalized()
            for step, mine in zip(self.steps, self.mixtures, strict=True)
        )


def read_tracks(path: Path) -> list[Track]:
    """Every trajectory of a run folder or feed, or every model of a result folder of lm-eval. Raises DataError."""
    if (path / FEED_FILE).exists() or (path.is_file() and path.suffix != ".json"):
        feed = read_feed(path).latest()
        if not feed:
            raise DataError(f"the feed at {path} is empty; there is nothing to compare")
        return tracks_of(path, feed)
    if path.is_file() or any(path.rglob("results*.json")):
        return _of_lm_eval(path)
    raise DataError(
        f"{path} is no run folder (it has no {FEED_FILE}) and no result folder of lm-eval (no results_*.json); name one of "
        "these, or a feed"
    )


def tracks_of(path: Path, feed: Feed) -> list[Track]:
    """Every trajectory of a feed that was read from `path` (or the run folder it is in), as `latest` gives it."""
    folder = path if path.is_dir() else path.parent
    alone = len(feed.trajectories) == 1
    return [_of_trajectory(path, folder, feed.trajectory(name), name, alone=alone) for name in feed.trajectories]


def _of_trajectory(path: Path, folder: Path, vectors: Feed, name: str, *, alone: bool) -> Track:
    by_step = {vector.step: vector for vector in vectors}
    return Track(
        source=str(path),
        name=name,
        alone=alone,
        steps=tuple(by_step),
        mixtures=tuple(vector.mixture for vector in by_step.values()),
        read=partial(_read_side, folder, by_step),
    )


def _read_side(folder: Path, by_step: Mapping[int | None, RewardVector], step: int | None) -> Side:
    vector = by_step[step]
    provenance = vector.provenance
    return Side(
        step=vector.step,
        coordinates={
            component.name: Coordinate(
                name=component.name,
                kind=component.kind,
                measurement=component,
                role=component.role,
                weight=component.weight,
                meaning=_meaning(provenance.tasks.get(component.name, {})),
                items=items_of(folder, vector, component),
            )
            for component in vector.components
        },
        tokenizer=vector.checkpoint.tokenizer,
        fingerprint=vector.checkpoint.fingerprint,
        about={
            "engine": provenance.engine,
            "dtype": provenance.dtype,
            "reference": vector.reference.id,
            **{f"{VARIABLE}{name}": value for name, value in vector.variables.items()},
        },
    )


def _meaning(task: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    if task.get("definition") is not None:
        return task
    return {key: task[key] for key in WITHOUT_DIGEST if key in task}


def _of_lm_eval(path: Path) -> list[Track]:
    from harness.lm_eval.samples import read_models

    models = read_models(path)

    return [
        Track(
            source=str(path),
            name=model.label,
            alone=len(models) == 1,
            steps=(None,),
            mixtures=(None,),
            read=partial(_model_side, model),
        )
        for model in models
    ]


def _model_side(model: ModelSamples, step: int | None) -> Side:
    return Side(coordinates=model.coordinates, step=step, about=model.about)


def trainings(tracks: Sequence[Track], *, as_seeds: bool = False) -> list[list[Track]]:
    """Tracks grouped into trainings, in order: those of equal keys that were mixed alike; `as_seeds`: all are one training's.

    Two of one name are never two seeds, unless their folders' names say so.
    """
    if as_seeds:
        return [list(tracks)] if tracks else []
    groups: list[list[Track]] = []
    for track in tracks:
        for group in groups:
            twice = track.key[0] == "trajectory" and track.name in [one.name for one in group]
            if group[0].key == track.key and not twice and all(map(track.mixed_like, group)):
                group.append(track)
                break
        else:
            groups.append([track])
    return groups
