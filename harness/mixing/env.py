"""Mixing as a gymnasium environment: the action a mixture, the observation the history, the reward the gain."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from harness.core.errors import SpecError
from harness.mixing.worlds import World

Observation = npt.NDArray[np.float32]


class MixingEnv(gymnasium.Env):  # type: ignore[misc]
    """`world`: a `Live` one, or a `Simulator` for fast tests. An episode has `steps` re-weighting steps.

    action       N numbers in [0, 1], divided by their sum; all 0: equal shares
    observation  [steps + 1, N + |D|], rows [rho ; z] as in `Feed.matrix`, then rows of 0; the first row has no mixture
    reward       sum of lambda x step in z (Episodes.gains_standardized); info has its paired error and the tokens seen

    The seed of a `reset` decides the base, the data's order and so all outcomes. Raises SpecError for no steps.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, world: World, *, steps: int) -> None:
        if steps < 1:
            raise SpecError(f"an episode takes at least one step, not {steps}")
        self.world, self.steps = world, steps
        self.n, self.d = len(world.domains), len(world.components)
        self.action_space = spaces.Box(0.0, 1.0, (self.n,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (steps + 1, self.n + self.d), np.float32)
        self._rows: Observation = np.zeros((steps + 1, self.n + self.d), np.float32)
        self._done = steps

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:  # fmt: skip
        """A new trajectory."""
        super().reset(seed=seed)
        self._rows = np.zeros_like(self._rows)
        self._rows[0, self.n :] = self.world.reset(int(self.np_random.integers(2**31)))
        self._done = 0
        return self._rows.copy(), {"step": 0}

    def step(self, action: npt.ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Train on the action's mixture. Raises SpecError for what is no mixture, and after an episode's end."""
        if self._done >= self.steps:
            raise SpecError("the episode is over, or was not begun; call reset() first")
        shares = np.asarray(action, dtype=np.float64)
        if shares.shape != (self.n,) or not np.isfinite(shares).all() or (shares < 0).any():
            raise SpecError(f"an action is {self.n} finite shares, none negative; not {np.asarray(action).tolist()}")
        total = shares.sum()
        rho = shares / total if total > 0 else np.full(self.n, 1 / self.n)
        z, gain, stderr, tokens = self.world.step(rho)
        self._done += 1
        self._rows[self._done] = np.concatenate([rho, z])
        info = {"step": self._done, "gain_stderr": stderr, "tokens_seen": tokens, "rho": rho}
        return self._rows.copy(), gain, self._done == self.steps, False, info

    def history(self) -> npt.NDArray[np.float64]:
        """The rows so far, shape [T, N + |D|], as policies take them."""
        return self._rows[: self._done + 1].astype(np.float64)
