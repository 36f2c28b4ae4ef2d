"""The trackers by name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import HarnessError, SpecError
from harness.track.tracker import Tracker

TRACKERS = {
    "mlflow": "harness.track.mlflow:MlflowTracker",
    "tensorboard": "harness.track.tensorboard:TensorBoardTracker",
    "trackio": "harness.track.trackio:TrackioTracker",
    "wandb": "harness.track.wandb:WandbTracker",
}
"""Name -> the class, imported when it is asked for."""


def trackers_of(wanted: Sequence[str], *, folder: Path | None) -> dict[str, Tracker]:
    """Each `NAME` or `NAME:PLACE` made ready, by name. Raises SpecError: unknown, twice, not installed, or not usable here."""
    made: dict[str, Tracker] = {}
    for words in wanted:
        name, colon, place = words.partition(":")
        if name not in TRACKERS:
            near = difflib.get_close_matches(name.lower(), TRACKERS, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SpecError(f"--track {words}: there is no tracker {name!r}{hint}; there are {', '.join(TRACKERS)}")
        if name in made:
            raise SpecError(f"--track {words}: {name} is named twice; name each tracker once")
        if colon and not place:
            raise SpecError(f"--track {words}: nothing stands after the colon; {name} alone, or {name}:PROJECT")
        module, _, attribute = TRACKERS[name].partition(":")
        try:
            made[name] = getattr(importlib.import_module(module), attribute)(place=place or None, folder=folder)
        except HarnessError:
            raise
        except Exception as error:  # the package may raise anything
            what = " ".join(str(error).split())[:300]
            raise SpecError(
                f"--track {words}: {name} cannot be used here ({type(error).__name__}: {what}); set right what it reads from "
                "the environment, or leave the tracker out"
            ) from error
    return made
