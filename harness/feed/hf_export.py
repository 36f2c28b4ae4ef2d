"""Results for other platforms: `.eval_results` for a model's repository on the hub, and records of Every Eval Ever.

No statistics of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import harness
from harness.core.errors import DataError, SpecError
from harness.core.journal import write_atomically
from harness.core.vector import ComponentRecord, RewardVector
from harness.feed.feed import Feed
from harness.feed.runs import run_name
from harness.reward_models.reference import label

EEE_SCHEMA = "0.3.0"
FOLDER = "hf"
EVAL_RESULTS = ".eval_results"
RECORDS = "every_eval_ever"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BOUNDS: Mapping[str, tuple[float | str, float | str]] = {
    "logprob_per_token": ("-Infinity", 0.0),
    **dict.fromkeys(("reward", "acc", "acc_norm", "exact_match", "pass@1", "pass_at_1", "f1"), (0.0, 1.0)),
}
"""Metric -> its least and greatest possible value, where known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A benchmark on the hub: data set, its task, and the revision where it is known."""

    id: str
    task: str
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The files written, the components with a record but no `.eval_results` (`notes`), and those with neither (`left_out`)."""

    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def parse_datasets(given: Sequence[str]) -> dict[str, Dataset]:
    """`COMPONENT=ORG/NAME` or `COMPONENT=ORG/NAME:TASK`, by component. Raises SpecError."""
    found: dict[str, Dataset] = {}
    for words in given:
        name, equals, where = words.partition("=")
        dataset, _, task = where.partition(":")
        if not (name and equals and _HUB_ID.fullmatch(dataset)):
            raise SpecError(f"--dataset {words}: expected COMPONENT=ORG/NAME or COMPONENT=ORG/NAME:TASK")
        if name in found:
            raise SpecError(f"--dataset {words}: {name} is named twice")
        found[name] = Dataset(id=dataset, task=task or "default")
    return found


def write_hf(
    feed: Feed,
    out: Path,
    *,
    last: bool = True,
    model: str | None = None,
    datasets: Mapping[str, Dataset] | None = None,
) -> Results:
    """Write both kinds of file for every vector, or (`last`) for each trajectory's last one.

    `model`: the checkpoint's id on the hub, where it is a single one. Raises DataError, SpecError, StateError.
    """
    latest = feed.latest()
    vectors = [latest.trajectory(name)[-1] for name in latest.trajectories] if last else list(latest)
    if not vectors:
        raise DataError("the feed is empty: there is nothing to export")
    if model is not None:
        if not _HUB_ID.fullmatch(model):
            raise SpecError(f"--model {model}: expected ORG/NAME")
        checkpoints = {(run_name(vector), vector.step) for vector in vectors}  # rows of `vary` are of one
        if len(checkpoints) > 1:
            raise SpecError(
                f"--model {model}: the feed has {len(checkpoints)} checkpoints to export, and an id is of one"
            )
    given = dict(datasets or {})
    unknown = given.keys() - {component.name for vector in vectors for component in vector.components}
    if unknown:
        raise SpecError(f"--dataset {min(unknown)}: no component has this name")
    made = Results()
    for vector in vectors:
        for component in vector.components:
            what = f"{component.name} of {label(vector)}"
            if component.raw is None:
                made.left_out.append(f"{what}: {component.reason}")
                continue
            dataset = given.get(component.name) or _dataset(vector, component)
            why_not = _no_result(component, dataset)
            if why_not is None:
                assert dataset is not None
                made.paths.append(_write_result(vector, component, dataset, out))
            else:
                made.notes.append(f"{what} has no {EVAL_RESULTS}: {why_not}")
            made.paths.append(_write_record(vector, component, dataset, out, model))
    return made


def _dataset(vector: RewardVector, component: ComponentRecord) -> Dataset | None:
    """The one hub data set that the benchmark's provenance names."""
    sources = [
        one
        for name, one in vector.provenance.tasks.get(component.name, {}).items()
        if name.startswith("task ") and isinstance(one, Mapping)
    ]
    found = {
        (str(one.get("path")), str(one.get("name") or "default"), str(one["revision"]) if one.get("revision") else None)
        for one in sources
    }
    if len(found) != 1:
        return None
    ((path, task, revision),) = found
    return Dataset(id=path, task=task, revision=revision) if _HUB_ID.fullmatch(path) else None


def _no_result(component: ComponentRecord, dataset: Dataset | None) -> str | None:
    """Why a value is no result of a benchmark on the hub; None where it is one."""
    if component.kind == "logprob":
        return "a log-probability of a field is no benchmark's metric"
    if component.status != "ok":
        return f"only {component.n_scored} of {component.n_items} items were scored"
    if dataset is None:
        return f"which data set of the hub it is of is not known; --dataset {component.name}=ORG/NAME:TASK names it"
    return None


def _write_result(vector: RewardVector, component: ComponentRecord, dataset: Dataset, out: Path) -> Path:
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    error = "" if component.stderr is None else f", standard error {component.stderr:.4g}"
    varied = "".join(f", {name} = {value}" for name, value in vector.variables.items())
    entry = EvalResultEntry(
        dataset_id=dataset.id,
        task_id=dataset.task,
        value=component.raw,
        dataset_revision=dataset.revision,
        date=vector.provenance.started[:10],
        notes=f"{component.metric}{error}, {component.n_scored} items{varied}; mixture-harness {vector.provenance.harness}",
    )
    content = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
    path = out / _folder(_checkpoint(vector)) / EVAL_RESULTS / f"{component.name}.yaml"
    write_atomically(path, content.encode("utf-8", "replace"))
    return path


def _write_record(
    vector: RewardVector, component: ComponentRecord, dataset: Dataset | None, out: Path, model: str | None
) -> Path:
    record = every_eval_ever(vector, component, dataset=dataset, model=model)
    developer, _, name = record["model_info"]["id"].partition("/")
    digest = hashlib.sha256(record["evaluation_id"].encode("utf-8", "replace")).digest()
    file = f"{uuid.UUID(bytes=digest[:16], version=4)}.json"
    path = out / RECORDS / "data" / _folder(component.name) / _folder(developer) / _folder(name) / file
    write_atomically(path, json.dumps(record, indent=2).encode() + b"\n")
    return path


def every_eval_ever(
    vector: RewardVector, component: ComponentRecord, *, dataset: Dataset | None = None, model: str | None = None
) -> dict[str, Any]:
    """A component of a vector as a record of Every Eval Ever's schema 0.3.0. The component has a value.

    The same vector makes the same record: its time is that of the measurement.
    """
    started = vector.provenance.started
    identity = model or _model_id(vector)
    retrieved = str(datetime.fromisoformat(started).timestamp())
    # A hub id does not identify the revision, the step or the variables of a prompt, and two times may be equal.
    place = "" if identity.startswith("local/") else f"/{_folder(_checkpoint(vector))}"
    evaluation = f"{component.name}/{identity}/{retrieved}{place}"
    return {
        "schema_version": EEE_SCHEMA,
        "evaluation_id": evaluation,
        "evaluation_timestamp": started,
        "retrieved_timestamp": retrieved,
        "source_metadata": {
            "source_name": "mixture-harness",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "mixture-harness",
            "version": vector.provenance.harness,
            "additional_details": {"spec": vector.provenance.spec, "exported_by": harness.__version__},
        },
        "model_info": {
            "name": _checkpoint(vector),
            "id": identity,
            "developer": identity.partition("/")[0],
            **({"inference_engine": {"name": vector.provenance.engine}} if vector.provenance.engine else {}),
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                **_texts(
                    {
                        "trajectory": vector.trajectory,
                        "step": vector.step,
                        "checkpoint_kind": vector.checkpoint.kind,
                        "fingerprint": vector.checkpoint.fingerprint,
                        "dtype": vector.provenance.dtype,
                        "tokens_seen": vector.checkpoint.tokens_seen,
                        "mixture": None if vector.mixture is None else vector.mixture.normalized(),
                    }
                ),
            },
        },
        "evaluation_results": [_result(vector, component, dataset, evaluation)],
    }


def _result(
    vector: RewardVector, component: ComponentRecord, dataset: Dataset | None, evaluation: str
) -> dict[str, Any]:
    bounds = _BOUNDS.get(component.metric.partition(",")[0])
    definition = vector.provenance.tasks.get(component.name, {}).get("definition")
    source: dict[str, Any] = {"dataset_name": component.name, "source_type": "other"}
    if dataset is not None:
        source = {
            "dataset_name": dataset.id,
            "source_type": "hf_dataset",
            "hf_repo": dataset.id,
            "samples_number": component.n_items,
        }
    uncertainty: dict[str, Any] = {"num_samples": component.n_scored}
    if component.stderr is not None:
        uncertainty["standard_error"] = {"value": component.stderr, "method": "analytic"}
    if component.interval is not None:
        uncertainty["confidence_interval"] = {
            "lower": component.interval.low,
            "upper": component.interval.high,
            "confidence_level": 0.95,
        }
    return {
        "evaluation_result_id": f"{evaluation}/{component.metric}",
        "evaluation_name": component.name,
        "source_data": {**source, "additional_details": _texts({"definition": definition})},
        "evaluation_timestamp": vector.provenance.started,
        "metric_config": {
            "metric_name": component.metric,
            "lower_is_better": not component.higher_is_better,
            **({} if bounds is None else {"score_type": "continuous", "min_score": bounds[0], "max_score": bounds[1]}),
        },
        "score_details": {
            "score": component.raw,
            "uncertainty": uncertainty,
            "details": _texts(
                {
                    "kind": component.kind,
                    "role": component.role,
                    "status": component.status,
                    "n_items": component.n_items,
                    "n_scored": component.n_scored,
                    "variables": vector.variables or None,
                }
            ),
        },
    }


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The values as strings, as the schema wants additional details; those that are None are left out."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }


def _checkpoint(vector: RewardVector) -> str:
    return vector.trajectory if vector.step is None else f"{vector.trajectory}-step{vector.step}"


def _model_id(vector: RewardVector) -> str:
    """A hub id where the checkpoint is one of the hub's, else one below `local`."""
    where = vector.checkpoint.path.partition("@")[0]
    if vector.checkpoint.kind == "hub" and _HUB_ID.fullmatch(where):
        return where
    return f"local/{_folder(_checkpoint(vector))}"


def _folder(name: str) -> str:
    """A folder's name; with a digest where characters had to be replaced, so that two names never share a folder."""
    safe = re.sub(r"[^A-Za-z0-9_.=+-]+", "_", name).strip(".")[:100] or "_"
    if safe == name:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
