"""lm-eval's tasks of one name, built once: data checked, number of examples set, tasks that cannot run refused beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import DataError, HarnessError, SpecError
from harness.core.extras import install
from harness.tasks.suites.choices import CHOICE_METRICS, has_choice_metrics
from harness.tasks.suites.data_source import DataSource, problems
from harness.tasks.suites.index import quiet, task_manager
from harness.tasks.suites.sandbox import protection

KINDS = ("loglikelihood", "multiple_choice", "loglikelihood_rolling", "generate_until")
OURS = {"humaneval": "harness_humaneval", "mbpp": "harness_mbpp", "logiqa": "harness_logiqa"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to build. `num_fewshot` None: the task's own. `limit`: documents per task. `seed`: of the examples' choice."""

    task: str
    num_fewshot: int | None
    limit: int | None
    gen_kwargs: Mapping[str, Any]
    data: Mapping[str, DataSource]
    seed: int
    allow_code_execution: bool
    include: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """lm-eval's Task objects by name, and its Group object where the name is a group's."""

    name: str
    tasks: Mapping[str, Any]
    group: Any | None
    limit: int | None
    data_used: frozenset[str]
    """Keys of the wanted data that name one of these tasks, or a group they are in."""

    @property
    def n_items(self) -> int:
        """Documents that will be scored."""
        return sum(n_docs(task, self.limit) for task in self.tasks.values())

    @property
    def generates(self) -> bool:
        """Whether a model has to generate text."""
        return any(task.OUTPUT_TYPE == "generate_until" for task in self.tasks.values())

    @property
    def version(self) -> str:
        """The group's version, or the task's."""
        return str(self.group.version if self.group else next(iter(self.tasks.values())).VERSION)

    @property
    def num_fewshot(self) -> int | None:
        """Examples in a prompt; None where the tasks of a group differ."""
        found = {int(task.config.num_fewshot or 0) for task in self.tasks.values()}
        return found.pop() if len(found) == 1 else None

    def higher_is_better(self, metric: str) -> bool:
        """As lm-eval has it for "metric,filter"; true where it does not say."""
        name = metric.partition(",")[0]
        said = {task.higher_is_better().get(name) for task in self.tasks.values()}
        return said != {False}


def n_docs(task: Any, limit: int | None) -> int:
    """Documents of one task, up to the limit."""
    n = len(task.task_docs if hasattr(task, "task_docs") else task.eval_docs)
    return n if limit is None else min(n, limit)


def build(wanted: Wanted) -> Built:
    """Load the tasks. Raises SpecError, or DataError naming every data set that is missing."""
    manager = task_manager(wanted.include)
    index = manager.task_index
    if wanted.task not in index:
        raise SpecError(
            f"lm-eval has no task {wanted.task!r}; `lm_eval ls tasks` lists them, include_path adds folders"
        )
    leaves = dict(_leaves(index, wanted.task, ()))
    configs = {name: _raw(index[name]) for name in leaves}
    _check_code(wanted, configs)
    changes, used = _changes(wanted, leaves, configs)
    _check_data(wanted, {name: {**config, **changes.get(name, {})} for name, config in configs.items()})
    try:
        with quiet():
            registry = {**index, **{name: _patched(index[name], change) for name, change in changes.items()}}
            found = manager._factory.build(registry[wanted.task], overrides=None, registry=registry)
    except HarnessError:
        raise
    except ImportError as error:
        first = " ".join(str(error).split())[:200]
        raise SpecError(
            f"task {wanted.task} needs a package that is not here ({first}); {install('suites')}"
        ) from error
    except Exception as error:
        raise _load_failure(wanted.task, error) from error
    if isinstance(found, list):
        names = ", ".join(task.task_name for task in found[:5])
        raise SpecError(
            f"{wanted.task} is a tag of {len(found)} tasks ({names}, ...) without a value of its own; name a task"
        )
    group = None if not hasattr(found, "get_all_tasks") else found
    tasks = {task.task_name: task for task in (found.get_all_tasks() if group else [found])}
    for task in tasks.values():
        _settle(task, wanted)
    return Built(name=wanted.task, tasks=tasks, group=group, limit=wanted.limit, data_used=frozenset(used))


def _leaves(index: Mapping[str, Any], name: str, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every task below a name, with the names that lead to it."""
    entry = index.get(name)
    if entry is None or name in path:
        return
    path = (*path, name)
    match entry.kind.name:
        case "TAG":
            for member in sorted(entry.tags):
                yield from _leaves(index, member, path)
        case "GROUP":
            members = _raw(entry).get("task") or []
            for member in [members] if isinstance(members, str) else members:
                below = member if isinstance(member, str) else str(member.get("group") or member.get("task"))
                yield from _leaves(index, below, path)
        case _:
            yield name, path


def _raw(entry: Any) -> dict[str, Any]:
    """A configuration with its functions as text: nothing is imported."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if entry.yaml_path is None:
        return dict(entry.cfg or {})
    found: dict[str, Any] = load_yaml(entry.yaml_path, resolve_func=False)
    return found


def _patched(entry: Any, change: Mapping[str, Any]) -> Any:
    """The same task with another source of data."""
    from lm_eval.tasks._index import Entry
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(entry.yaml_path, resolve_func=True) if entry.yaml_path else dict(entry.cfg or {})
    return Entry(entry.name, entry.kind, None, cfg={**config, **change}, tags=entry.tags)


def _changes(
    wanted: Wanted, leaves: Mapping[str, tuple[str, ...]], configs: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """What `data` changes, task by task, and which of its keys did: the name nearest to the task wins."""
    changes = {}
    used: set[str] = set()
    for name, path in leaves.items():
        nearest = next((key for key in reversed(path) if key in wanted.data), None)
        if nearest is not None:
            used.add(nearest)
            changes[name] = wanted.data[nearest].overrides(configs[name])
    return changes, used


def _check_code(wanted: Wanted, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse tasks that run programs written by the model, unless that is allowed and can be contained. Raises SpecError."""
    unsafe = [name for name, config in configs.items() if config.get("unsafe_code")]
    if not unsafe:
        return
    if wanted.task in OURS:
        raise SpecError(
            f"task {wanted.task} runs programs through a metric that has to be downloaded and contains nothing; "
            f"use {OURS[wanted.task]}, which asks the same and runs them in a sandbox"
        )
    if not wanted.allow_code_execution:
        raise SpecError(
            f"task {_few(unsafe)} runs programs that the model wrote; if you want that, set allow_code_execution: true in "
            "the component, or pass --allow-code-execution"
        )
    refusal = protection().refusal
    if refusal and all(name in OURS.values() for name in unsafe):
        raise SpecError(refusal)


def _check_data(wanted: Wanted, configs: Mapping[str, Mapping[str, Any]]) -> None:
    found: dict[str, list[str]] = {}
    for name, config in configs.items():
        for problem in problems(config):
            found.setdefault(problem, []).append(name)
    if found:
        what = "; ".join(f"{problem} (task {_few(names)})" for problem, names in found.items())
        example = f"data: {{{wanted.task}: {{path: FOLDER}}}}"
        raise DataError(
            f"task {wanted.task}: {what}. On a machine with network, fetch it first; or point to files of the same shape "
            f"with `{example}` (docs/suites.md)"
        )


def _load_failure(task: str, error: Exception) -> HarnessError:
    said = " ".join(str(error).split())[:300]
    return DataError(
        f"task {task} does not load: {type(error).__name__}: {said}; `data` names another source (docs/suites.md)"
    )


def _settle(task: Any, wanted: Wanted) -> None:
    """Set number of examples, their seed and generation options, as lm-eval's command line does. Raises SpecError."""
    name = task.task_name
    if task.OUTPUT_TYPE not in KINDS:
        raise SpecError(f"task {name} asks for {task.OUTPUT_TYPE}, which is none of {', '.join(KINDS)}")
    if getattr(task, "MULTIMODAL", False):
        raise SpecError(f"task {name} shows images or sounds; kind: lm_eval measures text")
    own = task.get_config("num_fewshot")
    if wanted.num_fewshot is not None and own != wanted.num_fewshot:
        if own == 0:
            raise SpecError(
                f"task {name} is defined without examples (num_fewshot 0), which lm-eval keeps to; drop num_fewshot"
            )
        task.set_config(key="num_fewshot", value=wanted.num_fewshot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=wanted.seed)
    if wanted.gen_kwargs and task.OUTPUT_TYPE == "generate_until":
        task.set_config(key="generation_kwargs", value=dict(wanted.gen_kwargs), update=True)


def metrics_of(built: Built) -> list[str]:
    """Every "metric,filter" that the name has a value for; of a group, those that it aggregates."""
    first = next(iter(built.tasks.values()))
    filters = [ensemble.name for ensemble in getattr(first, "_filters", [])] or ["none"]
    named = [*first.aggregation()]
    # HumanEval's metric is a function that gives pass@1.
    named = [f"pass@{k}" for k in _ks(first)] if named == ["pass_at_k"] else named
    if built.group is None:
        return [f"{metric},{name}" for metric in named for name in filters]
    return [
        f"{one.metric},{name}" for one in built.group.aggregate_metric_list or [] for name in one.filter_list or filters
    ]


def choice_metrics_of(built: Built) -> list[str]:
    """The metrics of choices.py as "metric,none", for multiple-choice tasks; of a group, where it has an aggregate."""
    if not all(map(has_choice_metrics, built.tasks.values())):
        return []
    return [f"{metric},none" for metric in CHOICE_METRICS] if built.group is None or metrics_of(built) else []


def _ks(task: Any) -> list[int]:
    return [int(k) for k in task._metric_fn_kwargs["pass_at_k"].get("k", [1])]


def _few(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
