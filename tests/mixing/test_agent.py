"""The agent: that it imitates, that it finds a known optimum from gains, that it is deterministic, and its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import vector, write

from harness import Feed
from harness.cli import run as cli
from harness.core.errors import DataError, EngineError, SpecError
from harness.mixing.agent import Agent, Settings
from harness.mixing.episodes import Episodes, episodes
from harness.reward_models.reference import fit_reference

SMALL = Settings(width=16, heads=2, steps=8, warm_up_iterations=150, iterations=300, rate=5e-3, discount=0.0)


def world(
    number: int = 40, *, steps: int = 3, domains: tuple[str, ...] = ("a", "b", "c"), good: int = 1, flat: bool = False, name: str = "k100"
) -> list[Any]:  # fmt: skip
    """Random mixtures; a step gains by the share of one domain and nothing else, so all of it is the best there is."""
    made: list[Any] = []
    rng = np.random.default_rng(7)
    for index in range(number):
        mine: list[Any] = []
        raw = -5.0
        for step in range(steps + 1):
            rho = rng.dirichlet(np.ones(len(domains)))
            raw += rng.normal() * 0.1 if flat else rho[good] - 1 / len(domains) if step else 0.0
            mine.append(
                vector({"code": raw}, step=step, trajectory=f"{name}-{index:03}", history=mine, mixture=dict(zip(domains, rho, strict=True)))
            )  # fmt: skip
        made += mine
    return made


def data_of(vectors: list[Any]) -> Episodes:
    return episodes(Feed(vectors), fit_reference(vectors))


@pytest.mark.parametrize("good", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_cql_finds_the_mixture_that_gains_where_the_answer_is_known(good: int) -> None:
    data = data_of(world(good=good))
    warm = Agent(data.domains, data.components, settings=SMALL).warm_up(data)
    before = warm.next(data.states[0, :1])
    after = warm.improve(data).next(data.states[0, :1])
    assert before[good] < 0.5, "imitation of random mixtures has no reason to prefer one"
    assert after[good] > 0.8
    shuffled = data_of(world(flat=True))
    lost = Agent(data.domains, data.components, settings=SMALL).warm_up(shuffled).improve(shuffled)
    assert lost.next(data.states[0, :1])[good] < after[good], "gains that say nothing give no advantage"


@pytest.mark.slow
def test_values_are_the_gains_still_to_come() -> None:
    import torch

    made: list[Any] = []
    for index in range(4):
        mine: list[Any] = []
        for step in range(4):
            mine.append(vector({"code": step / 3}, step=step, trajectory=f"r{index}", history=mine, mixture={"a": 1, "b": 1}))  # fmt: skip
        made += mine
    data = data_of(made)
    settings = SMALL.model_copy(update={"discount": 0.5, "conservatism": 0.0, "target_rate": 0.2})
    agent = Agent(data.domains, data.components, settings=settings).improve(data)
    states, actions = (torch.tensor(one, dtype=torch.float32) for one in (data.observations, data.actions))
    with torch.no_grad():
        values = agent.critic(states, actions).numpy()
    assert values.mean(0) == pytest.approx([1.75, 1.5, 1.0], abs=0.1), "equal gains count 1 each, the last ends the run"


def test_a_warm_up_imitates_the_trajectories_of_k_1() -> None:
    first = [one.model_copy(update={"mixture": world(1, good=0)[0].mixture}) for one in world(4, name="k1")]
    data = data_of([*first, *world(8)])
    agent = Agent(data.domains, data.components, settings=SMALL).warm_up(data)
    assert agent.next(data.states[0, :2]) == pytest.approx(data.actions[0, 1], abs=0.05)
    assert agent.card.history == ["warm-up on 4 trajectories of K = 1"]


def test_equal_seeds_give_equal_agents_and_the_folder_the_same_mixture(tmp_path: Path) -> None:
    data = data_of(world(6))
    quick = SMALL.model_copy(update={"warm_up_iterations": 5, "iterations": 5})
    one, two = (Agent(data.domains, data.components, settings=quick).warm_up(data).improve(data) for _ in range(2))
    other = Agent(data.domains, data.components, settings=quick.model_copy(update={"seed": 1})).warm_up(data)
    history = data.states[0, :3]
    assert (one.next(history) == two.next(history)).all() and (one.next(history) != other.next(history)).any()
    one.save(tmp_path / "agent")
    again = Agent.load(tmp_path / "agent")
    assert (again.next(history) == one.next(history)).all() and again.card == one.card
    assert one.next(history).sum() == pytest.approx(1) and len(one.next(np.tile(history, (9, 1)))) == 3


def test_the_actor_that_is_kept_is_a_moving_mean_of_the_one_that_learns() -> None:
    data = data_of(world(6))

    def actor(iterations: int, rate: float) -> Any:
        settings = SMALL.model_copy(update={"iterations": iterations, "average_rate": rate})
        learned = Agent(data.domains, data.components, settings=settings).improve(data).actor
        return np.concatenate([one.detach().numpy().ravel() for one in learned.parameters()])

    begun, one, two = actor(0, 1.0), actor(1, 1.0), actor(2, 1.0)
    assert (begun != one).any() and (one != two).any(), "it does learn"
    assert actor(1, 0.25) == pytest.approx(0.75 * begun + 0.25 * one, abs=1e-6)
    assert actor(2, 0.25) == pytest.approx(0.75 * (0.75 * begun + 0.25 * one) + 0.25 * two, abs=1e-6)


def test_the_papers_size_has_2_1_million_parameters() -> None:
    agent = Agent([f"d{i}" for i in range(52)], ["general", "math"])
    assert sum(one.numel() for one in agent.actor.parameters()) == pytest.approx(2.1e6, rel=0.05)


def test_the_past_decides_and_the_future_does_not() -> None:
    import torch

    agent = Agent(["a", "b"], ["code"], settings=SMALL)
    states = torch.randn(1, 5, 3)
    changed = states.clone()
    changed[0, 3:] += 1
    one, two = agent.actor(states), agent.actor(changed)
    assert torch.allclose(one[0, :3], two[0, :3], atol=1e-6) and not torch.allclose(one[0, 3:], two[0, 3:], atol=1e-3)


def test_what_an_agent_cannot_take_is_refused(tmp_path: Path) -> None:
    agent = Agent(["a", "b"], ["code"], settings=SMALL)
    with pytest.raises(DataError, match="NaN"):
        agent.next(np.array([[0.5, 0.5, np.nan]]))
    for shape in ((0, 3), (2, 4), (3,)):
        with pytest.raises(DataError, match=r"takes \[T, 3\]"):
            agent.next(np.zeros(shape))
    with pytest.raises(DataError, match="the episodes have the domains a, b, c"):
        agent.warm_up(data_of(world(2)))
    with pytest.raises(SpecError, match="does not divide"):
        Agent(["a"], ["code"], settings=Settings(width=5, heads=2))
    with pytest.raises(DataError, match="holds no agent"):
        Agent.load(tmp_path)
    agent.save(tmp_path)
    card = json.loads((tmp_path / "agent.json").read_text())
    (tmp_path / "agent.json").write_text(json.dumps({**card, "schema": "harness.mixing_agent/2"}))
    with pytest.raises(DataError, match=r"schema is 'harness\.mixing_agent/2'"):
        Agent.load(tmp_path)


def damaged(folder: Path, name: str, change: Any) -> None:
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("agent.safetensors", lambda content: content[:-8], "is not what agent.json was written with"),
        ("agent.safetensors", lambda content: content[:-1] + bytes([content[-1] ^ 1]), "is not what agent.json was written with"),
        ("agent.safetensors", lambda content: b"", "is not what agent.json was written with"),
        ("agent.json", lambda content: content.replace(b'"a"', b'"b"'), "holds no agent|a domain is there twice"),
        ("agent.json", lambda content: content[:-40], "holds no agent"),
        ("agent.json", lambda content: b"[]", "valid dictionary"),
        ("agent.json", lambda content: b"\xff\xfe", "holds no agent"),
        ("agent.json", lambda content: content.replace(b'"width": 16', b'"width": 32'), "size mismatch"),
        ("agent.json", lambda content: content.replace(b'"domains"', b'"domain"'), "domain"),
    ],
)  # fmt: skip
def test_a_folder_that_was_damaged_or_edited_is_refused_by_name(
    tmp_path: Path, name: str, change: Any, words: str
) -> None:
    Agent(["a", "b"], ["code"], settings=SMALL).save(tmp_path)
    Agent.load(tmp_path)
    damaged(tmp_path, name, change)
    with pytest.raises((DataError, SpecError), match=words):
        Agent.load(tmp_path)


def test_weights_without_a_digest_that_no_safetensors_reader_takes_are_refused(tmp_path: Path) -> None:
    Agent(["a", "b"], ["code"], settings=SMALL).save(tmp_path)
    card = json.loads((tmp_path / "agent.json").read_text())
    (tmp_path / "agent.json").write_text(json.dumps({**card, "weights": None}))
    Agent.load(tmp_path)
    for content in (b"abc", (tmp_path / "agent.safetensors").read_bytes()[:-50]):
        (tmp_path / "agent.safetensors").write_bytes(content)
        with pytest.raises(DataError, match="holds no agent: "):
            Agent.load(tmp_path)


def test_an_agent_of_before_digests_and_moving_means_loads_and_one_with_nan_does_not(tmp_path: Path) -> None:
    import torch

    agent = Agent(["a", "b"], ["code"], settings=SMALL)
    agent.save(tmp_path)
    card = json.loads((tmp_path / "agent.json").read_text())
    del card["weights"], card["settings"]["average_rate"]
    (tmp_path / "agent.json").write_text(json.dumps(card))
    old = Agent.load(tmp_path)
    assert (old.next(np.zeros((1, 3))) == agent.next(np.zeros((1, 3)))).all() and old.card.weights is None
    with torch.no_grad():
        next(iter(agent.actor.parameters())).fill_(torch.nan)
    for save in (agent.save, lambda folder: (folder / "agent.json").write_text(json.dumps(card))):
        save(tmp_path)
        with pytest.raises(DataError, match=r"agent.safetensors has weights that are NaN"):
            Agent.load(tmp_path)


def test_learning_that_diverges_and_numbers_beyond_float32_are_no_mixture() -> None:
    data = data_of(world(4))
    wild = SMALL.model_copy(update={"rate": 1e30, "warm_up_iterations": 5})
    with pytest.raises(EngineError, match="learning diverged"):
        Agent(data.domains, data.components, settings=wild).warm_up(data)
    with pytest.raises(DataError, match="beyond 1e"):
        Agent(data.domains, data.components, settings=SMALL).next(np.full((1, 4), 1e300))
    with pytest.raises(SpecError, match="a domain is there twice"):
        Agent(["a", "a"], ["code"])


def test_the_commands_fit_and_say_the_next_mixture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "proxies").mkdir()
    write(world(6), tmp_path / "proxies" / "rewards.jsonl")
    fit = ["mix", "fit", str(tmp_path / "proxies"), "--warm-up", "5", "--iterations", "5", "--width", "16", "-o"]
    assert cli([*fit, str(tmp_path / "agent")]) == 0 and cli([*fit, str(tmp_path / "twin")]) == 0
    assert (tmp_path / "agent/agent.safetensors").read_bytes() == (tmp_path / "twin/agent.safetensors").read_bytes()
    capsys.readouterr()
    assert cli([*fit, str(tmp_path / "x"), "--seed", "-1"]) == 3 and "seed" in capsys.readouterr().err
    turned = world(1, domains=("c", "a", "b"), good=2)
    path = write(turned[:1], tmp_path / "target.jsonl")
    assert cli(["mix", "next", str(path), "--agent", str(tmp_path / "agent")]) == 0, "a first step has an action"
    write(turned[:3], path)
    assert cli(["mix", "next", str(path), "--agent", str(tmp_path / "agent"), "--trajectory", "k100-000"]) == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (first["after_step"], second["after_step"]) == (0, 2) and list(second["mixture"]) == ["a", "b", "c"]
    agent = Agent.load(tmp_path / "agent")
    mine = Feed(turned[:3]).matrix(agent.card.reference)[:, [1, 2, 0, 3]]
    assert list(second["mixture"].values()) == pytest.approx(agent.next(mine)), "columns go by name"
    write([vector({"prose": -1.0}, mixture={"a": 1.0})], path)
    assert cli(["mix", "next", str(path), "--agent", str(tmp_path / "agent")]) == 4
    assert "the agent was fitted on code" in capsys.readouterr().err
    write([], path)
    assert cli(["mix", "next", str(path), "--agent", str(tmp_path / "agent")]) == 4
