"""Checks names in a configuration against the task: scorers, metrics, reducers, keys of metadata. Before any request."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from harness.components.inspect.config import InspectConfig
from harness.core.errors import SpecError

SHAPED = ("grouped",)
"""Metrics of Inspect's whose names are known only once they are computed."""


def refuse_unknown(config: InspectConfig, task: Any, samples: Sequence[Any]) -> None:
    """Raise SpecError for a name that a task cannot have, and for epochs that its reducer does not take."""
    _check_reducers(config, task)
    _check_scorers(config, task)
    if config.cluster is None:
        return
    without = [str(one.id) for one in samples if config.cluster not in (one.metadata or {})]
    if without:
        known = sorted({str(key) for one in samples for key in one.metadata or {}})
        raise SpecError(
            f"component {config.name}: cluster {config.cluster!r}: {len(without)} of {len(samples)} samples have no such metadata "
            f"({', '.join(without[:3])}); keys are {', '.join(known) or 'none'}"
        )


def _check_reducers(config: InspectConfig, task: Any) -> None:
    from inspect_ai import Epochs
    from inspect_ai._util.error import PrerequisiteError
    from inspect_ai.scorer._reducer.registry import validate_reducer

    epochs = config.epochs or task.epochs or 1
    try:
        own = config.reducer is None
        reducers = task.epochs_reducer if own else Epochs(epochs, config.reducer).reducer
        for one in reducers or ():
            validate_reducer(epochs, one)
    except LookupError as error:
        raise SpecError(
            f"component {config.name}: Inspect has no reducer {config.reducer!r}; it has mean, median, mode, max, pass_at_K, at_least_K"
        ) from error
    except PrerequisiteError as error:
        raise SpecError(
            f"component {config.name}: {error.message} Give as many epochs, or another reducer (mean)"
        ) from error


def _check_scorers(config: InspectConfig, task: Any) -> None:
    """Checked as far as possible before a run: keys of scores that are mappings, and groups of a metric, come with the values."""
    from inspect_ai._eval.task.results import ScorerInfo
    from inspect_ai._util.registry import registry_info
    from inspect_ai.scorer._scorer import unique_scorer_name

    names: dict[str, Any] = {}
    for one in task.scorer or ():
        info = ScorerInfo.from_scorer(one)
        metrics = task.metrics or info.metrics
        if not isinstance(metrics, list) or any(isinstance(metric, dict) for metric in metrics):
            return
        names[unique_scorer_name(info.name, list(names))] = metrics
    if not names:
        return
    named, _, wanted = (config.metric or "").rpartition("/")
    scorer = config.scorer or named or None
    if scorer is not None and scorer not in names:
        raise SpecError(f"component {config.name}: {config.task} has no scorer {_unknown(scorer, names)}")
    full = [registry_info(metric).name for metrics in names.values() for metric in metrics]
    if not wanted or any(not name.startswith("inspect_ai/") or name.rpartition("/")[2] in SHAPED for name in full):
        return
    short = dict.fromkeys(
        registry_info(metric).name.rpartition("/")[2]
        for name, metrics in names.items()
        if scorer in (None, name)
        for metric in metrics
    )
    if wanted.rstrip("0123456789") not in short and wanted not in short:
        raise SpecError(f"component {config.name}: {config.task} has no metric {_unknown(wanted, short)}")


def _unknown(name: str, known: Iterable[str]) -> str:
    listed = list(known)
    near = difflib.get_close_matches(name, listed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{name!r}; it has {', '.join(listed)}{hint}"
