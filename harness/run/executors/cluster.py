"""Warm workers on a Ray cluster: an actor each, on any node with room. The run folder is on a file system that all nodes share."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from harness.core.errors import EngineError, HarnessError, SpecError
from harness.core.extras import install
from harness.run.executors.executor import Ended, Event, Progressed, Task, Work
from harness.run.executors.pool import Pool, Worker, WorkerDied, read_work

COMPARED = ("torch", "transformers")
"""Packages that decide numbers; nodes with other versions than the driver's are left out."""
WAIT_S = 300.0
"""Seconds without any worker after which a run is stopped."""
LOOK_EVERY_S = 1.0


def versions() -> dict[str, str]:
    """Versions of what decides numbers, in this process."""
    import harness

    found = {"harness": harness.__version__, "python": ".".join(platform.python_version_tuple()[:2])}
    return found | {name: version(name) for name in COMPARED}


class Hello(NamedTuple):
    """A worker's first message: its host, its versions, whether it sees the run folder, and the id of its node."""

    host: str
    versions: dict[str, str]
    sees: bool
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """`address`: of the cluster, None: $RAY_ADDRESS or this machine's.

    `gpus`, `cpus`: of each worker; `gpus` None: 1 if there are any.
    """

    address: str | None = None
    gpus: float | None = None
    cpus: float = 1.0


class _Told:
    """Accumulates the progress of the job in hand until `taken` fetches it."""

    def __init__(self) -> None:
        self.items = self.tokens = 0

    def advance(self, *, items: int, tokens: int) -> None:
        self.items += items
        self.tokens += tokens

    def taken(self) -> Progressed | None:
        found = Progressed(self.items, self.tokens) if self.items or self.tokens else None
        self.items = self.tokens = 0
        return found


class Actor:
    """What runs on a node."""

    def __init__(self, content: bytes, folder: str, number: int, products: str, here: str) -> None:
        _end_with_the_node()
        with contextlib.suppress(OSError):  # paths may be relative to where the driver is
            os.chdir(here)
        self._content = content
        self._folder = Path(folder)
        self._number = number
        self._products = products
        self._told = _Told()
        self._opened = contextlib.ExitStack()
        self._does: Any = None

    def hello(self, nonce: str) -> Hello:
        """Look around; nothing is loaded yet."""
        node = _ray().get_runtime_context().get_node_id()
        return Hello(platform.node(), versions(), (self._folder / nonce).exists(), node)

    def do(self, job: Task) -> Iterator[Event]:
        """The events of a job."""
        try:
            done = self._made()
        except HarnessError as error:
            yield Ended(job.number, error=error)
            return
        for event in done(job):
            progressed = self._told.taken()
            if progressed is not None:
                yield progressed
            yield event

    def _made(self) -> Any:
        if self._does is None:
            opened = read_work(self._content).opened(
                folder=self._folder, number=self._number, products=self._products, progress=self._told
            )
            self._does = self._opened.enter_context(opened)
        return self._does


def _end_with_the_node() -> None:
    """End this process when the node's raylet is gone: Ray would leave an idle worker, and its GPU memory, for minutes."""
    raylet = int(os.environ.get("RAY_RAYLET_PID") or os.getppid())

    def look() -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            try:
                os.kill(raylet, 0)
            except ProcessLookupError:
                os._exit(1)

    threading.Thread(target=look, daemon=True).start()


@dataclass
class _Handle:
    actor: Any
    hello: Any
    """A reference until the worker is ready, then None."""
    events: Any = None
    """The stream of the job in hand."""


class Cluster(Pool):
    """One worker for each share of the cluster's GPUs (of its CPUs where it has none). Raises SpecError without a cluster."""

    name = "ray"
    nobody = "no node of the cluster can take a worker"

    def __init__(self, work: Work, options: ClusterOptions) -> None:
        ray = _ray()
        self._options = options
        self._owns = not ray.is_initialized()
        if self._owns:
            try:
                ray.init(
                    address=options.address or os.environ.get("RAY_ADDRESS") or "auto",
                    log_to_driver=False,
                    logging_level="ERROR",
                )
            except (ConnectionError, ValueError, RuntimeError, ImportError, AssertionError) as error:
                cause = " ".join(str(error).split())[:200]
                raise SpecError(
                    f"no Ray cluster at {options.address or 'auto'} ({cause or type(error).__name__}); start one with "
                    "`ray start`, or name its address with --ray-address"
                ) from error
        resources = ray.cluster_resources()
        self._gpus = options.gpus if options.gpus is not None else (1.0 if resources.get("GPU") else 0.0)
        if self._gpus > 1 and not self._gpus.is_integer():
            raise SpecError(f"--worker-gpus is {self._gpus:g}; give a whole number, or a part of one GPU such as 0.5")
        room = sum(self._fitting().values())
        if room < 1:
            raise SpecError(
                f"the Ray cluster has no room for a worker of {options.cpus:g} CPUs and {self._gpus:g} GPUs on any node (all of "
                f"it has {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs); ask for less with --worker-gpus or "
                "--worker-cpus"
            )
        super().__init__(work, room if work.most is None else min(room, work.most))
        self._unfit: set[str] = set()
        """Nodes that cannot take part: nothing is started there again."""
        self._nonce = f".seen-{uuid.uuid4().hex}"
        self._content_ref: Any = None
        self._last = time.monotonic()

    def start(self, folder: Path, products: str) -> None:
        """Put a file into the run folder by which workers check that they see it, and get ready to start workers."""
        folder.mkdir(parents=True, exist_ok=True)
        for mark in folder.glob(".seen-*"):  # of a driver that was killed
            mark.unlink(missing_ok=True)
        (folder / self._nonce).touch()
        self._last = time.monotonic()
        super().start(folder, products)

    def started(self, number: int) -> Worker:
        """A new actor; it takes jobs once its Hello was received."""
        ray = _ray()
        if self._content_ref is None:
            self._content_ref = ray.put(self.content)
        made = ray.remote(Actor).options(
            num_cpus=self._options.cpus,
            num_gpus=self._gpus,
            max_restarts=0,
            label_selector={"ray.io/node-id": f"!in({','.join(sorted(self._unfit))})"} if self._unfit else None,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}},
        )
        actor = made.remote(self._content_ref, str(self.folder), number, self.products, str(Path.cwd()))
        return Worker(number, _Handle(actor, actor.hello.remote(self._nonce)))

    def send(self, worker: Worker, job: Task) -> None:
        """Ask for the events of a job."""
        worker.handle.events = worker.handle.actor.do.options(num_returns="streaming").remote(job)

    def ready(self, workers: Sequence[Worker], timeout_s: float | None) -> list[Worker]:
        """Those with an event, or that just came up. Raises EngineError where no worker came up within WAIT_S, or none can."""
        waited = {id(worker): worker.handle.hello if not worker.ready else worker.handle.events for worker in workers}
        wait_s = LOOK_EVERY_S if timeout_s is None else min(timeout_s, LOOK_EVERY_S)
        done, _ = _ray().wait(list(waited.values()), timeout=wait_s, fetch_local=False)
        if done or any(worker.ready for worker in workers):
            self._last = time.monotonic()
        elif self._unfit and self._unfit.issuperset(self._fitting()):
            raise EngineError(f"{self.nobody} ({'; '.join(self.left_out)})")
        elif time.monotonic() - self._last > WAIT_S:
            raise EngineError(f"no node of the cluster took a worker within {WAIT_S:g} s; is there room for one?")
        return [worker for worker in workers if waited[id(worker)] in done]

    def receive(self, worker: Worker) -> Event | None:
        """An event, or a hello. Raises WorkerDied."""
        ray = _ray()
        try:
            if not worker.ready:
                self._welcome(worker, ray.get(worker.handle.hello))
                return None
            event: Event = ray.get(next(worker.handle.events))
            return event
        except StopIteration:
            return None
        except ray.exceptions.RayTaskError as error:
            how = f"{type(error.cause).__name__}: {error.cause}"
        except ray.exceptions.RayError as error:
            how = " ".join(str(error).split())[:200]
        with contextlib.suppress(Exception):  # an actor that is merely unreachable would go on next to its successor
            ray.kill(worker.handle.actor)
        raise WorkerDied(how)

    def _fitting(self) -> dict[str, int]:
        """Workers that each living node has room for, of those with any."""
        room = {
            node["NodeID"]: _room(node["Resources"], gpus=self._gpus, cpus=self._options.cpus)
            for node in _ray().nodes()
            if node["Alive"]
        }
        return {node: n for node, n in room.items() if n}

    def _welcome(self, worker: Worker, hello: Hello) -> None:
        mine = versions()
        other = [
            f"{name} {hello.versions[name]}, here {mine[name]}" for name in mine if hello.versions[name] != mine[name]
        ]
        why = ", ".join(other) if other else None if hello.sees else f"does not see {self.folder}"
        if why is None:
            worker.ready, worker.host = True, hello.host
            return
        if (said := f"{hello.host}: {why}") not in self.left_out:
            self.left_out.append(said)
        if hello.node:
            self._unfit.add(hello.node)
        self.workers.remove(worker)
        with contextlib.suppress(Exception):
            _ray().kill(worker.handle.actor)

    def end(self, workers: Sequence[Worker]) -> None:
        """Kill the actors; their servers end with them."""
        ray = _ray()
        for worker in workers:
            with contextlib.suppress(Exception):
                ray.kill(worker.handle.actor)
        (self.folder / self._nonce).unlink(missing_ok=True)
        if self._owns:
            ray.shutdown()
            self._owns = False


def _room(node: Mapping[str, float], *, gpus: float, cpus: float) -> int:
    """Workers that a node has room for."""
    by_cpu = (node.get("CPU", 0.0) + 1e-6) // cpus
    return int(min(by_cpu, (node.get("GPU", 0.0) + 1e-6) // gpus) if gpus else by_cpu)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise SpecError(f"--workers ray needs Ray; {install('ray')}") from error
    return ray
