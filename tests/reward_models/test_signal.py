"""Signal and noise of a component against a simulation whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reward_models.items import items, layout
from harness.reward_models.residual import Residual, extended
from harness.reward_models.signal import MixtureScores, RunScores, mixture_scores, reliabilities, signal_of

N_ITEMS = 100
TRUE = {"signal": 0.5, "seed": 0.2, "step": 0.1, "taste": 1.0, "each": 0.8}
"""Standard deviations; `taste`: of item x mixture, `each`: of item x checkpoint."""
ITEM = math.sqrt((TRUE["taste"] ** 2 + TRUE["each"] ** 2) / N_ITEMS)
WITHIN = TRUE["each"] / math.sqrt(N_ITEMS)


def study(
    rng: np.random.Generator, *, mixtures: int, repeats: int, steps: int = 5, signal: float = 0.5
) -> MixtureScores:
    """Runs with items common to all, a trend over their steps, and every kind of noise."""
    where = layout([str(i) for i in range(N_ITEMS)], [str(i) for i in range(N_ITEMS)])
    hard = 3 * rng.normal(size=N_ITEMS)
    everything: Residual | None = None
    within: list[float] = []
    runs = []
    for mixture in range(mixtures):
        level, taste = signal * rng.normal(), TRUE["taste"] * rng.normal(size=N_ITEMS)
        repeated: Residual | None = None
        for _ in range(repeats):
            luck = TRUE["seed"] * rng.normal()
            values = []
            for step in range(steps):
                base = level + luck + 0.3 * step + TRUE["step"] * rng.normal()
                each = base + hard + taste + TRUE["each"] * rng.normal(size=N_ITEMS)
                values.append(float(each.mean()))
            found = items(where, each)
            everything, repeated = extended(everything, found), extended(repeated, found)
            runs.append(RunScores(mixture, tuple(map(float, range(steps))), tuple(values)))
        if repeated is not None and repeated.noise is not None and repeats > 1:
            within.append(repeated.noise)
    assert everything is not None
    return mixture_scores(runs, item=everything.noise, item_of_repeats=float(np.mean(within)) if within else None)


@pytest.mark.parametrize("repeats", [1, 2])
def test_every_kind_of_noise_is_told_apart_and_the_signal_is_what_is_left(repeats: int) -> None:
    rng = np.random.default_rng(repeats)
    found = [signal_of(study(rng, mixtures=12, repeats=repeats)) for _ in range(300)]

    def rms(name: str) -> float:
        return math.sqrt(np.mean([getattr(one, name) ** 2 for one in found]))

    assert rms("item") == pytest.approx(ITEM, rel=0.06)
    assert rms("step") == pytest.approx(math.hypot(TRUE["step"], WITHIN), rel=0.03)
    assert rms("signal") == pytest.approx(TRUE["signal"], rel=0.06)
    if repeats == 2:
        assert rms("seed") == pytest.approx(math.sqrt(TRUE["seed"] ** 2 + TRUE["step"] ** 2 + WITHIN**2), rel=0.03)
        whole = math.sqrt(TRUE["seed"] ** 2 + TRUE["step"] ** 2 + ITEM**2)
        assert rms("noise") == pytest.approx(whole, rel=0.03), "what repeats show of the items counts once"
    else:
        assert all(one.seed is None for one in found), "without repeats the step stands for the seed, and that is said"


@pytest.mark.slow
def test_the_interval_of_signal_to_noise_holds_the_truth_and_noise_is_told() -> None:
    rng = np.random.default_rng(0)
    truth = TRUE["signal"] / math.sqrt(TRUE["seed"] ** 2 + TRUE["step"] ** 2 + ITEM**2)
    found = [signal_of(study(rng, mixtures=10, repeats=2, steps=1)) for _ in range(400)]
    held = [one.snr_interval is not None and one.snr_interval.low <= truth <= one.snr_interval.high for one in found]
    assert np.mean(held) > 0.89
    still = [signal_of(study(rng, mixtures=10, repeats=2, steps=1, signal=0.0)) for _ in range(400)]
    assert np.mean([one.moves is True for one in still]) < 0.05, "noise alone is seldom called a signal"


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.lists(st.floats(-100, 100), min_size=1, max_size=6)), min_size=1, max_size=12
    )
)
def test_any_scores_give_numbers_or_none(rows: list[tuple[int, list[float]]]) -> None:
    runs = [RunScores(mixture, tuple(map(float, range(len(values)))), tuple(values)) for mixture, values in rows]
    found = signal_of(mixture_scores(runs))
    for value in (found.mean, found.spread, found.signal, found.step, found.seed, found.noise, found.snr):
        assert value is None or (math.isfinite(value))
    assert found.signal is None or (found.spread is not None and 0 <= found.signal <= found.spread * (1 + 1e-9))
    assert found.n_runs == len(rows) and found.n_mixtures == len({mixture for mixture, _ in rows})


def test_the_order_of_runs_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    runs = [RunScores(m, (1.0, 2.0, 3.0), tuple(rng.normal(size=3).tolist())) for m in (0, 1, 2, 0, 1, 2)]
    one, other = signal_of(mixture_scores(runs)), signal_of(mixture_scores(runs[::-1]))
    for name in ("mean", "spread", "signal", "step", "seed", "noise"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))


def test_what_cannot_be_known_is_none() -> None:
    alone = signal_of(mixture_scores([RunScores(0, (1.0,), (0.5,))]))
    assert (alone.spread, alone.signal, alone.noise, alone.snr, alone.moves) == (None, None, None, None, None)
    untold = signal_of(mixture_scores([RunScores(m, (1.0,), (float(m),)) for m in range(4)]))
    assert untold.spread is not None and (untold.signal, untold.moves) == (None, None)
    flat = signal_of(mixture_scores([RunScores(m, (1.0,), (0.1,)) for m in (0, 0, 1, 1)]))
    assert (flat.spread, flat.signal, flat.seed, flat.moves) == (0.0, 0.0, 0.0, False)
    sure = signal_of(mixture_scores([RunScores(m, (1.0,), (float(m),)) for m in (0, 0, 1, 1)]))
    assert (sure.noise, sure.snr, sure.moves) == (0.0, None, True)
    with pytest.raises(ValueError, match="at least one run"):
        mixture_scores([])


def test_a_trend_over_the_last_steps_is_no_noise() -> None:
    line = RunScores(0, (10.0, 20.0, 40.0), (1.0, 2.0, 4.0))
    assert signal_of(mixture_scores([line])).step == pytest.approx(0, abs=1e-12)


def test_reliability_of_draws_is_that_of_signal_where_all_are_drawn_once() -> None:
    scores = study(np.random.default_rng(5), mixtures=9, repeats=2)
    (drawn,) = reliabilities(scores, np.arange(9)[None, :])
    assert drawn == pytest.approx(signal_of(scores).reliability)
    untold = mixture_scores([RunScores(m, (1.0,), (float(m),)) for m in range(4)])
    assert reliabilities(untold, np.arange(4)[None, :]).tolist() == [1.0]
