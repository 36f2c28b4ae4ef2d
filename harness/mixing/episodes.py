"""Episodes of a feed, the data of a mixing agent, as padded arrays, and their exports. Knows feeds; no agent, no model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.errors import DataError
from harness.core.vector import RewardVector
from harness.feed.feed import Feed
from harness.mixing.domains import Floats
from harness.reward_models.reference import Reference, label

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """B trajectories of at most T transitions, over N domains and |D| components. No array holds NaN.

    A transition is from a step to the next one: the state at t is the row [rho_t ; z_t], the action rho_{t+1}, the reward the
    gain of step t + 1. Padding, and transitions without a gain, have 0 everywhere and `mask` False.
    """

    domains: tuple[str, ...]
    components: tuple[str, ...]
    weights: Floats
    """lambda of each component, shape [|D|]."""
    names: tuple[str, ...]
    """Of the trajectories, shape [B]."""
    states: Floats
    """[B, T + 1, N + |D|]; after a trajectory's end 0."""
    lengths: npt.NDArray[np.int64]
    """Transitions of each trajectory, those without a gain included, shape [B]."""
    mask: Mask
    """Which transitions may be learned from, [B, T]."""
    actions: Floats
    """[B, T, N], sums to 1 where `mask` is."""
    tokens: Floats
    """Tokens trained on in each step, [B, T]; 1 throughout a trajectory in which they are not known for every step."""
    gains: Floats
    """Eq. 6, in the unit of the scores, [B, T]."""
    gains_standardized: Floats
    """The weighted sum of the components' steps in z, both rows by one reference, [B, T]."""
    gain_stderr: Floats
    """Paired; where it is not known the spread of all gains, [B, T]."""
    gain_standardized_stderr: Floats
    """Components taken as independent; where it is not known the spread of all gains, [B, T]."""
    error_known: Mask
    """Whether both errors were measured, [B, T]."""
    filled: Mask
    """Which values of `states` were not known and filled in, [B, T + 1, N + |D|]."""
    left_out: tuple[str, ...]
    """Trajectories and transitions that are not learned from, each with its reason."""

    @property
    def observations(self) -> Floats:
        """[B, T, N + |D|]."""
        return self.states[:, :-1]

    @property
    def next_observations(self) -> Floats:
        """[B, T, N + |D|]."""
        return self.states[:, 1:]

    @property
    def terminals(self) -> Mask:
        """A trajectory's last transition, [B, T]."""
        last: Mask = np.arange(self.mask.shape[1])[None, :] == (self.lengths - 1)[:, None]
        return last

    @property
    def ks(self) -> tuple[int | None, ...]:
        """K that a trajectory was sampled with, from a name such as `k100-003`; None for another name."""
        found = [re.match(r"k(\d+)-\d", name) for name in self.names]
        return tuple(None if one is None else int(one[1]) for one in found)

    def only(self, chosen: Sequence[int]) -> Episodes:
        """Some trajectories, by position. Raises DataError for none."""
        if not len(chosen):
            raise DataError("no trajectory is left")
        arrays = (
            *("states", "lengths", "mask", "actions", "tokens", "gains", "gains_standardized", "gain_stderr"),
            *("gain_standardized_stderr", "error_known", "filled"),
        )
        index = list(chosen)
        return Episodes(
            **{key: getattr(self, key)[index] for key in arrays},
            names=tuple(self.names[one] for one in index),
            **{key: getattr(self, key) for key in ("domains", "components", "weights", "left_out")},
        )

    def fragments(self) -> list[tuple[int, slice]]:
        """(trajectory, transitions) of each unbroken run of transitions that may be learned from."""
        found: list[tuple[int, slice]] = []
        for row, known in enumerate(self.mask):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
            found += [(row, slice(int(a), int(b))) for a, b in edges.reshape(-1, 2)]
        return found

    def to_npz(self, path: Path, *, standardized: bool = True) -> None:
        """Write the arguments of `d3rlpy.dataset.MDPDataset(observations, actions, rewards, terminals, timeouts)`, and more.

        One row per transition, shape [M, ...]: fragments one after another; `terminals` is 1 at a trajectory's end, `timeouts`
        1 where a fragment ends because the next transition has no gain. Also `next_observations`, `rewards_stderr`, and the names
        `domains` and `components`. An observation is one state; stacking a history is left to the reader.
        """
        gains, errors = self._rewards(standardized)
        parts: dict[str, list[Any]] = {}
        for row, span in self.fragments():
            ended = self.terminals[row, span].astype(np.float32)
            timeouts = np.zeros(len(ended), np.float32)
            timeouts[-1] = 1 - ended[-1]
            columns = {
                "observations": self.observations[row, span].astype(np.float32),
                "actions": self.actions[row, span].astype(np.float32),
                "rewards": gains[row, span].astype(np.float32),
                "terminals": ended,
                "timeouts": timeouts,
                "next_observations": self.next_observations[row, span].astype(np.float32),
                "rewards_stderr": errors[row, span].astype(np.float32),
            }
            for key, values in columns.items():
                parts.setdefault(key, []).append(values)
        arrays: dict[str, Any] = {key: np.concatenate(values) for key, values in parts.items()}
        np.savez(path, **arrays, domains=np.array(self.domains), components=np.array(self.components))

    def to_minari(self, dataset_id: str, *, standardized: bool = True, data_format: str | None = None) -> Any:
        """A minari dataset, one episode per fragment, written to minari's folder. Raises DataError where minari is not installed."""
        try:
            import minari
            from gymnasium import spaces
            from minari.data_collector import EpisodeBuffer
        except ImportError as error:
            raise DataError(f"minari is not installed ({error}); pip install 'minari[hdf5]'") from error
        gains, _ = self._rewards(standardized)
        buffers = []
        for number, (row, span) in enumerate(self.fragments()):
            ended = self.terminals[row, span]
            broken = np.zeros(len(ended), dtype=bool)
            broken[-1] = not ended[-1]
            buffers.append(
                EpisodeBuffer(
                    id=number,
                    observations=self.states[row, span.start : span.stop + 1].astype(np.float32),
                    actions=self.actions[row, span].astype(np.float32),
                    rewards=gains[row, span].tolist(),
                    terminations=ended.tolist(),
                    truncations=broken.tolist(),
                )
            )
        size, n = self.states.shape[2], len(self.domains)
        return minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            observation_space=spaces.Box(-np.inf, np.inf, (size,), np.float32),
            action_space=spaces.Box(0.0, 1.0, (n,), np.float32),
            data_format=data_format,
            description="trajectories of mixtures: state [rho ; z], action the next rho, reward the gain",
        )

    def _rewards(self, standardized: bool) -> tuple[Floats, Floats]:
        if standardized:
            return self.gains_standardized, self.gain_standardized_stderr
        return self.gains, self.gain_stderr


def joined(feeds: Mapping[str, Feed]) -> Feed:
    """Feeds (path -> feed) as one. Raises DataError where two have a trajectory of one name, whose steps would be mixed up."""
    owners: dict[str, str] = {}
    for place, feed in feeds.items():
        for name in feed.trajectories:
            if owners.setdefault(name, place) != place:
                raise DataError(
                    f"trajectory {name} stands in {owners[name]} and in {place}; give one of them another name"
                )
    return Feed([vector for feed in feeds.values() for vector in feed])


def episodes(
    feed: Feed, reference: Reference | None = None, *, domains: Sequence[str] | None = None, start: Mapping[str, float] | None = None
) -> Episodes:  # fmt: skip
    """Every trajectory of a feed, a step measured again with its latest vector, standardised as `Feed.matrix` does.

    `domains`: all N in the order to use; default: the feed's order of appearance. Filled in: z of a component that failed or does not
    vary yet, by 0; the shares of a first state without a mixture, by `start` (those of the base model's data), or by 0 at step 0. Left
    out, with a reason: a transition without a gain, a trajectory without a transition. Raises DataError for a later step without a
    mixture, for other domains than `domains`, and where nothing is left to learn from.
    """
    feed = feed.latest()
    order = tuple(feed.domains if domains is None else domains)
    unknown = next((name for name in feed.domains if name not in order), None)
    if unknown is not None:
        raise DataError(f"the feed has a domain {unknown!r}, which is none of {', '.join(order)}")
    if len(set(order)) < len(order):
        raise DataError(f"a domain is there twice: {', '.join(order)}")
    if start is not None:
        start = _start_shares(start, order)
    if not order:
        raise DataError("no vector of the feed has a mixture; put mixture.json beside the checkpoints and score again")
    left_out: list[str] = []
    kept: list[tuple[str, Feed]] = []
    for name in feed.trajectories:
        vectors = feed.trajectory(name)
        if len(vectors) < 2:
            left_out.append(f"trajectory {name} has one step, and a gain takes two")
        else:
            kept.append((name, vectors))
    steps = max((len(vectors) for _, vectors in kept), default=1)
    components, n = tuple(feed.components), len(order)
    shape = (len(kept), steps - 1)
    states = np.zeros((len(kept), steps, n + len(components)))
    filled = np.zeros(states.shape, dtype=bool)
    tokens = np.ones(shape)
    actions, mask, error_known = np.zeros((*shape, n)), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    gains, standardized, errors, z_errors = (np.zeros(shape) for _ in range(4))
    whole = feed.matrix(reference, errors="paired", missing="nan") if kept else None
    at = {vector.place: index for index, vector in enumerate(feed)}
    columns = [feed.domains.index(name) if name in feed.domains else -1 for name in order]
    for b, (_, vectors) in enumerate(kept):
        assert whole is not None
        rows = [at[vector.place] for vector in vectors]
        z, z_error = whole.values[rows, len(feed.domains) :], whole.errors[rows, len(feed.domains) :]
        rho = np.stack([np.where(c < 0, 0.0, whole.values[rows, c]) for c in columns], axis=1)
        rho[np.isnan(whole.values[rows, 0])] = np.nan
        states[b, : len(rows)] = np.concatenate([_with_start(rho, vectors, order, start), np.nan_to_num(z)], axis=1)
        filled[b, : len(rows)] = np.isnan(np.concatenate([rho, z], axis=1))
        seen = [vector.checkpoint.tokens_seen for vector in vectors]
        trained = [math.nan if a is None or b is None else float(b - a) for a, b in pairwise(seen)]
        if all(one > 0 for one in trained):
            tokens[b, : len(trained)] = trained
        for t, (before, after) in enumerate(pairwise(vectors)):
            weights = _weights(after, components)
            change = np.where(weights == 0, 0.0, weights * (z[t + 1] - z[t]))
            why = _why_no_gain(before, after, change, components)
            if why is not None:
                left_out.append(f"{label(after)}: {why}")
                continue
            assert after.gain is not None
            error = _root_of_squares(np.where(weights == 0, 0.0, weights * z_error[t + 1] * np.sqrt(2)))
            mask[b, t], actions[b, t] = True, rho[t + 1]
            gains[b, t], standardized[b, t] = after.gain, change.sum()
            error_known[b, t] = after.gain_stderr is not None and np.isfinite(error)
            errors[b, t] = np.nan if after.gain_stderr is None else after.gain_stderr
            z_errors[b, t] = error
    if not mask.any():
        raise DataError(f"nothing to learn from: {left_out[0] if left_out else 'the feed is empty'}")
    for value, found in ((gains, errors), (standardized, z_errors)):
        found[mask & ~np.isfinite(found)] = max(float(value[mask].std()), np.finfo(np.float64).tiny)
    return Episodes(
        domains=order, components=components, weights=_weights(feed[-1], components), names=tuple(name for name, _ in kept),
        states=states, lengths=np.array([len(vectors) - 1 for _, vectors in kept]), mask=mask, actions=actions, tokens=tokens, gains=gains,
        gains_standardized=standardized, gain_stderr=errors, gain_standardized_stderr=z_errors, error_known=error_known,
        filled=filled, left_out=tuple(left_out),
    )  # fmt: skip


def _root_of_squares(parts: Floats) -> float:
    """The standard error of a sum of independent parts."""
    return float(np.sqrt((parts**2).sum()))


def _start_shares(start: Mapping[str, float], order: Sequence[str]) -> dict[str, float]:
    """Divided by their sum. Raises DataError."""
    unknown = [name for name in start if name not in order]
    total = math.fsum(start.values())
    if unknown or min(start.values(), default=-1) < 0 or not 0 < total < math.inf:
        wrong = (
            f"name {unknown[0]!r}, which is no domain" if unknown else "have to be finite, not negative and not all 0"
        )
        raise DataError(f"the shares to start from {wrong}: {dict(start)}")
    return {name: share / total for name, share in start.items()}


def _with_start(rho: Floats, vectors: Feed, order: Sequence[str], start: Mapping[str, float] | None) -> Floats:
    known = rho.copy()
    for t in np.flatnonzero(np.isnan(rho[:, 0])).tolist():
        if t == 0 and start is not None:
            known[t] = [start.get(name, 0.0) for name in order]
        elif t == 0 and vectors[0].step == 0:
            known[t] = 0.0
        else:
            hint = "; pass start=, the shares of the base model's data" if t == 0 else ""
            raise DataError(f"{label(vectors[t])} has no mixture, so what was done is not known{hint}")
    return known


def _weights(vector: RewardVector, components: Sequence[str]) -> Floats:
    """lambda of each component. No sign is applied: z of a component that is better when lower is negated already."""
    by_name = {component.name: component.weight for component in vector.components}
    return np.array([by_name[name] for name in components])


def _why_no_gain(
    before: RewardVector, after: RewardVector, change: Floats, components: Sequence[str]
) -> str | None:  # fmt: skip
    if after.gain is None:
        return next((one for one in after.warnings if one.startswith(("gain", "scalar is"))), "it has no gain")
    if after.previous_step != before.step:
        return f"its gain is to step {after.previous_step}, and the step before it is {before.step}; `harness update` mends it"
    unknown = [name for name, value in zip(components, change, strict=True) if not np.isfinite(value)]
    if unknown:
        return f"{', '.join(unknown)} has no standardised value at both steps; pass a reference, or give it weight 0 where it never varies"
    return None
