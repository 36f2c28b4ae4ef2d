"""Which checkpoints the user means, and their order. Looks at names and small JSON files; opens no weights."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from harness.checkpoints.foreign import foreign_format
from harness.checkpoints.hub import fetch, looks_like_hub_id
from harness.checkpoints.step_names import Numbered, is_unfinished, numbered_name, step_of
from harness.core.checkpoint import Checkpoint
from harness.core.errors import CheckpointError, SpecError
from harness.core.vector import Mixture
from harness.core.written_json import read_json

REVISION_STEP = re.compile(r"(?:checkpoint|step|iter)[-_]?(\d+)")
"""The step within a revision's name, such as `stage1-step1000-tokens3B`."""
MIXTURE_FILE = "mixture.json"


def find_checkpoints(
    arguments: Sequence[str],
    *,
    base: str | None = None,
    trajectory: str | None = None,
    numbered: Numbered = "ask",
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> list[Checkpoint]:
    """Every checkpoint below the arguments, each trajectory in step order.

    An argument is a model or adapter folder (folders inside it are ignored), a training output folder with `checkpoint-*` in it
    (those are scored, not a final model next to them), a folder of such folders, or a hub id `org/name@revision`; revisions that
    name a step (`step1000`) are steps of one trajectory. `base` replaces the base that adapters name; `trajectory` names the
    trajectory instead of its folder. `numbered`: whether sibling models whose names differ in a number alone (`save-100`,
    `save-200`) are steps of one training.

    Raises CheckpointError, and SpecError where `numbered` is "ask" and there are such models.
    """
    if base is not None and not (Path(base) / "config.json").exists() and not looks_like_hub_id(base):
        raise CheckpointError(f"--base {base} is not a model folder (no config.json) and not a hub id")
    found: list[Checkpoint] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            here = _below(path, base)
            if not here:
                raise CheckpointError(
                    f"no checkpoint in {path}: "
                    + (
                        foreign_format(path)
                        or "expected config.json or adapter_config.json, or folders checkpoint-<step>"
                    )
                )
            found += here
        elif looks_like_hub_id(argument):
            try:
                found.append(_from_hub(argument, base, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code))
            except CheckpointError as error:
                if len(arguments) == 1:
                    raise
                found.append(_missing_from_hub(argument, str(error)))
        else:
            what = "the folder does not exist"
            if path.exists():
                what = foreign_format(path) or "it is a file; name its folder"
            raise CheckpointError(f"no checkpoint at {argument}: {what}")
    if numbered == "ask":
        _ask(found)
    elif numbered == "steps":
        found = [_as_step(item) for item in found]
    unique = list({(str(item.folder.resolve()), item.trajectory, item.step): item for item in found}.values())
    named = [replace(item, trajectory=trajectory) for item in unique] if trajectory else _distinct(unique)
    _check_places(named)
    first = {item.trajectory: index for index, item in reversed(list(enumerate(named)))}
    return sorted(named, key=lambda item: (first[item.trajectory], -1 if item.step is None else item.step))


def _ask(found: Sequence[Checkpoint]) -> None:
    """Refuse to guess whether models that differ in a number alone are steps of one training. Raises SpecError."""
    series: dict[tuple[Path, str], dict[int, str]] = {}
    for item in found:
        name = None if item.step is not None or item.revision is not None else numbered_name(item.folder.resolve().name)
        if name is not None:
            series.setdefault((item.folder.resolve().parent, name.stem), {})[name.number] = item.folder.name
    for (parent, _), names in series.items():
        if len(names) > 1:
            ordered = [names[number] for number in sorted(names)]
            few = ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")
            raise SpecError(
                f"are {few} in {_printable(parent)} steps of one training? --numbered steps takes their numbers for steps "
                "(one trajectory, with gains); --numbered models takes each for a training of its own"
            )


def _as_step(item: Checkpoint) -> Checkpoint:
    """A model whose name ends in a number, as that step of the training that its folder is named for."""
    folder = item.folder.resolve()
    name = None if item.step is not None or item.revision is not None else numbered_name(folder.name)
    return item if name is None else replace(item, step=name.number, trajectory=_printable(folder.parent.name))


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a model or an adapter."""
    return (folder / "adapter_config.json").exists() or (folder / "config.json").exists()


def _from_hub(hub_id: str, base: str | None, *, allow_pickle: bool, trust_remote_code: bool) -> Checkpoint:
    snapshot = fetch(hub_id, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    trajectory, step = _hub_place(hub_id)
    item = _checkpoint(snapshot.folder, base)
    return replace(
        item,
        label=hub_id,
        kind="hub" if item.kind == "full" else item.kind,
        revision=snapshot.commit,
        trajectory=trajectory,
        step=step,
    )


def _missing_from_hub(hub_id: str, problem: str) -> Checkpoint:
    """One of several that cannot be downloaded: it becomes a failed vector, and the rest are still scored."""
    trajectory, step = _hub_place(hub_id)
    return Checkpoint(
        label=hub_id, folder=Path(hub_id), kind="hub", trajectory=trajectory, step=step, revision="", problem=problem
    )


def _hub_place(hub_id: str) -> tuple[str, int | None]:
    """Trajectory and step: a revision that names a step is a step of the repository's trajectory."""
    name, _, revision = hub_id.partition("@")
    step = REVISION_STEP.search(revision)
    return (name, int(step.group(1))) if step else (hub_id, None)


def _check_places(found: Sequence[Checkpoint]) -> None:
    """Refuse two checkpoints for one place in a trajectory: only one of them could have a vector there."""
    places: dict[tuple[str, int | None], Checkpoint] = {}
    for item in found:
        other = places.setdefault((item.trajectory, item.step), item)
        if other is not item:
            step = "no step" if item.step is None else f"step {item.step}"
            raise CheckpointError(
                f"{other.label} and {item.label} are both trajectory {item.trajectory!r} with {step}; "
                "score them in separate runs, or rename one (folders checkpoint-<step> have a step)"
            )


def _below(folder: Path, base: str | None, above: frozenset[Path] = frozenset()) -> list[Checkpoint]:
    above |= {folder.resolve()}
    try:
        children = sorted((child for child in folder.iterdir() if child.is_dir()), key=_natural)
    except OSError as error:
        raise CheckpointError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    children = [child for child in children if not is_unfinished(child.name)]
    steps = sorted((child for child in children if step_of(child.name) is not None), key=_step)
    if is_checkpoint(folder) and not any(is_checkpoint(step) for step in steps):
        return [_checkpoint(folder, base)]  # what training frameworks keep inside (global_step500/) is no checkpoint
    found = [_checkpoint(_inside(step), base, step=step) for step in steps]
    if not is_checkpoint(folder):
        others = [child for child in children if child not in steps]
        found += [item for child in others if child.resolve() not in above for item in _below(child, base, above)]
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """mix-2 before mix-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _printable(path: object) -> str:
    """A name as UTF-8 text: names in the file system may be other bytes, those in a feed may not."""
    return os.fsencode(str(path)).decode("utf-8", "replace")


def _step(folder: Path) -> int:
    found = step_of(folder.name)
    return -1 if found is None else found


def _inside(step: Path) -> Path:
    """The folder of a step's model: the step's own, or the one model folder below it (verl: actor/huggingface)."""
    if is_checkpoint(step):
        return step
    depths = ("*", "*/*", "*/*/*")
    found = next(
        (below for depth in depths if (below := [one for one in sorted(step.glob(depth)) if is_checkpoint(one)])), []
    )
    actors = [one for one in found if "actor" in one.relative_to(step).parts]
    chosen = actors if len(actors) == 1 else found
    return chosen[0] if len(chosen) == 1 else step


def _checkpoint(folder: Path, base: str | None, *, step: Path | None = None) -> Checkpoint:
    """Describe one folder. A problem with it is stored, not raised: it becomes a failed vector. `step`: the folder that is named
    for its step, where that is a parent.
    """
    resolved = (step or folder).resolve()
    number = _step(resolved)
    numbered = number >= 0
    item = Checkpoint(
        label=_printable(folder),
        folder=folder,
        kind="full",
        trajectory=_printable((resolved.parent if numbered else resolved).name),
        step=number if numbered else None,
    )
    try:
        mixture, tokens_seen = _mixture(folder)
        item = replace(item, mixture=mixture, tokens_seen=tokens_seen)
        if (folder / "adapter_config.json").exists():
            item = replace(item, kind="lora")
            return replace(item, base=base or _named_base(folder))
        if not (folder / "config.json").exists():
            raise CheckpointError(
                f"no config.json or adapter_config.json in {folder}; {foreign_format(folder) or 'is it still being written?'}"
            )
    except CheckpointError as error:
        return replace(item, problem=str(error))
    except OSError as error:
        return replace(item, problem=f"cannot read {folder}: {error.strerror or error}")
    return item


def _named_base(folder: Path) -> str:
    """The base an adapter names: a path from here, a path from the adapter's folder, or a hub id."""
    try:
        named = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"cannot read {folder / 'adapter_config.json'}: {error}") from error
    if not named:
        raise CheckpointError(f"{folder / 'adapter_config.json'} names no base model; pass --base FOLDER")
    for candidate in (Path(named), folder / named):
        if candidate.is_dir():
            return str(candidate)
    if looks_like_hub_id(named):
        return str(named)
    raise CheckpointError(
        f"the base model {named!r} that {folder / 'adapter_config.json'} names is not here; pass --base FOLDER"
    )


def _mixture(folder: Path) -> tuple[Mixture | None, int | None]:
    """What the trainer wrote to mixture.json next to the weights: the mixture, and optionally `tokens_seen`."""
    path = folder / MIXTURE_FILE
    try:
        value = read_json(path)
        if not isinstance(value, dict):
            raise ValueError('expected a JSON object such as {"code": 0.3, "prose": 0.7}')
        tokens = value.pop("tokens_seen", None)
        if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0):
            raise ValueError("tokens_seen must be a non-negative integer")
        return (Mixture.parse(value) if value else None), tokens
    except FileNotFoundError:
        return None, None
    except ValidationError as error:
        raise CheckpointError(f"{path}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _home(item: Checkpoint) -> Path:
    """The folder that a checkpoint's trajectory is named for: above the one that is named for its step."""
    resolved = item.folder.resolve()
    if item.step is None:
        return resolved
    return next(
        (path.parent for path in (resolved, *resolved.parents) if step_of(path.name) == item.step), resolved.parent
    )


def _distinct(found: list[Checkpoint]) -> list[Checkpoint]:
    """Trajectory names made unique by as much of the path as it takes. Hub ids are unique already."""
    homes: dict[int, tuple[str, ...]] = {}
    for index, item in enumerate(found):
        home = _home(item).parts
        homes[index] = home if item.revision is None else (item.trajectory,)
    for depth in range(1, max((len(parts) for parts in homes.values()), default=0) + 1):
        names: dict[str, set[tuple[str, ...]]] = {}
        labels = {
            index: "/".join(homes[index][-depth:]) if item.revision is None else item.trajectory
            for index, item in enumerate(found)
        }
        for index, name in labels.items():
            names.setdefault(name, set()).add(homes[index])
        if all(len(places) == 1 for places in names.values()):
            return [replace(item, trajectory=_printable(labels[index])) for index, item in enumerate(found)]
    return found
