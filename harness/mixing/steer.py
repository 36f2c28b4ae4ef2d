"""One trajectory: a policy chooses, a trainer trains, the environment scores, step after step. It can be resumed after a kill."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import StateError
from harness.core.journal import write_atomically
from harness.core.vector import RewardVector
from harness.mixing.baselines import Policy
from harness.mixing.domains import Floats
from harness.mixing.history import history
from harness.mixing.sample import Planned
from harness.mixing.trainer import Trainer
from harness.reward_models.reference import Reference
from harness.run.live import RewardEnvironment


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """The mixtures of a plan, independent of feedback. `rho`: shape [T + 1, N], the start state first."""

    rho: Floats

    @classmethod
    def of(cls, planned: Planned) -> Follow:
        """As `mix sample` wrote it."""
        return cls(rho=np.asarray(planned.rho))

    def next(self, matrix: Floats) -> Floats:
        """The row after those that were trained."""
        found: Floats = self.rho[len(matrix)]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """A training of `steps` steps by `policy`, from the base and the data that `seed` draws.

    `start`: the shares of the base's own data by domain, the mixture of step 0; None where they are not known. `every`: score after
    every step; otherwise only at the start and the end, for a policy that uses no feedback. `final`: folder for the last checkpoint.
    """

    name: str
    policy: Policy
    steps: int
    seed: int
    start: Mapping[str, float] | None = None
    every: bool = True
    final: Path | None = None


def steer(
    trajectory: Trajectory,
    trainer: Trainer,
    environment: RewardEnvironment,
    *,
    reference: Reference | None = None,
    state: Path | None = None,
) -> list[RewardVector]:
    """Train and score a trajectory; returns its vectors. `state` and errors as in `steered`."""
    for _ in steered(trajectory, trainer, environment, reference=reference, state=state):
        pass
    return list(environment.feed.trajectory(trajectory.name))


def steered(
    trajectory: Trajectory,
    trainer: Trainer,
    environment: RewardEnvironment,
    *,
    reference: Reference | None = None,
    state: Path | None = None,
) -> Iterator[int]:
    """Train and score a trajectory; yields the number of each step once it is trained and stored, and not scored yet.

    With `state`, a file, and the environment's `out`, it resumes where it stopped. The state after a step is stored before the step is
    scored, and scoring equal weights again gives the vector that exists already: so what a kill interrupted is repeated with the same
    result. Raises StateError for a state beyond the trajectory's end, and what trainer and environment raise.
    """
    components = [component.config.name for component in environment.prepared.components]
    domains = list(trainer.domains)
    done, seen, rho = _begin(trajectory, trainer, state)
    while True:
        if trajectory.every or done in (0, trajectory.steps):
            environment.feedback(
                trainer.model,
                trainer.tokenizer,
                step=done,
                mixture=trajectory.start if rho is None else dict(zip(domains, rho, strict=True)),
                trajectory=trajectory.name,
                tokens_seen=seen,
            )
        if done == trajectory.steps:
            break
        known = np.zeros((done + 1, len(domains) + len(components)))
        if trajectory.every:
            found = history(
                environment.feed, trajectory.name, domains=domains, components=components, reference=reference
            )
            known = found[: done + 1]
        chosen = np.asarray(trajectory.policy.next(known), dtype=np.float64)
        rho = (chosen / chosen.sum()).tolist()
        seen, done = trainer.step(np.asarray(rho)), done + 1
        if state is not None:
            head = json.dumps({"step": done, "tokens_seen": seen, "rho": rho}).encode()
            write_atomically(state, head + b"\n" + trainer.state())
        yield done
    if trajectory.final is not None:
        trainer.model.save_pretrained(trajectory.final)
        trainer.tokenizer.save_pretrained(trajectory.final)


def _begin(trajectory: Trajectory, trainer: Trainer, state: Path | None) -> tuple[int, int, list[float] | None]:
    """Steps done, tokens seen, and the mixture of the last step."""
    if state is None or not state.exists():
        trainer.reset(trajectory.seed)
        return 0, 0, None
    head, _, content = state.read_bytes().partition(b"\n")
    try:
        kept: dict[str, Any] = json.loads(head)
        done, seen, rho = int(kept["step"]), int(kept["tokens_seen"]), list(kept["rho"])
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"{state} is no state of a trajectory ({error}); delete it to train from the start") from error
    if done > trajectory.steps:
        raise StateError(f"{state} is at step {done}, and the trajectory ends at {trajectory.steps}; use another --out")
    trainer.resume(content)
    return done, seen, rho
