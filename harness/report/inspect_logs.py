"""Runs and simulations as Inspect logs, for `inspect view`: one file per checkpoint and component, or per file of simulations.

Values and errors are the feed's; nothing is judged again. A sample that was not scored has an error and no score, and is in no mean.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
from harness.core.errors import DataError, SpecError
from harness.core.journal import write_failure
from harness.core.vector import ComponentRecord, RewardVector
from harness.feed.items import read_table, read_texts
from harness.report.inspect_sample import REWARD, question_sample, simulation_sample
from harness.report.simulations import lines_of, number_of
from harness.report.source import SIMULATIONS, Simulated, read_sources
from harness.reward_models.items import CLUSTERS, MEMBER, VALUES
from harness.reward_models.reference import label
from harness.reward_models.statistics import clustered_mean
from harness.tasks.tau2.recording import read_raw

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

FOLDER = "inspect"
ROWS = ("id", "answer", "reason", *VALUES, *CLUSTERS, MEMBER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """The files that were written, and what was left out, with the reason."""

    paths: list[Path]
    left_out: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """The content of a log, before it is converted to Inspect's records."""

    name: str
    task: str
    model: str
    created: str
    samples: list[EvalSample]
    metric: str
    value: float | None
    stderr: float | None
    facts: Mapping[str, Any]


def write_inspect(path: Path, out: Path | None = None, *, last: bool = False) -> Logs:
    """Logs of a run folder, feed, or folder or file of simulations; of every step, or (`last`) of each trajectory's last.

    Raises DataError for what cannot be read, SpecError without inspect_ai, StateError for `out`.
    """
    try:
        import inspect_ai  # noqa: F401
    except ImportError as error:
        raise SpecError("--format inspect needs inspect_ai; pip install inspect_ai, or the extra tau2") from error
    (source,) = read_sources([path])
    folder = out or (path if path.is_dir() else path.parent) / FOLDER
    if folder.is_file():
        raise SpecError(f"{folder} is a file; Inspect logs go into a folder")
    left_out: list[str] = []
    if isinstance(source, Simulated):
        made = [_of_recording(source.path)]
    else:
        feed = source.feed
        vectors = [feed.trajectory(name)[-1] for name in feed.trajectories] if last else list(feed)
        made = list(_of_feed(source.folder, vectors, left_out))
    if not made:
        raise DataError(
            f"{path} has no simulations and no items to write; {left_out[0] if left_out else 'it is empty'}"
        )
    return Logs(paths=[_write(one, folder) for one in made], left_out=left_out)


def _of_feed(folder: Path, vectors: Sequence[RewardVector], left_out: list[str]) -> Iterator[_Made]:
    for vector in vectors:
        for component in vector.components:
            what = f"{component.name} of {label(vector)}"
            try:
                samples = _samples(folder, vector, component)
            except DataError as error:
                left_out.append(f"{what}: {error}")
                continue
            yield _Made(
                name=what,
                task=component.name,
                model=f"harness/{vector.trajectory}{'' if vector.step is None else f'@{vector.step}'}",
                created=vector.provenance.started,
                samples=samples,
                metric=REWARD if component.kind == "tau2" else component.metric,
                value=component.raw,
                stderr=component.stderr,
                facts={
                    "run": vector.run,
                    "trajectory": vector.trajectory,
                    "step": vector.step,
                    "fingerprint": vector.checkpoint.fingerprint,
                    "mixture": None if vector.mixture is None else vector.mixture.normalized(),
                    "status": component.status,
                    "reason": component.reason,
                    "n_items": component.n_items,
                    "n_scored": component.n_scored,
                    "task": dict(vector.provenance.tasks.get(component.name, {})),
                },
            )


def _samples(folder: Path, vector: RewardVector, component: ComponentRecord) -> list[EvalSample]:
    """The samples of a component. Raises DataError where there are neither simulations nor items."""
    files = component.detail.get("files")
    if component.kind == "tau2" and isinstance(files, list) and files:
        places = list(dict.fromkeys((folder / str(name)).parent for name in files))
        return _simulations(line for place in places for line in lines_of(place))
    where = component.detail.get("items")
    if not isinstance(where, str):
        raise DataError(component.reason or "the feed names no file of its items")
    table = read_table(folder / where, ROWS)
    if table is None or "id" not in table:
        raise DataError(f"its items are not there or cannot be read ({folder / where})")
    texts = read_texts(folder, where) or {"id": []}
    asked = {
        identity: {name: texts[name][row] for name in texts if name != "id"} for row, identity in enumerate(texts["id"])
    }
    values = next((table[name] for name in VALUES if name in table), [None] * len(table["id"]))
    samples = []
    epochs = _Epochs()
    for row, identity in enumerate(table["id"]):
        cells = {name: column[row] for name, column in table.items()}
        samples.append(
            question_sample(
                {**cells, **asked.get(identity, {})},
                epoch=epochs.of(str(identity), None),
                value=number_of(values[row]),
                metric=component.metric,
                model=vector.trajectory,
            )
        )
    return samples


def _of_recording(path: Path) -> _Made:
    lines, told = list(lines_of(path)), _Told(path)
    samples = _simulations(told.with_task(line) for line in lines)
    scored = [
        (reward, str(line.get("task_id")))
        for line in lines
        if (reward := number_of(_mapping(line.get("reward_info")).get("reward"))) is not None
    ]
    mean = clustered_mean([one for one, _ in scored], [of for _, of in scored]) if scored else None
    domain = told.domain or "simulations"
    times = [str(line["timestamp"]) for line in lines if isinstance(line.get("timestamp"), str)]
    return _Made(
        name=f"tau2-{domain}-{path.resolve().name.partition('.')[0]}",
        task=f"tau2_{domain}",
        model=told.model or "unknown",
        created=_time(min(times, default="")),
        samples=samples,
        metric=REWARD,
        value=None if mean is None else mean.mean,
        stderr=None if mean is None else mean.stderr,
        facts={"file": path.name, "domain": domain},
    )


class _Told:
    """What a recording has once for all simulations: domain, tasks, and the agent's model.

    Only the model's name is taken: its other settings in a recording may include a key.
    """

    def __init__(self, path: Path) -> None:
        files = [path] if path.is_file() else [path / name for name in SIMULATIONS]
        raws = [read_raw(one) for one in files if one.exists() and one.stat().st_size]
        self.domain = next((raw.domain for raw in raws if raw.domain), None)
        models = (_mapping(_mapping(raw.info).get("agent_info")).get("llm") for raw in raws)
        self.model = next((one for one in models if isinstance(one, str) and one), None)
        self._tasks = {str(_mapping(task).get("id")): task for raw in raws for task in raw.tasks or ()}

    def with_task(self, line: Mapping[str, Any]) -> Mapping[str, Any]:
        """The simulation with its task, as in our own lines."""
        task = self._tasks.get(str(line.get("task_id")))
        return {**line, "task": task} if task is not None and "task" not in line else line


def _simulations(lines: Any) -> list[EvalSample]:
    epochs = _Epochs()
    return [simulation_sample(line, epochs.of(str(line.get("task_id")), line.get("trial"))) for line in lines]


class _Epochs:
    """An epoch for each sample, trial + 1 where that is free, since (id, epoch) must be unique in Inspect."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, int]] = set()

    def of(self, identity: str, trial: Any) -> int:
        epoch = trial + 1 if isinstance(trial, int) and trial >= 0 else 1
        while (identity, epoch) in self._taken:
            epoch += 1
        self._taken.add((identity, epoch))
        return epoch


def _write(made: _Made, folder: Path) -> Path:
    from inspect_ai.log import write_eval_log

    digest = hashlib.sha256(made.name.encode("utf-8", "surrogatepass")).hexdigest()[:22]
    name = re.sub(r"[^A-Za-z0-9.=-]+", "-", made.name).strip("-.")[:120]
    path = folder / f"{name}_{digest[:8]}.eval"
    temporary = path.with_name(f".{path.name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_eval_log(_log(made, digest), str(temporary), format="eval")
        temporary.replace(path)
    except OSError as error:
        raise write_failure(path, error) from error
    return path


def _log(made: _Made, digest: str) -> EvalLog:
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalResults,
        EvalScore,
        EvalSpec,
        EvalStats,
    )

    scored = [one for one in made.samples if one.scores]
    metrics = {
        name: EvalMetric(name=name, value=value)
        for name, value in (("mean", made.value), ("stderr", made.stderr))
        if value is not None
    }
    ids = list(dict.fromkeys(one.id for one in made.samples))
    return EvalLog(
        status="success" if made.value is not None else "error",
        eval=EvalSpec(
            eval_id=digest,
            run_id=digest,
            task_id=digest,
            created=made.created,
            task=made.task,
            model=made.model,
            dataset=EvalDataset(name=made.task, samples=len(ids), sample_ids=[str(one) for one in ids]),
            config=EvalConfig(epochs=max((one.epoch for one in made.samples), default=1)),
            packages={"mixture-harness": harness.__version__},
            metadata=dict(made.facts),
        ),
        results=EvalResults(
            total_samples=len(made.samples),
            completed_samples=len(scored),
            scores=[
                EvalScore(
                    name=made.metric,
                    scorer=made.metric,
                    scored_samples=len(scored),
                    unscored_samples=len(made.samples) - len(scored),
                    metrics=metrics,
                )
            ],
        ),
        stats=EvalStats(started_at=made.created, completed_at=made.created),
        samples=made.samples,
    )


def _time(words: str) -> str:
    """ISO 8601 with a time zone, as Inspect requires; 1970-01-01 where the recording has no readable time."""
    try:
        found = datetime.fromisoformat(words)
    except ValueError:
        found = datetime.fromtimestamp(0, UTC)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
