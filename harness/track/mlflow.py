"""mlflow: a run per trajectory in an experiment, on the server or file store that $MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import Any

from harness.core.errors import SpecError
from harness.track.row import COLUMNS, TrackedRow
from harness.track.tracker import RunIdentity, package

ID_TAG = "harness.id"
AT_ONCE = 500
"""Metrics per request; a server accepts at most 1,000."""
VECTORS = "vectors"
_MARK = re.compile(rf"{VECTORS}/step-(\d+)-([0-9a-f]+)\.json")


def metric_key(name: str) -> str:
    """The name with characters that mlflow does not accept replaced, and then a digest, so that two names never become one."""
    key = "/".join(re.sub(r"[^A-Za-z0-9_. :-]", "_", part).strip() or "_" for part in name.split("/"))
    key = re.sub(r"(^|/)\.+(?=/|$)", r"\1_", key)
    if key == name and len(key) <= 200:
        return key
    return f"{key[:200]}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


class MlflowTracker:
    """`place`: the experiment; default `harness`."""

    keeps_reports = True

    def __init__(self, *, place: str | None, folder: Path | None) -> None:
        mlflow = package("mlflow", tracker="mlflow", install="mlflow")
        try:
            self._client: Any = mlflow.MlflowClient()
        except Exception as error:
            raise SpecError(
                f"--track mlflow: {' '.join(str(error).split())}; MLFLOW_TRACKING_URI names the server or the store"
            ) from error
        self._experiment = place or "harness"

    def open(self, identity: RunIdentity) -> MlflowRun:
        """The run with the tag `harness.id` of this identity; created if there is none."""
        client = self._client
        known = client.get_experiment_by_name(self._experiment)
        experiment = client.create_experiment(self._experiment) if known is None else known.experiment_id
        found = client.search_runs([experiment], filter_string=f"tags.`{ID_TAG}` = '{identity.id}'")
        if found:
            run_id = found[0].info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            tags = {ID_TAG: identity.id, "harness.group": identity.group}
            run_id = client.create_run(experiment, run_name=identity.name, tags=tags).info.run_id
        params = client.get_run(run_id).data.params
        for name, value in identity.config.items():
            if name not in params:
                client.log_param(run_id, name, value[:500])
        return MlflowRun(client, run_id)


class MlflowRun:
    """A row's metrics are written first, its table last, so that the table's file marks a complete row."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._known: dict[str, set[tuple[int, float]]] = {}
        """Metric -> its (step, value) on the server; fetched once, and again after a failure."""

    def seen(self) -> set[tuple[int, str]]:
        """From the names of the tables."""
        files = self._client.list_artifacts(self._run_id, VECTORS)
        marks = [_MARK.fullmatch(file.path) for file in files]
        return {(int(mark[1]), mark[2]) for mark in marks if mark}

    def write(self, row: TrackedRow) -> None:
        """Write the row; metrics that a killed writer had written already are skipped."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        try:
            missing = [
                Metric(key=metric_key(name), value=value, timestamp=now, step=row.step)
                for name, value in row.metrics.items()
                if (row.step, value) not in self._points(metric_key(name))
            ]
            for at in range(0, len(missing), AT_ONCE):
                self._client.log_batch(self._run_id, metrics=missing[at : at + AT_ONCE])
            table = {"columns": list(COLUMNS), "data": [list(cells) for cells in row.table]}
            self._client.log_dict(self._run_id, table, f"{VECTORS}/step-{row.step}-{row.digest}.json")
        except BaseException:
            self._known.clear()
            raise
        for metric in missing:
            self._known[metric.key].add((row.step, metric.value))

    def report(self, path: Path) -> None:
        """As the artifact `report.html`."""
        self._client.log_artifact(self._run_id, str(path))

    def finish(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run_id, status="FINISHED")

    def _points(self, key: str) -> set[tuple[int, float]]:
        if key not in self._known:
            history = self._client.get_metric_history(self._run_id, key)
            self._known[key] = {(metric.step, metric.value) for metric in history}
        return self._known[key]
