"""Each tracker in its offline form, told by environment variables alone, and what it holds by its own reader."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("mlflow", "tensorboard", "trackio", "wandb")
ENVIRONMENT = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
}
Point = tuple[int, float]


def need(name: str) -> Any:
    """The tracker's package; skip, by name, where it is not installed."""
    return pytest.importorskip(name, reason=f"{name} is not installed; it comes with the extra dev")


def project_of(folder: Path) -> str:
    """A project of the test's own, for trackers that share one database."""
    return f"{folder.parent.name}-{folder.name}"


def words(name: str, folder: Path) -> str:
    """What stands after --track."""
    return name if name == "tensorboard" else f"{name}:{project_of(folder)}"


def points(name: str, folder: Path, metric: str, *, trajectory: str = "a") -> list[Point]:
    """Every point of a metric as the tracker has it, in no order; trackers' own files and readers."""
    reader = {"mlflow": _mlflow, "tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}[name]
    return list(reader(folder, metric, trajectory))


def _tensorboard(folder: Path, metric: str, trajectory: str) -> Iterator[Point]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(folder / "tensorboard" / trajectory))
    seen.Reload()
    if metric in seen.Tags()["scalars"]:
        yield from ((event.step, event.value) for event in seen.Scalars(metric))


def _trackio(folder: Path, metric: str, trajectory: str) -> Iterator[Point]:
    import trackio

    storage = trackio.SQLiteStorage
    for run in storage.get_run_records(project_of(folder)):
        if f"-{trajectory}-" in run["name"]:
            rows = storage.get_logs(project_of(folder), run["name"], run_id=run["id"])
            yield from ((row["step"], row[metric]) for row in rows if metric in row)


def _mlflow(folder: Path, metric: str, trajectory: str) -> Iterator[Point]:
    mlflow = importlib.import_module("mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(project_of(folder))
    for run in client.search_runs([experiment.experiment_id]) if experiment else ():
        if run.data.params["trajectory"] == trajectory:
            yield from ((one.step, one.value) for one in client.get_metric_history(run.info.run_id, metric))


def _wandb(folder: Path, metric: str, trajectory: str) -> Iterator[Point]:
    """The transaction logs that `wandb sync` uploads."""
    import json

    from wandb.proto.wandb_internal_pb2 import Record

    from harness.track.wandb import records

    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        found = [Record.FromString(content) for content in records(path)]
        config = {u.key: u.value_json for one in found for u in one.run.config.update}
        if json.loads(config.get("trajectory", "null")) != trajectory:
            continue
        for one in found:
            row = {item.key or "/".join(item.nested_key): item.value_json for item in one.history.item}
            if metric in row:
                yield int(json.loads(row["step"])), json.loads(row[metric])
