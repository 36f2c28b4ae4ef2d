"""Many trajectories, several at a time, into one feed. Killed at any moment, the same command goes on and ends with the same feed.

OUT/parts/NAME/card.json      what the trajectory is, so that no other takes its place
OUT/parts/NAME/state          the trainer after the last step
OUT/parts/NAME/run/           its own run folder: the feed of one trajectory, a line after each step
OUT/rewards.jsonl, ...        the run of all of them, once all are finished
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.digest import digest_json
from harness.core.errors import EngineError, SpecError, StateError
from harness.core.held_folder import held_folder
from harness.core.journal import write_atomically
from harness.core.place import Place
from harness.core.vector import RewardVector
from harness.feed.feed import Feed
from harness.feed.lines import FEED_FILE, read_vectors
from harness.mixing.steer import Trajectory, steer
from harness.mixing.trainer import Recipe, TokenTrainer
from harness.reward_models.reference import Reference
from harness.run.live import RewardEnvironment
from harness.run.merge import gather
from harness.spec.spec import Spec

PARTS = "parts"
LOOK_EVERY_S = 0.2
HELD_S = 10.0
"""Seconds to wait for a folder: workers of a run that was killed end within LOOK_EVERY_S."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What every worker is given once."""

    recipe: Recipe
    spec: Spec
    out: Path
    run: str
    reference: Reference | None


_worker: tuple[_Work, TokenTrainer] | None = None
"""Of this process, where it is a worker."""


def collect(
    trajectories: Sequence[Trajectory],
    *,
    recipe: Recipe,
    spec: Spec,
    out: Path,
    run: str = "proxies",
    processes: int = 1,
    threads: int = 1,
    reference: Reference | None = None,
    tell: Tell = lambda _: None,
) -> Feed:
    """Train and score them all; their feed, trajectories in the given order, also at `out`.

    `reference` standardises what policies see. `tell` is given a line for each trajectory that is finished. More trajectories
    than before go on with those that are there. The same weights need the same number of threads. Raises SpecError for two of one
    name, StateError for a folder that holds others or is in use, and what training and scoring raise.
    """
    names = [one.name for one in trajectories]
    if not names or len(set(names)) < len(names):
        raise SpecError("trajectories take names, each its own" if names else "there is no trajectory to collect along")
    strange = next((name for name in names if name in (".", "..") or "/" in name or name.startswith(".")), None)
    if strange is not None:
        raise SpecError(f"{strange!r} names a folder here, and cannot; take a name without a slash or a dot in front")
    work = _Work(recipe=recipe, spec=spec, out=out, run=run, reference=reference)
    with _held(out / PARTS):
        if processes == 1:
            import torch

            before = torch.get_num_threads()
            try:
                _begin(work, None, threads)
                for one in trajectories:
                    tell(_one(one))
            finally:
                torch.set_num_threads(before)
        else:
            _side_by_side(trajectories, work, processes=processes, threads=threads, tell=tell)
        _gather(trajectories, out, run)
    return Feed(read_vectors(out / FEED_FILE))


def _side_by_side(trajectories: Sequence[Trajectory], work: _Work, *, processes: int, threads: int, tell: Tell) -> None:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _begin, (work, os.getpid(), threads))
    try:
        waiting = {pool.submit(_one, one): one for one in trajectories}
        failed: Future[str] | None = None
        while waiting and failed is None:
            done, _ = wait(waiting, return_when=FIRST_EXCEPTION, timeout=1.0)
            for future in done:
                del waiting[future]
                if future.exception() is not None:
                    failed = failed or future
                else:
                    tell(future.result())
        if failed is not None:
            failed.result()
    except BrokenProcessPool as error:
        raise EngineError(
            "a process that trained proxies died (out of memory, or killed); the same command goes on where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(work: _Work, parent: int | None, threads: int) -> None:
    """At a worker's start: everything is loaded once. `parent`: the process that it ends with."""
    global _worker
    import torch

    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    _worker = (work, TokenTrainer(work.recipe))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os._exit(1)


def _one(trajectory: Trajectory) -> str:
    """Train and score one; a line on it."""
    assert _worker is not None
    work, trainer = _worker
    folder = work.out / PARTS / trajectory.name
    with _held(folder):
        _claim(folder, _card(trajectory, work))
        if (folder / "done").exists():
            return f"{trajectory.name}: is there"
        environment = RewardEnvironment(work.spec, out=folder / "run", run=work.run)
        vectors = steer(trajectory, trainer, environment, reference=work.reference, state=folder / "state")
        write_atomically(folder / "done", b"")
        (folder / "state").unlink(missing_ok=True)
    last = vectors[-1]
    return f"{trajectory.name}: {len(vectors)} vectors, scalar {last.scalar:.4f}" if last.scalar is not None else f"{trajectory.name}: no scalar, {'; '.join(last.warnings)}"  # fmt: skip


def _card(trajectory: Trajectory, work: _Work) -> dict[str, Any]:
    """What decides a trajectory's vectors, of policies what they tell of themselves."""
    policy = trajectory.policy
    rho = getattr(policy, "rho", None)
    card = getattr(policy, "card", None)
    return {
        "steps": trajectory.steps,
        "seed": trajectory.seed,
        "start": None if trajectory.start is None else dict(trajectory.start),
        "every": trajectory.every,
        "policy": type(policy).__name__,
        "rho": None if rho is None else rho.tolist(),
        "agent": None if card is None else card.model_dump(mode="json", by_alias=True),
        "recipe": work.recipe.model_dump(mode="json"),
        "reference": None if work.reference is None else work.reference.id,
    }


def _claim(folder: Path, card: dict[str, Any]) -> None:
    path = folder / "card.json"
    if not path.exists():
        write_atomically(path, json.dumps({"digest": digest_json(card), **card}).encode() + b"\n")
        return
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StateError(f"cannot read {path} ({error}); delete {folder} to train it from the start") from error
    if known.get("digest") != digest_json(card):
        other = [key for key, value in card.items() if known.get(key) != json.loads(json.dumps(value))]
        raise StateError(
            f"{folder} holds another trajectory of this name; what differs: {', '.join(other)}. Use another --out"
        )


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder, which a worker of a run that was killed may do for a moment yet."""
    until = time.monotonic() + HELD_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held_folder(folder))
                break
            except StateError:
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK_EVERY_S)
        yield


def _gather(trajectories: Sequence[Trajectory], out: Path, run: str) -> None:
    folders = [out / PARTS / one.name / "run" for one in trajectories]
    head: dict[str, Any] = json.loads((folders[0] / "run.json").read_text(encoding="utf-8"))
    vectors: dict[Place, RewardVector] = {}
    for folder in folders:
        vectors |= {vector.place: vector for vector in read_vectors(folder / FEED_FILE)}
    gather(out, folders, head=head, run=run, vectors=list(vectors.values()), products=[str(head.get("products"))])
