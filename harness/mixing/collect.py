"""Collects many trajectories, several at a time, into one feed. After a kill the same call resumes, and ends with the same feed.

OUT/parts/NAME/card.json      the trajectory's identity, so that another one of the name is refused
OUT/parts/NAME/state          the trainer after the last step
OUT/parts/NAME/run/           its own run folder: the feed of one trajectory, a line after each step
OUT/rewards.jsonl, ...        the run of all of them, once all are finished
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.component import Progress, SilentProgress
from harness.core.digest import digest_json
from harness.core.errors import EngineError, HarnessError, SpecError, StateError
from harness.core.held_folder import held_folder
from harness.core.journal import write_atomically
from harness.core.place import Place
from harness.core.vector import RewardVector
from harness.feed.feed import Feed
from harness.feed.lines import FEED_FILE, read_vectors
from harness.mixing.identity import policy_card, recipe_card
from harness.mixing.steer import Trajectory, steered
from harness.mixing.trainer import Recipe, TokenTrainer
from harness.reward_models.reference import Reference
from harness.run.executors.cluster import ClusterOptions
from harness.run.executors.executor import Advanced, Ended, Event
from harness.run.executors.hired import hired
from harness.run.ledger import check_run, open_run
from harness.run.live import RewardEnvironment
from harness.run.merge import gather
from harness.spec.prepared import Prepared
from harness.spec.spec import Spec

PARTS = "parts"
LOOK_EVERY_S = 0.2
HELD_S = 10.0
"""Seconds to wait for a folder: workers of a run that was killed end within seconds."""
Tell = Callable[[str], None]


def collect(
    trajectories: Sequence[Trajectory],
    *,
    recipe: Recipe,
    spec: Spec,
    out: Path,
    run: str = "proxies",
    workers: int | ClusterOptions | None = None,
    threads: int = 1,
    reference: Reference | None = None,
    tell: Tell = lambda _: None,
) -> Feed:
    """Train and score all trajectories; returns their feed in the given order, which is also written to `out`.

    `workers`: number of processes on this machine, or the options of a Ray cluster; None: this process. `threads`: of each process; equal
    weights need equal numbers. `reference` standardises what policies see. `tell` is called with a line for each finished trajectory. A
    later call may have more trajectories; finished ones are kept. Raises SpecError for two of one name, StateError for a folder that holds
    others or is in use, EngineError for a trajectory at which workers died, and what training and scoring raise.
    """
    names = [one.name for one in trajectories]
    if not names or len(set(names)) < len(names):
        raise SpecError("trajectories take names, each its own" if names else "there is no trajectory to collect along")
    strange = next((name for name in names if not _names_folder(name)), None)
    if strange is not None:
        raise SpecError(
            f"{strange!r} names a folder here, and cannot; take a name of at most 255 bytes without a slash or a dot in front"
        )
    training = Training(
        trajectories=tuple(trajectories),
        recipe=recipe,
        prepared=RewardEnvironment(spec).prepared,
        out=out.absolute(),
        run=run,
        threads=threads,
        reference=reference,
    )
    with _held(out / PARTS):
        training.claim()
        missing = [Proxy(number) for number, name in enumerate(names) if not (out / PARTS / name / "done").exists()]
        for name in names:
            if (out / PARTS / name / "done").exists():
                tell(f"{name}: is there")
        happening = _here(training, missing) if workers is None else _by_workers(training, missing, workers)
        with contextlib.closing(happening) as events:
            for event in events:
                if isinstance(event, Ended):
                    name = names[event.number]
                    if event.error is not None:
                        raise event.error
                    if event.lost is not None:
                        raise EngineError(f"trajectory {name}: {event.lost}; the same command goes on where it stopped")
                    tell(_said(name, read_vectors(out / PARTS / name / "run" / FEED_FILE)[-1]))
        _gather(trajectories, out, run)
    return Feed(read_vectors(out / FEED_FILE))


@dataclass(frozen=True, slots=True)
class Proxy:
    """A trajectory to be trained and scored, by its number."""

    number: int
    affinity: str = ""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The Work of training proxies and scoring them; its tasks are Proxies."""

    trajectories: tuple[Trajectory, ...]
    recipe: Recipe
    prepared: Prepared
    out: Path
    run: str
    threads: int
    reference: Reference | None
    what = "a component of the spec, or a policy,"
    most = None

    def check(self, n: int) -> None:
        """Any number of workers is allowed."""

    @contextlib.contextmanager
    def opened(
        self, *, folder: Path, number: int, products: str, progress: Progress
    ) -> Iterator[Callable[[Proxy], Iterator[Event]]]:
        """With a TokenTrainer of its own, which loads token files and bases once."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            trainer = TokenTrainer(self.recipe)
            yield lambda proxy: self._done(proxy, trainer, products)
        finally:
            torch.set_num_threads(before)

    def _done(self, proxy: Proxy, trainer: TokenTrainer, products: str) -> Iterator[Event]:
        try:
            for _ in self._steps(self.trajectories[proxy.number], trainer, products):
                yield Advanced(proxy.number)
        except HarnessError as error:
            yield Ended(proxy.number, error=error)
            return
        except Exception as error:  # noqa: BLE001 - a disk that is full, a policy's own
            cause = " ".join(str(error).split())[:300]
            yield Ended(proxy.number, lost=f"unexpected {type(error).__name__}: {cause}")
            return
        yield Ended(proxy.number)

    def _steps(self, trajectory: Trajectory, trainer: TokenTrainer, products: str) -> Iterator[int]:
        folder = self.out / PARTS / trajectory.name
        with _held(folder):
            if (folder / "done").exists():
                return
            environment = RewardEnvironment(self.prepared, out=folder / "run", run=self.run)
            self._fix(folder / "run", products)
            yield from steered(trajectory, trainer, environment, reference=self.reference, state=folder / "state")
            write_atomically(folder / "done", b"")
            (folder / "state").unlink(missing_ok=True)

    def _fix(self, folder: Path, products: str) -> None:
        """Fix one library of float32 products for all trajectories and workers."""
        from harness.engines.scoring.products import fix_products

        prepared = self.prepared
        with open_run(folder, run=self.run, spec_digest=prepared.digest, spec=prepared.spec.as_json()) as ledger:
            ledger.products(lambda stored: fix_products(stored or products))

    def products(self) -> str:
        """The library of float32 products: of trajectories that exist already, else by a trial on this machine.

        Raises StateError.
        """
        from harness.engines.scoring.products import fix_products

        for one in self.trajectories:
            path = self.out / PARTS / one.name / "run" / "run.json"
            if path.exists() and (stored := json.loads(path.read_text(encoding="utf-8")).get("products")):
                return fix_products(stored)
        return fix_products(None)

    def claim(self) -> None:
        """Write each trajectory's card into its folder. Raises StateError for a folder of another trajectory or spec, finished or not,
        and DataError for files that cannot be read.
        """
        recipe = recipe_card(self.recipe)
        for one in self.trajectories:
            card = {
                "steps": one.steps,
                "seed": one.seed,
                "start": None if one.start is None else dict(one.start),
                "every": one.every,
                "policy": policy_card(one.policy),
                "recipe": recipe,
                "threads": self.threads,
                "reference": None if self.reference is None else self.reference.id,
            }
            folder = self.out / PARTS / one.name
            _claim(folder, card)
            check_run(folder / "run", run=self.run, spec_digest=self.prepared.digest, spec=self.prepared.spec.as_json())


def _here(training: Training, proxies: Sequence[Proxy]) -> Generator[Event, None, None]:
    if not proxies:
        return
    products = training.products()
    with training.opened(folder=training.out, number=0, products=products, progress=SilentProgress()) as done:
        for proxy in proxies:
            yield from done(proxy)


def _by_workers(
    training: Training, proxies: Sequence[Proxy], workers: int | ClusterOptions
) -> Generator[Event, None, None]:
    if not proxies:
        return
    with contextlib.closing(hired(training, workers)) as pool:
        pool.start(training.out, training.products())
        for proxy in proxies:
            pool.submit(proxy)
        while (event := pool.event()) is not None:
            yield event


def _said(name: str, last: RewardVector) -> str:
    if last.scalar is None:
        return f"{name}: ended without a scalar, {'; '.join(last.warnings)}"
    return f"{name}: ended at step {last.step}, scalar {last.scalar:.4f}"


def _names_folder(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < size <= 255 and not name.startswith(".") and not {"/", "\0"} & set(name)


def _claim(folder: Path, card: dict[str, Any]) -> None:
    path = folder / "card.json"
    if not (folder / "run" / FEED_FILE).exists():  # nothing was measured yet: it may become another trajectory
        for left in ("done", "state"):
            (folder / left).unlink(missing_ok=True)
    if not path.exists() or not (folder / "run" / FEED_FILE).exists():
        write_atomically(path, json.dumps({"digest": digest_json(card), **card}).encode() + b"\n")
        return
    try:
        known: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StateError(f"cannot read {path} ({error}); delete {folder} to train it from the start") from error
    if known.get("digest") != digest_json(card):
        other = [key for key, value in card.items() if known.get(key) != json.loads(json.dumps(value))]
        raise StateError(
            f"{folder} holds another trajectory of this name; what differs: {', '.join(other)}. Use another --out"
        )


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder, waiting up to HELD_S for a worker of a killed run that still holds it."""
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
