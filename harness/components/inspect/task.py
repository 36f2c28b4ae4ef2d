"""A task of Inspect, found and built: its samples, solver and scorers in memory. Downloads nothing unless `fetch` is set, touches no
checkpoint.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from harness.components.inspect.checks import NONE, refuse_needs
from harness.components.inspect.config import InspectConfig
from harness.components.inspect.installed import inspect_version, loader
from harness.components.inspect.names import refuse_unknown
from harness.components.inspect.options import check_options
from harness.components.inspect.surroundings import Variables, as_before, fixed_draws, quiet, set_variables
from harness.core.errors import HarnessError, SpecError
from harness.tasks.suites.inspect_cards import PACKAGE, Card, card_of
from harness.tasks.suites.offline import LocalHub, NotHereError, offline

_BESIDE: set[str] = set()
"""Modules that files of tasks imported from beside them. Each file reads its own anew: what a task is never depends on what was
built before it."""
_SET_BY: dict[str, dict[str, str | None]] = {}
"""Variables that modules of packages set when they were imported, which happens once per process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A task, ready to run. `samples`: those that will be run, in order."""

    name: str
    task: Any
    samples: tuple[Any, ...]
    epochs: int
    sources: tuple[Path, ...]
    """The Python files that it is made of."""
    package: tuple[str, str] | None
    """Name and version of the package it is from; None for a file."""
    card: Card | None
    sandboxes: frozenset[str]
    """Types of sandbox that the task or any of its samples asks for."""
    environment: Variables
    """What it set while it was built, for while it is asked."""

    @property
    def n_items(self) -> int:
        """Samples per checkpoint."""
        return len(self.samples)


def build(config: InspectConfig) -> Built:
    """The task that a configuration names, with its samples. Raises SpecError, within seconds."""
    assert config.task is not None
    inspect_version()
    card = None
    if config.file is None and config.task.partition("/")[0] == PACKAGE:
        card = card_of(config.task.partition("/")[2])
        if card is None:
            raise SpecError(
                f"component {config.name}: {PACKAGE} {_version(PACKAGE)} has no task {config.task.partition('/')[2]!r}"
            )
        refuse_needs(config, card)
    check_options(config.generate, f"component {config.name}: generate")
    variables: dict[str, str | None] = {}
    with quiet(), as_before(variables):
        if config.file is not None:
            _forget_files()
        before = set(sys.modules)
        if config.file is None:
            _import(config, card)
            aside = card.module if card is not None and config.data and card.copies() else None
            with fixed_draws(), offline(config.data, fetch=config.fetch, aside=aside) as hub:
                task = _made(config, card)
        else:
            if not config.file.is_file():
                raise SpecError(
                    f"component {config.name}: no file {config.file}; task is FILE.py@NAME, relative to the spec"
                )
            loader()
            with fixed_draws(), offline(config.data, fetch=config.fetch) as hub:
                task = _made(config, None)
        _refuse_unused(config, hub)
        samples = _chosen(config, task)
        sources = _sources(config, card, before)
    if not samples:
        raise SpecError(f"component {config.name}: task {config.task} has no sample")
    _refuse_unnamed_grader(config, task)
    _refuse_unmeasurable(config, task)
    refuse_unknown(config, task, samples)
    if config.limit is not None or config.sample_ids:
        from inspect_ai.dataset import MemoryDataset

        # Not Inspect's `sample_id`: it treats ids as patterns, and "007" as 7.
        task.dataset = MemoryDataset(list(samples), name=task.dataset.name, location=task.dataset.location)
    if config.sandbox == NONE:
        task.sandbox = None
        for sample in task.dataset:
            sample.sandbox = None
    found = {one.type for one in [task.sandbox, *(sample.sandbox for sample in samples)] if one is not None}
    package = None if config.file is not None else config.task.partition("/")[0]
    return Built(
        name=task.name,
        task=task,
        samples=samples,
        epochs=config.epochs or task.epochs or 1,
        sources=sources,
        package=None if package is None else (package, _version(package)),
        card=card,
        sandboxes=frozenset(found),
        environment=variables,
    )


def _import(config: InspectConfig, card: Card | None) -> None:
    """Import the task's module before functions of `datasets` are replaced: a module keeps what it imported by name."""
    loader()
    assert config.task is not None
    package = config.task.partition("/")[0]
    changes = _SET_BY.setdefault(package if card is None else card.module, {})
    try:
        with as_before(changes):
            if card is not None:
                importlib.import_module(card.module)
            else:
                for entry in entry_points(group="inspect_ai", name=package):
                    entry.load()  # Inspect itself would only log that one does not load
        set_variables(changes)
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"component {config.name}: {package} does not load ({type(error).__name__}: {error})"
        ) from error


def _forget_files() -> None:
    """Remove what earlier task files left in this process: modules from their folders, and tasks registered by plain names."""
    from inspect_ai._util.registry import _registry

    for name in _BESIDE:
        sys.modules.pop(name, None)
    _BESIDE.clear()
    importlib.invalidate_caches()
    for key in [key for key in _registry if key.startswith("task:") and "/" not in key]:
        del _registry[key]


def _made(config: InspectConfig, card: Card | None) -> Any:
    """The Task that Inspect's own loader makes of the name and arguments. Raises SpecError."""
    from inspect_ai import Task
    from inspect_ai._util.registry import registry_lookup

    name = str(config.task)
    try:
        if config.file is not None:
            ast.parse(
                config.file.read_bytes(), str(config.file)
            )  # Inspect takes a file that does not parse for one without tasks
            loader().load_file_tasks(config.file)
        plain = name if config.file is None else config.name_in_file
        function = None if plain is None else registry_lookup("task", plain)
        if function is None and config.file is None:
            raise SpecError(f"no task {name!r} is registered by an installed package")
        if function is not None:
            _check_arguments(function, config)
        if config.file is None:
            found = loader().load_tasks([name], dict(config.args))
        else:
            found = loader().create_file_tasks(config.file, plain and [plain], dict(config.args))
    except HarnessError as error:
        raise type(error)(
            f"component {config.name}: {error}{_made_from(card) if isinstance(error, NotHereError) else ''}"
        ) from error
    except (Exception, SystemExit) as error:
        words = getattr(error, "message", None) or str(error)
        if "__registry_info__" in words:
            words = "it returns no Task"
        raise SpecError(
            f"component {config.name}: task {name} cannot be built ({type(error).__name__}: {' '.join(str(words).split())[:300]}){_made_from(card)}"
        ) from error
    if len(found) != 1 or not isinstance(found[0], Task):
        names = ", ".join(task.name for task in found) or "none"
        raise SpecError(f"component {config.name}: {name} has the tasks {names}; name one as FILE.py@NAME")
    return found[0]


def _made_from(card: Card | None) -> str:
    """In words, what an eval fetches."""
    assets = ", ".join(dict.fromkeys(asset.source for asset in card.assets)) if card else ""
    return f" (it is made from {assets})" if assets else ""


def _check_arguments(function: Any, config: InspectConfig) -> None:
    known = inspect.signature(function).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        return
    if unknown := [name for name in config.args if name not in known]:
        raise SpecError(f"args: {config.task} has no {', '.join(unknown)}; it takes {', '.join(known) or 'none'}")


def _refuse_unused(config: InspectConfig, hub: LocalHub) -> None:
    if unused := [name for name in config.data if name not in hub.used]:
        raise SpecError(
            f"component {config.name}: data names {', '.join(unused)}, which {config.task} does not ask for"
        )


def _chosen(config: InspectConfig, task: Any) -> tuple[Any, ...]:
    """The samples that limit and sample_ids leave, each with its id. Raises SpecError."""
    if not hasattr(task.dataset, "__len__"):
        raise SpecError(
            f"component {config.name}: {config.task} makes its samples while it runs, so checkpoints could not be compared"
        )
    for number, sample in enumerate(task.dataset, start=1):
        if sample.id is None:
            sample.id = number  # as Inspect numbers them
    known = {str(sample.id): sample for sample in task.dataset}
    if len(known) < len(task.dataset):
        raise SpecError(f"component {config.name}: two samples of {config.task} have one id")
    if missing := [str(one) for one in config.sample_ids if str(one) not in known]:
        some = ", ".join(list(known)[:5])
        raise SpecError(
            f"component {config.name}: {config.task} has no sample {', '.join(missing)}; its ids are like {some}"
        )
    if config.sample_ids:
        wanted = {str(one) for one in config.sample_ids}
        return tuple(sample for sample in task.dataset if str(sample.id) in wanted)
    return tuple(task.dataset)[: config.limit]


def _refuse_unmeasurable(config: InspectConfig, task: Any) -> None:
    """Raise SpecError for what would be known only once every sample was asked, or would measure something else."""
    why = None
    if task.model is not None:
        why = (
            f"sets a model of its own ({task.model}), which would be measured instead of the checkpoint; take it out of the task, or name "
            "a role for it"
        )
    elif not task.scorer:
        why = "has no scorer, so that no answer would have a value; give it one"
    elif task.cost_limit is not None:
        why = (
            "has a limit of costs, and a checkpoint's answers cost nothing; take it out, or limit tokens (token_limit)"
        )
    elif task.early_stopping is not None:
        why = "decides while it runs which samples it asks (early_stopping), so checkpoints could not be compared; take it out"
    if why is not None:
        raise SpecError(f"component {config.name}: {config.task} {why}")


def _refuse_unnamed_grader(config: InspectConfig, task: Any) -> None:
    """Raise SpecError for a model-graded scorer without a named model: Inspect would let the measured one grade itself."""
    from inspect_ai._util.registry import REGISTRY_PARAMS, registry_info

    for scorer in task.scorer or ():
        params = getattr(scorer, REGISTRY_PARAMS, {})
        role = params.get("model_role", "grader")
        played = {*config.roles, *(task.model_roles or {})}
        if "model_graded" in registry_info(scorer).name and not params.get("model") and role not in played:
            raise SpecError(
                f"component {config.name}: answers of {config.task} are graded by a model, and without one the checkpoint would grade "
                f"itself; name it: roles: {{{role}: {{model: hosted_vllm/NAME, api_base: ...}}}}, or model: checkpoint where that is meant"
            )


def _sources(config: InspectConfig, card: Card | None, before: set[str]) -> tuple[Path, ...]:
    """Python files of the task: the eval's folder; for a file, also what it imported from its folder; for a package, the module's folder."""
    if card is not None:
        return tuple(sorted(card.folder.rglob("*.py")))
    if config.file is not None:
        folder = config.file.resolve().parent
        loaded = {
            Path(where).resolve()
            for name in set(sys.modules) - before
            if (where := getattr(sys.modules[name], "__file__", None)) and folder in Path(where).resolve().parents
        }
        _BESIDE.update(
            name
            for name in set(sys.modules) - before
            if folder in Path(getattr(sys.modules[name], "__file__", None) or "/").resolve().parents
        )
        return tuple(sorted({config.file.resolve(), *(path for path in loaded if path.suffix == ".py")}))
    from inspect_ai._util.registry import registry_lookup

    module = sys.modules.get(getattr(registry_lookup("task", str(config.task)), "__module__", ""))
    where = getattr(module, "__file__", None)
    if where is None:
        return ()
    alone = "." not in str(getattr(module, "__name__", ".")) and Path(where).name != "__init__.py"
    return (Path(where),) if alone else tuple(sorted(Path(where).parent.rglob("*.py")))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
