"""The one loop: checkpoints in, reward vectors out, measured by an executor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.checkpoints.open import Opener
from harness.core.checkpoint import Checkpoint
from harness.feed.feed import Feed
from harness.run.driver import Driver
from harness.run.executors.executor import Executor
from harness.run.executors.local import Local
from harness.run.ledger import open_run
from harness.run.observer import Observer
from harness.run.shard import Shard
from harness.run.vectors import RunVectors
from harness.spec.prepared import Prepared
from harness.track.tracking import Tracking


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run did. `feed` holds every vector of the folder, `here` those of the checkpoints of this call;
    `n_new` of them were not there before, `n_again` were measured again.
    """

    feed: Feed
    here: Feed
    path: Path
    n_new: int
    n_again: int


def run(
    prepared: Prepared,
    checkpoints: Iterable[Checkpoint | None],
    *,
    out: Path,
    run_name: str | None = None,
    retry_failed: bool = False,
    observer: Observer | None = None,
    executor: Executor | None = None,
    shard: Shard | None = None,
) -> RunSummary:
    """Measure every checkpoint that is not in the folder's feed yet and append its vector. Raises HarnessError.

    A checkpoint that cannot be scored becomes a vector with status `failed`; the rest are still scored. `checkpoints` may
    yield them as they are written (None: nothing new so far); then the feed is in order after each. `executor`: where it is
    measured; this process by default. `shard`: the part of a run that these checkpoints are.
    """
    observer = observer or Observer()
    spec = prepared.spec
    run_name = run_name or prepared.run
    tracking = Tracking(spec.track, folder=out, tell=observer.warning)
    opener = Opener(spec.opening, log_folder=out / "serve")
    opener.check(served=prepared.served)
    executor = executor or Local(prepared, opener, observer)
    with (
        contextlib.closing(tracking),  # last, when the folder is whole
        contextlib.closing(opener),
        open_run(
            out,
            run=run_name,
            spec_digest=prepared.digest,
            spec=spec.as_json(),
            shard=None if shard is None else shard.as_json(),
        ) as ledger,
        contextlib.closing(executor),
    ):
        vectors = RunVectors(prepared, run_name=run_name, feed=ledger.feed, tracking=tracking)
        driver = Driver(prepared, opener=opener, ledger=ledger, vectors=vectors, executor=executor, observer=observer)
        n_checkpoints = len(checkpoints) if isinstance(checkpoints, Sequence) else None
        observer.starting(
            checkpoints=n_checkpoints,
            vectors=None if n_checkpoints is None else n_checkpoints * len(prepared.rows),
            items=(n_checkpoints or 0) * prepared.n_items,
        )
        try:
            for number, checkpoint in enumerate(checkpoints):
                if checkpoint is not None:
                    following = checkpoints[number + 1 : number + 2] if isinstance(checkpoints, Sequence) else ()
                    driver.take(checkpoint, retry_failed=retry_failed, following=next(iter(following), None))
                driver.catch_up()
                if n_checkpoints is None:
                    vectors.settle()
                    driver.tell_alarms()
            driver.finish()
            driver.remember()
        finally:
            vectors.settle()  # also after an error: vectors of early steps are not in the file yet
        driver.tell_alarms()
        return RunSummary(
            feed=Feed(vectors.all),
            here=Feed([vector for vector in vectors.all if vector.place in driver.places]),
            path=ledger.feed.path,
            n_new=vectors.n_new,
            n_again=vectors.n_again,
        )
