"""What a spec and its checkpoints need from elsewhere, loaded piece by piece as a run would load it, so that it ends in the caches.

$HF_HUB_OFFLINE, which libraries read when they are imported, decides whether the hub is asked: with the network this downloads,
without it it reports what is in the caches. Loads no model, writes nothing of its own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from harness.checkpoints.bases import Bases
from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.hub import looks_like_hub_id
from harness.checkpoints.open import Opener
from harness.checkpoints.step_names import Numbered
from harness.checkpoints.whole import check_whole
from harness.core.checkpoint import Checkpoint
from harness.core.component import Check, ComponentConfig
from harness.core.errors import CheckpointError, DataError, HarnessError
from harness.core.place import suffix
from harness.spec.kinds import component_class
from harness.spec.prepared import read_reference
from harness.spec.spec import Spec


def needed(
    spec: Spec,
    arguments: Sequence[str],
    *,
    base: str | None = None,
    numbered: Numbered = "ask",
    only: Sequence[str] = (),
) -> Iterator[Check]:
    """A finding for each thing that is needed: `ok` where it could be loaded. A failed one hides no other.

    `only`: the names to look at; none: all.
    """
    for name, load in _things(spec, arguments, base, numbered):
        if only and name not in only:
            continue
        try:
            words = load()
        except HarnessError as error:
            yield Check(name=name, ok=False, words=str(error))
        else:
            yield Check(name=name, ok=True, words=words)


def _things(
    spec: Spec, arguments: Sequence[str], base: str | None, numbered: Numbered
) -> Iterator[tuple[str, Callable[[], str]]]:
    if spec.standardize not in ("none", "running"):
        yield "reference", partial(_reference, Path(spec.standardize))
    if spec.serve.chat_template:
        yield "serve.chat_template", partial(_file, Path(spec.serve.chat_template))
    seen: set[str] = set()
    for values in itertools.product(*spec.vary.values()):
        variables = dict(zip(spec.vary, values, strict=True))
        for config in spec.filled(variables) if variables else spec.components:
            content = json.dumps(config.model_dump(mode="json"), sort_keys=True)
            if content not in seen:
                seen.add(content)
                yield from _of_component(spec, config, suffix(variables) if _varies(spec, config) else "")
    for argument in dict.fromkeys(arguments):
        yield f"checkpoint {argument}", partial(_checkpoint, spec, argument, base, numbered)


def _varies(spec: Spec, config: ComponentConfig) -> bool:
    written = next(one for one in spec.components if one.name == config.name)
    return bool(written.model_dump() != config.model_dump())


def _of_component(spec: Spec, config: ComponentConfig, add: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """The component as a whole, or part by part where its kind has a method `parts`: one that fails hides no other."""
    try:
        kind = component_class(config.kind)
        parts = getattr(kind, "parts", None)
        found: dict[str, Callable[[], object]] = parts(config, spec.defaults) if parts is not None else {}
    except HarnessError as error:
        yield f"component {config.name}{add}", partial(_refuse, error)
        return
    for name, load in found.items():
        yield f"component {config.name}{add}: {name}", partial(_part, load)
    if not found:
        yield f"component {config.name}{add}", partial(_component, spec, config)


def _refuse(error: HarnessError) -> str:
    raise error


def _part(load: Callable[[], object]) -> str:
    return f"{getattr(load(), 'n_items', 'all')} items"


def _component(spec: Spec, config: ComponentConfig) -> str:
    return f"{component_class(config.kind).load(config, spec.defaults).n_items} items"


def _reference(path: Path) -> str:
    return f"{path}, {read_reference(path).id}"


def _file(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"no file {path}; correct the path in the spec")
    return str(path)


def _checkpoint(spec: Spec, argument: str, base: str | None, numbered: Numbered) -> str:
    """Weights that lack nothing, bases of adapters, and tokenizers that load, of all that an argument stands for."""
    found = find_checkpoints(
        [argument],
        base=base,
        numbered=numbered,
        allow_pickle=spec.allow_pickle,
        trust_remote_code=spec.trust_remote_code,
    )
    opener, bases = Opener(spec.opening), Bases(spec.opening)
    names: dict[str, None] = {}
    for checkpoint in found:
        check_whole(checkpoint, allow_pickle=spec.allow_pickle)
        if checkpoint.base is not None:
            names[checkpoint.base] = None
            _check_base(checkpoint, bases.folder(checkpoint), allow_pickle=spec.allow_pickle)
        opener.tokenizers.load(checkpoint)
    commit = found[0].revision
    at = f" at commit {commit}" if commit and looks_like_hub_id(argument) else ""
    return f"{len(found)} checkpoint(s){at}" + (f", base {', '.join(names)}" if names else "")


def _check_base(checkpoint: Checkpoint, folder: Path, *, allow_pickle: bool) -> None:
    try:
        check_whole(
            Checkpoint(label=str(checkpoint.base), folder=folder, kind="full", trajectory="base", step=None),
            allow_pickle=allow_pickle,
        )
    except CheckpointError as error:
        raise CheckpointError(f"the base of {checkpoint.label}: {error}") from error
