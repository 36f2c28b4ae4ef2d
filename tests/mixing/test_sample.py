"""Algorithm 1: against a literal version of it, and what every trajectory must be."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import run as cli
from harness.core.errors import DataError, SpecError
from harness.mixing.domains import Domains
from harness.mixing.plans import plan_json, read_plans
from harness.mixing.sample import Heuristic, Planned, sample_trajectories

SPACE = Domains(
    sources=["web", "books"], targets=["code", "maths"], sizes={"web": 3, "books": 1, "code": 1, "maths": 1}
)


def kl(p: Any, q: Any) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def literal(space: Domains, *, steps: int, number: int, k: tuple[int, ...], candidates: int, seed: int) -> list[Any]:
    """Trajectory after trajectory, each divergence by its definition, over the same candidates."""
    h, n = Heuristic(), len(space.names)
    done: list[list[Any]] = []
    for index in range(number):
        path = [space.start]
        for d in range(1, steps + 1):
            pool = np.random.default_rng([seed, d]).dirichlet(np.ones(n), candidates)
            dice = np.random.default_rng([seed, d, index])
            permutation = dice.permutation(n)
            seen = np.empty_like(pool)
            seen[:, permutation] = pool
            scores = []
            for one in seen:
                others = [kl(earlier[d], one) for earlier in done if len(earlier) > d]
                scores.append(
                    h.alpha * kl(path[-1], one)
                    + h.beta / (1 + math.exp(-d / 5)) * kl(space.target, one)
                    - h.gamma * (sum(others) / len(others) if others else 0.0)
                )
            best = sorted(np.argsort(scores, kind="stable")[: k[index % len(k)]])
            path.append(seen[dice.choice(best)])
        done.append(path)
    return done


@pytest.mark.parametrize("k", [(1,), (1, 5, 40)])
def test_it_is_the_literal_algorithm(k: tuple[int, ...]) -> None:
    size: dict[str, Any] = {"steps": 4, "number": 6, "k": k, "candidates": 40, "seed": 3}
    ours = sample_trajectories(SPACE, **size)
    for planned, path in zip(ours, literal(SPACE, **size), strict=True):
        assert planned.rho == pytest.approx(np.array(path))


def distance(planned: Planned, step: int) -> float:
    return kl(SPACE.target, planned.rho[step])


def test_trajectories_begin_at_the_start_and_lead_to_the_target() -> None:
    made = sample_trajectories(SPACE, steps=20, number=8, k=(1, 100), candidates=2_000, seed=0)
    assert [one.name for one in made[:4]] == ["k1-000", "k100-000", "k1-001", "k100-001"]
    for one in made:
        assert one.rho.shape == (21, 4)
        assert one.rho[0] == pytest.approx([0.75, 0.25, 0, 0]) and one.rho.sum(1) == pytest.approx(np.ones(21))
    assert all(distance(one, 20) < distance(one, 1) for one in made if one.k == 1)
    spread = {k: np.mean([distance(one, 20) for one in made if one.k == k]) for k in (1, 100)}
    assert spread[1] < spread[100], "a larger K strays further"


def test_equal_arguments_give_equal_trajectories_and_more_of_them_the_same_first_ones() -> None:
    few, again, more = (sample_trajectories(SPACE, steps=5, number=n, k=(1, 9), candidates=50) for n in (4, 4, 8))
    for first, second, third in zip(few, again, more, strict=False):
        assert (first.rho == second.rho).all() and (first.rho == third.rho).all()
    other = sample_trajectories(SPACE, steps=5, number=4, k=(1, 9), candidates=50, seed=1)
    assert all((first.rho[1:] != second.rho[1:]).any() for first, second in zip(few, other, strict=True))


def test_diversity_keeps_trajectories_apart() -> None:
    def apart(gamma: float) -> float:
        made = sample_trajectories(
            SPACE, steps=6, number=12, k=(1,), candidates=500, heuristic=Heuristic(gamma=gamma), seed=2
        )
        return float(np.std([one.rho[1:] for one in made], axis=0).mean())

    assert apart(0.5) > apart(0.0)


def test_a_trajectory_ends_when_the_target_data_are_used_up() -> None:
    made = sample_trajectories(SPACE, steps=50, number=6, k=(1, 20), candidates=200, tokens_per_step=0.25)
    lengths = {len(one.rho) - 1 for one in made}
    assert max(lengths) < 50
    for one in made:
        used = 0.25 * np.cumsum(one.rho[1:, 2:], axis=0)
        assert (used[-1] >= 1).all() and not (used[-2] >= 1).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"number": 0},
        {"k": (0,)},
        {"k": (51,)},
        {"k": ()},
        {"k": (1, 1)},
        {"candidates": 0, "k": (1,)},
        {"seed": -1},
        {"tokens_per_step": 0.0},
        {"tokens_per_step": -1.0},
        {"tokens_per_step": float("nan")},
        {"concentration": 0.0},
        {"concentration": float("nan")},
        {"heuristic": Heuristic(alpha=float("nan"))},
    ],
)
def test_what_cannot_be_sampled_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        sample_trajectories(SPACE, **{"steps": 2, "number": 2, "k": (1,), "candidates": 50, **wrong})
    with pytest.raises(SpecError, match="needs the size of code"):
        sample_trajectories(Domains(sources=["a"], targets=["code"]), k=(1,), tokens_per_step=1.0)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("names",), ["books", "web", "code", "maths"], "names has books, web"),
        (("domains", "targets"), ["maths", "code"], "the domains are"),
        (("trajectories",), [], "trajectories"),
        (("trajectories",), None, "trajectories"),
        (("trajectories", 0, "name"), None, r"trajectories.0.name"),
        (("trajectories", 0, "name"), "", r"trajectories.0.name"),
        (("trajectories", 0, "name"), "k9-000", "k9-000 is there twice"),
        (("trajectories", 0, "k"), 1.7, r"trajectories.0.k"),
        (("trajectories", 0, "steps"), 3, "steps"),
        (("trajectories", 0, "rho"), [[1, 0, 0, 0]], r"trajectories.0.rho"),
        (("trajectories", 0, "rho"), [[1, 0, 0, 0], [1, 0, 0]], "k1-000 has 3 shares at step 1"),
        (("trajectories", 0, "rho"), [["1", 0, 0, 0], [1, 0, 0, 0]], r"trajectories.0.rho.0.0"),
        (("trajectories", 0, "rho"), [[1, 0, 0, 0], [0.5, 0.5, 0.5, 0]], "k1-000 has shares that are negative, or do not sum to 1"),
        (("trajectories", 0, "rho"), [[1, 0, 0, 0], [float("nan"), 0, 0, 1]], r"trajectories.0.rho.1.0"),
    ],
)  # fmt: skip
def test_a_plan_that_was_edited_is_refused_by_name(tmp_path: Path, where: Any, value: Any, words: str) -> None:
    made = sample_trajectories(SPACE, steps=2, number=2, k=(1, 9), candidates=50)
    plan = json.loads(plan_json(SPACE, made))
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    space, planned = read_plans(path)
    assert space == SPACE and [(one.name, one.k) for one in planned] == [("k1-000", 1), ("k9-000", 9)]
    changed = plan
    for key in where[:-1]:
        changed = changed[key]
    changed[where[-1]] = value
    path.write_text(json.dumps(plan))
    with pytest.raises(DataError, match=words):
        read_plans(path)


def test_the_command_writes_them(tmp_path: Path) -> None:
    (tmp_path / "domains.json").write_text(SPACE.model_dump_json())
    out = tmp_path / "plan.json"
    command = ["mix", "sample", str(tmp_path / "domains.json"), "-o", str(out), "--steps", "3", "--number", "4"]
    assert cli([*command, "--k", "1", "--k", "10", "--candidates", "100"]) in (0, None)
    plan = json.loads(out.read_text())
    assert plan["names"] == SPACE.names and [one["k"] for one in plan["trajectories"]] == [1, 10, 1, 10]
    assert np.array(plan["trajectories"][0]["rho"]).shape == (4, 4)
    (tmp_path / "domains.json").write_text('{"sources": ["a"], "targets": ["a"]}')
    assert cli(command) == 4
