"""The runs of a feed, as a fit of score = f(mixture) reads them: each with the mixture it was trained on from its start.

A run is one training: a trajectory, or all the trajectories that a spec's `vary` makes of one. Components that `vary` makes
unlike are columns of their own then, `code[alpha=0.5]`. Knows no file and no format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.core.errors import DataError
from harness.core.place import suffix
from harness.core.vector import ComponentRecord, RewardVector
from harness.feed.feed import Feed
from harness.reward_models.logprob import METRIC
from harness.reward_models.reference import definitions_of, label

Shares = Mapping[str, float]
"""Domain -> share of the tokens; they sum to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """A checkpoint of a run: one vector, or one for each value of what the spec varies.

    `shares`: of the tokens since the step before, None where the trainer did not say. `tokens_seen`: from the start on.
    """

    step: int | None
    where: str
    vectors: tuple[RewardVector, ...]
    components: Mapping[str, ComponentRecord]
    """Column -> what was measured."""
    shares: Shares | None
    tokens_seen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training. `steps` in order, at least one."""

    name: str
    steps: tuple[RunStep, ...]

    @property
    def last(self) -> RunStep:
        """Its end, as far as it was measured."""
        return self.steps[-1]


class NoShares(NamedTuple):
    """Why there is no mixture up to a step, and what to do. `started`: whether the run was trained on anything by then."""

    reason: str
    started: bool = True


def runs_of(feed: Feed, *, source: str = "") -> list[Run]:
    """In order of first appearance; a step measured again counts once, with its latest vector.

    `source`: prefix of a place in messages, for runs of several feeds. Raises DataError where one checkpoint has two mixtures.
    """
    latest = feed.latest()
    varied = _varied(latest)
    found: dict[str, dict[int | None, list[RewardVector]]] = {}
    for vector in latest:
        found.setdefault(run_name(vector), {}).setdefault(vector.step, []).append(vector)
    return [
        Run(
            name=name,
            steps=tuple(
                _step(steps[step], varied, source)
                for step in sorted(steps, key=lambda step: -1 if step is None else step)
            ),
        )
        for name, steps in found.items()
    ]


def run_name(vector: RewardVector) -> str:
    """The name of the training that a vector is of: its trajectory's without the suffix of the variables."""
    return vector.trajectory.removesuffix(suffix(vector.variables))


def _varied(vectors: Feed) -> set[str]:
    """Components whose definition differs between the values of what the spec varies."""
    seen: dict[str, dict[str, str | None]] = {}
    for vector in vectors:
        for name, definition in definitions_of(vector).items():
            seen.setdefault(name, {})[suffix(vector.variables)] = definition
    return {
        name for name, by_values in seen.items() if len(by_values) > 1 and (len({*by_values.values()} - {None}) != 1)
    }


def _step(vectors: list[RewardVector], varied: set[str], source: str) -> RunStep:
    first = vectors[0]
    components: dict[str, ComponentRecord] = {}
    for vector in vectors:
        for component in vector.components:
            add = suffix(vector.variables) if component.name in varied else ""
            components.setdefault(f"{component.name}{add}", component)
    shares = [vector.mixture.normalized() for vector in vectors if vector.mixture]
    if any(one != shares[0] for one in shares):
        raise DataError(f"{label(first)} has two mixtures, by what its prompts were filled with; score it again")
    return RunStep(
        step=first.step,
        where=source + label(first.model_copy(update={"trajectory": run_name(first)})),
        vectors=tuple(vectors),
        components=components,
        shares=shares[0] if shares else None,
        tokens_seen=next((v.checkpoint.tokens_seen for v in vectors if v.checkpoint.tokens_seen is not None), None),
    )


def check_alike(runs: Sequence[Run], *, per_token: bool = True) -> None:
    """Raises DataError where runs measured different things in one column, or (`per_token`) per-token scores by different
    tokenizers."""
    known: dict[str, tuple[str, str]] = {}
    tokenizers: dict[str, tuple[str, str]] = {}
    for run in runs:
        for step in run.steps:
            for vector in step.vectors:
                if (
                    per_token
                    and vector.checkpoint.tokenizer is not None
                    and METRIC in {c.metric for c in vector.components}
                ):
                    tokenizer, where = tokenizers.setdefault(METRIC, (vector.checkpoint.tokenizer, step.where))
                    if tokenizer != vector.checkpoint.tokenizer:
                        raise DataError(
                            f"{step.where} and {where} have different tokenizers, and {METRIC} is per token; compare "
                            "models of one tokenizer, or their bits per byte (`harness export --format olmix`)"
                        )
                for name, definition in definitions_of(vector).items():
                    if definition is None:
                        continue
                    column = f"{name}{suffix(vector.variables)}"
                    other, where = known.setdefault(column, (definition, step.where))
                    if other != definition:
                        raise DataError(
                            f"{step.where} and {where} measured different things as {name!r}: its field, template or "
                            "revision changed; take a feed of one spec"
                        )


def shares_up_to(run: Run) -> list[Shares | NoShares]:
    """Of every step, the mixture that the run was trained on from its start: sum_t tokens_t rho_t / sum_t tokens_t.

    tokens_t is `tokens_seen` less that of the step before; the first step's are all it has seen, except that a step 0
    without a mixture is where the run starts, trained on nothing yet. Tokens do not matter as long as the mixture stays.
    """
    found: list[Shares | NoShares] = []
    amounts: dict[str, float] = {}
    only: Shares | None = None
    changed = False
    seen: int | None = 0
    untold: str | None = None
    for index, step in enumerate(run.steps):
        if index == 0 and step.step == 0 and step.shares is None:
            seen = step.tokens_seen or 0
            found.append(NoShares(f"{step.where} carries no mixture, so it was trained on none yet; {_MIXTURE}", False))
            continue
        before, seen = seen, step.tokens_seen
        tokens = None if before is None or seen is None else seen - before
        problem = _problem(step, before, tokens)
        if problem is not None:
            return found + [problem] * (len(run.steps) - index)
        if step.shares is not None and tokens != 0:
            untold = untold or (step.where if tokens is None else None)
            changed = changed or (only is not None and not _same(only, step.shares))
            only = only or step.shares
            for domain, share in step.shares.items():
                amounts[domain] = amounts.get(domain, 0.0) + share * (tokens or 0)
        if only is None:
            found.append(NoShares(f"{step.where} has seen no tokens, so it was trained on none yet", False))
        elif not changed:
            found.append(dict(only))
        elif untold is not None:
            found.append(NoShares(f"{untold} does not say how many tokens it has seen, {_TOKENS}"))
        else:
            total = sum(amounts.values())
            found.append({domain: amount / total for domain, amount in amounts.items()})
    return found


def _problem(step: RunStep, before: int | None, tokens: int | None) -> NoShares | None:
    """Why the mixture is not known from this step on; None where it is."""
    if step.shares is None and tokens != 0:
        return NoShares(f"{step.where} carries no mixture, so what the run was trained on is not known; {_MIXTURE}")
    if tokens is not None and tokens < 0:
        return NoShares(
            f"{step.where} has seen {step.tokens_seen:,} tokens, fewer than the step before ({before:,}); tokens_seen counts "
            "from the start of the run"
        )
    return None


_MIXTURE = (
    "put a mixture.json beside its weights and score again (nothing is measured twice), or pass mixture= to feedback()"
)
_TOKENS = (
    "and the mixture changes on the way, so what the run was trained on is not known; put tokens_seen into its "
    "mixture.json and score again (nothing is measured twice), or pass tokens_seen= to feedback()"
)


def _same(one: Shares, other: Shares) -> bool:
    return all(abs(one.get(domain, 0.0) - other.get(domain, 0.0)) <= 1e-12 for domain in {*one, *other})
