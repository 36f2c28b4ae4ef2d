"""Episodes: what the arrays hold, what is filled, what is left out or refused, and that readers of exports get the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import feed, vector

from harness import Feed
from harness.core.errors import DataError
from harness.mixing.episodes import Episodes, episodes, joined
from harness.reward_models.reference import fit_reference

MIXTURES: list[Any] = [{"x": 1.0}, {"x": 1.0, "y": 1.0}, {"y": 3.0, "x": 1.0}, {"y": 1.0}]
RAWS: list[Any] = [{"code": -3.0, "prose": -2.0}, {"code": -2.0, "prose": -2.5}, {"code": -1.5, "prose": -2.25}]


def run(name: str, raws: list[Any] = RAWS, mixtures: list[Any] = MIXTURES) -> list[Any]:
    made: list[Any] = []
    for index, row in enumerate(raws):
        made.append(vector(row, step=10 * index, trajectory=name, history=made, mixture=mixtures[index]))
    return made


def finite(data: Episodes) -> bool:
    arrays = (
        data.states,
        data.actions,
        data.gains,
        data.gains_standardized,
        data.gain_stderr,
        data.gain_standardized_stderr,
    )
    return all(bool(np.isfinite(one).all()) for one in arrays)


def test_a_transition_is_state_next_mixture_and_gain() -> None:
    vectors = [*run("k1-000"), *run("k100-000", RAWS[:2])]
    reference = fit_reference(vectors)
    data = episodes(Feed(vectors), reference)
    assert (data.domains, data.components, data.ks) == (("x", "y"), ("code", "prose"), (1, 100))
    assert data.states.shape == (2, 3, 4) and data.mask.tolist() == [[True, True], [True, False]]
    assert data.actions[0].tolist() == [[0.5, 0.5], [0.25, 0.75]] and data.actions[1, 1].tolist() == [0, 0]
    assert data.gains[0] == pytest.approx([0.25, 0.375]) and data.gains[1, 1] == 0
    matrix = Feed(vectors).matrix(reference)
    assert (data.states[0] == matrix[:3]).all() and (data.next_observations[0] == matrix[1:3]).all()
    z = matrix[:3, 2:]
    assert data.gains_standardized[0] == pytest.approx(np.diff(z, axis=0).mean(1))
    assert data.terminals.tolist() == [[False, True], [True, False]]
    assert finite(data) and not data.error_known.any()
    assert data.gain_stderr[0, 0] == pytest.approx(data.gains[data.mask].std()), "not known: the spread of all gains"


def test_errors_are_paired_and_in_the_unit_of_their_gain() -> None:
    first, second = run("a", RAWS[:2])
    parts = [
        c.model_copy(update={"change_stderr": error}) for c, error in zip(second.components, (0.3, 0.4), strict=True)
    ]
    second = second.model_copy(update={"components": parts, "gain_stderr": 0.25})
    reference = fit_reference([first, second])
    data = episodes(Feed([first, second]), reference)
    spreads = [component.std for component in reference.components]
    assert data.error_known.all() and data.gain_stderr[0, 0] == 0.25
    assert data.gain_standardized_stderr[0, 0] == pytest.approx(np.hypot(0.15 / spreads[0], 0.2 / spreads[1]))


def test_what_is_not_known_is_filled_and_marked_and_a_failed_step_is_no_gain_of_0() -> None:
    raws = [RAWS[0], {"code": None, "prose": -2.5}, *RAWS[1:]]
    data = episodes(Feed([*run("a", raws, [None, *MIXTURES[1:]]), *run("b", RAWS[:1])]), fit_reference(run("a")))
    assert finite(data) and data.mask.tolist() == [[False, False, True]]
    assert data.filled[0, 0].tolist() == [True, True, False, False] and data.filled[0, 1].tolist() == [False] * 2 + [
        True,
        False,
    ]
    assert data.states[0, 0, :2].tolist() == [0, 0] and data.states[0, 1, 2] == 0
    assert data.left_out[0] == "trajectory b has one step, and a gain takes two"
    assert "trajectory a step 10: scalar is null: code missing" in data.left_out[1]
    given = episodes(Feed(run("a", RAWS, [None, *MIXTURES[1:]])), start={"x": 1.0})
    assert given.states[0, 0, :2].tolist() == [1, 0]


def test_domains_are_in_the_order_asked_for_and_unused_ones_are_0() -> None:
    data = episodes(Feed(run("a")), domains=["z", "y", "x"])
    assert data.states[0, 1, :3].tolist() == [0, 0.5, 0.5]
    with pytest.raises(DataError, match="a domain 'x', which is none of y"):
        episodes(Feed(run("a")), domains=["y"])


def test_what_cannot_be_learned_from_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="step 10 has no mixture, so what was done is not known"):
        episodes(Feed(run("a", RAWS, [MIXTURES[0], None, MIXTURES[2]])))
    late = [one.model_copy(update={"step": one.step + 5}) for one in run("a", RAWS, [None, *MIXTURES[1:]])]
    with pytest.raises(DataError, match="pass start="):
        episodes(Feed(late))
    with pytest.raises(DataError, match="no vector of the feed has a mixture"):
        episodes(feed(*RAWS))
    with pytest.raises(DataError, match="nothing to learn from: trajectory a has one step"):
        episodes(Feed(run("a", RAWS[:1])))
    flat = [{**row, "prose": -1.0} for row in RAWS]
    with pytest.raises(DataError, match="prose has no standardised value at both steps"):
        episodes(Feed(run("a", flat)))


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"x": float("nan")}, "have to be finite"),
        ({"x": -1.0, "y": 2.0}, "not negative"),
        ({"x": 0.0}, "not all 0"),
        ({}, "not all 0"),
        ({"z": 1.0}, "name 'z', which is no domain"),
    ],
)
def test_shares_to_start_from_that_are_none_never_get_in(start: Any, words: str) -> None:
    unknown = run("a", mixtures=[None, *MIXTURES[1:]])
    assert episodes(Feed(unknown), start={"x": 3.0, "y": 1.0}).states[0, 0, :2].tolist() == [0.75, 0.25]
    with pytest.raises(DataError, match=words):
        episodes(Feed(unknown), start=start)


def test_a_domain_that_is_asked_for_twice_is_refused() -> None:
    with pytest.raises(DataError, match="a domain is there twice"):
        episodes(Feed(run("a")), domains=["x", "y", "x"])


def test_a_step_measured_again_counts_once() -> None:
    vectors = run("a")
    again = episodes(Feed([vectors[0], *vectors]))
    assert (again.states == episodes(Feed(vectors)).states).all()


def test_feeds_are_joined_unless_a_trajectory_would_be_mixed_up() -> None:
    both = joined({"one": Feed(run("a")), "two": Feed(run("b"))})
    assert episodes(both, fit_reference(list(both))).names == ("a", "b")
    with pytest.raises(DataError, match="trajectory a stands in one and in two"):
        joined({"one": Feed(run("a")), "two": Feed(run("a"))})


def broken() -> Episodes:
    """A trajectory that is broken off in its middle, and a complete one."""
    raws = [RAWS[0], RAWS[1], {"code": None, "prose": -2.5}, RAWS[2]]
    return episodes(Feed([*run("a", raws), *run("b")]), fit_reference(run("b")))


def test_the_file_for_d3rlpy_has_a_row_per_transition(tmp_path: Path) -> None:
    data = broken()
    data.to_npz(tmp_path / "episodes.npz")
    with np.load(tmp_path / "episodes.npz") as found:
        assert found["observations"].shape == (3, 4) and found["actions"].shape == (3, 2)
        assert found["terminals"].tolist() == [0, 0, 1] and found["timeouts"].tolist() == [1, 0, 0]
        assert found["rewards"] == pytest.approx(data.gains_standardized[data.mask])
        assert found["next_observations"][1] == pytest.approx(found["observations"][2])
        assert found["domains"].tolist() == ["x", "y"]
        assert all(np.isfinite(found[key]).all() for key in found if found[key].dtype.kind == "f")


@pytest.mark.filterwarnings("ignore::UserWarning:minari")  # metadata that a private data set does not have
def test_minari_reads_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari", reason="minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = broken().to_minari("mixing/test-v0", data_format="arrow")
    read = list(minari.load_dataset("mixing/test-v0").iterate_episodes())
    assert [len(one.rewards) for one in read] == [1, 2] and dataset.total_steps == 3
    assert [bool(one.terminations[-1]) for one in read] == [False, True]
    assert [bool(one.truncations[-1]) for one in read] == [True, False]
    assert read[1].observations == pytest.approx(broken().states[1, :3].astype(np.float32))


def test_without_minari_the_message_says_what_to_install() -> None:
    try:
        import minari  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match="minari is not installed"):
            broken().to_minari("mixing/test-v0")
    else:
        pytest.skip("minari is installed")
