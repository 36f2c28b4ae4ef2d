"""The plot of a feed: a file in each format, whatever is missing in the feed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import feed, measurement, varied, vector

from harness import Feed
from harness.core.errors import DataError, SpecError
from harness.feed.plot import LEGEND_AT_MOST, plot_feed

TWO = Feed(
    [
        *feed({"code": -1.0, "prose": -2.0}, {"code": -0.5, "prose": -2.5}, trajectory="mix-a"),
        *feed({"code": -1.5, "prose": -2.0}, {"code": None, "prose": -1.5}, trajectory="mix-b"),
    ]
)
MAGIC = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", MAGIC)
def test_a_plot_is_written_in_the_format_its_name_asks_for(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"reward{suffix}"
    plot_feed(TWO, path)
    assert path.read_bytes().startswith(MAGIC[suffix])


def test_the_plot_names_components_scalar_units_and_trajectories(tmp_path: Path) -> None:
    plot_feed(TWO, tmp_path / "p.svg")
    text = (tmp_path / "p.svg").read_text(encoding="utf-8")
    for word in ("code", "prose", "scalar (Eq. 6)", "nats per token", "step", "mix-a", "mix-b"):
        assert f"<!-- {word} -->" in text


def test_one_feed_always_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        plot_feed(TWO, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_gaps_missing_steps_and_odd_names_are_drawn_without_a_warning(tmp_path: Path) -> None:
    rows: list[Any] = [{"reward": measurement(0.5, None, metric="reward")}, {"reward": None}]
    plot_feed(feed(*rows, trajectory="cost $5 \\o/"), tmp_path / "p.svg")
    plot_feed(Feed([vector({"code": -1.0}, step=None)]), tmp_path / "p.svg")
    plot_feed(Feed([vector({"code": None})]), tmp_path / "p.svg")


def test_many_trajectories_are_drawn_without_a_legend(tmp_path: Path) -> None:
    many = [vector({"code": -1.0}, trajectory=f"mix-{index}") for index in range(LEGEND_AT_MOST + 1)]
    plot_feed(Feed(many), tmp_path / "p.svg")
    assert "<!-- mix-0 -->" not in (tmp_path / "p.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["reward.jpeg", "reward", "reward.svg.gz"])
def test_another_format_is_refused_before_anything_is_drawn(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"use \.svg, \.png, \.pdf"):
        plot_feed(TWO, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_feed_has_nothing_to_plot(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to plot"):
        plot_feed(Feed([]), tmp_path / "p.svg")


def test_a_band_of_0_is_not_certainty_and_an_unknown_one_is_none(tmp_path: Path) -> None:
    def drawn(raw: float, error: float | None) -> bytes:
        rows: list[Any] = [{"arc": measurement(value, error, metric="acc")} for value in (raw, raw)]
        plot_feed(feed(*rows), tmp_path / "p.svg")
        return (tmp_path / "p.svg").read_bytes()

    assert drawn(1.0, 0.0) == drawn(1.0, 0.1), "10 of 10 right: as if one had come out otherwise"
    assert drawn(-1.0, None) == drawn(-1.0, 0.0) != drawn(-1.0, 0.1)


def test_what_a_spec_varies_has_an_axis_of_its_own_with_error_bars(tmp_path: Path) -> None:
    def text(items: Any) -> str:
        plot_feed(Feed(items), tmp_path / "p.svg")
        return (tmp_path / "p.svg").read_text(encoding="utf-8")

    def at(step: int | None, trajectory: str = "sft", **variables: Any) -> Any:
        return varied(vector({"code": -1.0}, step=step, trajectory=trajectory), **variables)

    one_step = text([at(None, alpha=alpha) for alpha in (0.1, 0.5, 1.0)])
    assert "<!-- alpha -->" in one_step and "<!-- sft -->" in one_step and "<!-- step -->" not in one_step
    both = text([at(step, alpha=alpha) for step in (0, 10) for alpha in (0.1, 0.5)])
    for words in ("step", "sft[alpha=0.1]", "sft[alpha=0.5]", "alpha", "sft, step 10"):
        assert f"<!-- {words} -->" in both, words
    named = text([at(5, style=style, alpha=alpha) for style in ("short", "long") for alpha in (1, 2)])
    for words in ("short", "long", "style", "sft[alpha=1], step 5", "alpha", "sft[style=long], step 5"):
        assert f"<!-- {words} -->" in named, words
    alone = text([at(5, alpha=1)])
    assert "<!-- step -->" in alone and "<!-- alpha -->" not in alone


def test_a_single_step_has_error_bars(tmp_path: Path) -> None:
    def drawn(error: float | None) -> bytes:
        plot_feed(Feed([vector({"code": measurement(-1.0, error)})]), tmp_path / "p.svg")
        return (tmp_path / "p.svg").read_bytes()

    assert drawn(0.1) != drawn(None)
