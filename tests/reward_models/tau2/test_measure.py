"""A measurement of simulations: what enters the mean, what is only counted, and what is said of it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.chat import Usage
from harness.core.measurement import Measurement
from harness.core.tau2.fault import Fault
from harness.core.tau2.task import RewardType
from harness.reward_models.repeat import interval_repeat
from harness.reward_models.statistics import clustered_mean
from harness.reward_models.tau2.measure import measure_reward
from harness.reward_models.tau2.result import Conversation, Key, Result
from harness.reward_models.tau2.reward import NEEDS_JUDGE, NOTHING, Verdict, unjudged


def finished(task: str, trial: int, reward: float | None, whose: Any = None, **more: Any) -> Result:
    components: dict[RewardType, float | None] = {**NOTHING, "DB": reward}
    verdict = unjudged("x") if reward is None else Verdict(reward=reward, components=components, basis=("DB",))
    whose = whose or ("agent" if reward == 0 else None)
    fault = whose and Fault(cause=whose, rule="r", words="w")
    return Result(
        **{
            "key": Key(task, trial),
            "verdict": verdict,
            "fault": fault,
            "conversation": Conversation(turns=10, tool_errors=2),
            **more,
        }
    )


def measure(*items: Result, tasks: str = "ab", trials: int = 2) -> Measurement:
    return measure_reward(items, task_ids=list(tasks), trials=trials, source="here", task_revision="sha256:0")


WHOLE = (finished("a", 0, 1.0), finished("a", 1, 1.0), finished("b", 0, 1.0), finished("b", 1, 0.0))


def test_a_whole_measurement() -> None:
    made = measure(*WHOLE)
    assert (made.metric, made.status, made.raw, made.n_items, made.n_scored) == ("reward", "ok", 0.75, 4, 4)
    assert made.stderr == clustered_mean([1, 1, 1, 0], "aabb").stderr and made.reason is None
    nothing = {"mean": None, "stderr": None, "n_applicable": 0}
    assert made.detail == {
        "breakdown": {
            "DB": {"mean": 0.75, "stderr": made.stderr, "n_applicable": 4},
            **dict.fromkeys(("ENV_ASSERTION", "ACTION", "COMMUNICATE", "NL_ASSERTION"), nothing),
        },
        "pass_hat": {"1": 0.75, "2": 0.5},
        "pass_hat_stderr": {"1": 0.25, "2": 0.5},
        "stderr_repeat": 0.25,
        "interval_repeat": list(interval_repeat([[1, 1], [1, 0]]) or ()),
        "faults": {"agent": 1, "user": 0, "judge": 0, "infrastructure": 0},
        "reward_without_user_faults": 0.75,
        "stderr_without_user_faults": made.stderr,
        "n_without_user_faults": 4,
        "turns": 10.0,
        "tool_errors": 2.0,
        "tokens": {"agent": 0, "user": 0, "judge": 0, "reviewer": 0},
        "cost": {},
        "source": "here",
        "task_revision": "sha256:0",
        "trials": 2,
        "n_tasks": 2,
    }


@pytest.mark.parametrize("whose", ["infrastructure", "judge"])
def test_a_failure_that_is_not_the_agents_is_counted_and_not_averaged_in(whose: str) -> None:
    made = measure(*WHOLE[:3], finished("b", 1, 0.0, whose))
    assert (made.status, made.raw, made.n_scored, made.n_items) == ("partial", 1.0, 3, 4)
    assert made.reason == f"of 4 simulations 1 failed by {whose} (w)"
    assert made.detail["pass_hat"] == {"1": 1.0, "2": None}
    assert made.detail["breakdown"]["DB"]["n_applicable"] == 3  # type: ignore[index,call-overload]


def test_a_users_fault_is_averaged_in_and_shown_apart() -> None:
    made = measure(*WHOLE[:3], finished("b", 1, 0.0, "user"))
    assert (made.status, made.raw) == ("ok", 0.75)
    assert made.detail["reward_without_user_faults"] == 1.0 and made.detail["n_without_user_faults"] == 3
    assert made.detail["faults"] == {"agent": 0, "user": 1, "judge": 0, "infrastructure": 0}


def test_tokens_and_cost_are_summed_by_who_spent_them() -> None:
    spent = {
        "agent": Usage(prompt_tokens=90, completion_tokens=10, cost=0.5),
        "user": Usage(prompt_tokens=10),
    }
    failed_one = finished(
        "b", 1, 0.0, "infrastructure", agent=Usage(completion_tokens=7), conversation=Conversation(turns=90)
    )
    made = measure(finished("a", 0, 1.0, **spent), finished("a", 1, 1.0, **spent), WHOLE[2], failed_one)
    assert made.detail["tokens"] == {"agent": 207, "user": 20, "judge": 0, "reviewer": 0} and made.detail["cost"] == {
        "agent": 1.0
    }
    assert made.detail["turns"] == 10.0


def test_what_is_missing_is_said() -> None:
    made = measure(WHOLE[0])
    assert (made.status, made.raw, made.n_scored, made.n_items) == ("partial", 1.0, 1, 4)
    assert made.reason == "of 4 simulations 3 not run" and made.detail["pass_hat"] == {"1": None, "2": None}
    waiting = Result(key=Key("b", 1), verdict=unjudged(NEEDS_JUDGE))
    other = finished("b", 0, None)
    made = measure(*WHOLE[:2], waiting, other)
    assert made.reason == "of 4 simulations 1 without a judge for NL_ASSERTION, 1 could not be judged"


def test_nothing_scored_is_a_failure_with_its_counts_and_never_a_zero() -> None:
    made = measure(*(finished(t, n, 0.0, "infrastructure") for t, n in itertools.product("ab", range(2))))
    assert (made.status, made.raw, made.n_items) == ("failed", None, 4)
    assert made.reason == "of 4 simulations 4 failed by infrastructure (w)"
    assert made.detail["faults"]["infrastructure"] == 4  # type: ignore[index,call-overload]
    assert measure().reason == "of 4 simulations 4 not run"


@pytest.mark.parametrize(
    "items", [(finished("c", 0, 1.0),), (finished("a", 2, 1.0),), (finished("a", 0, 1.0), finished("a", 0, 0.0))]
)
def test_a_simulation_that_was_not_planned_is_refused(items: tuple[Result, ...]) -> None:
    with pytest.raises(ValueError, match="not planned, or there twice"):
        measure(*items)


CASES = st.lists(
    st.tuples(st.sampled_from([None, 0.0, 1.0]), st.sampled_from([None, "agent", "user", "judge", "infrastructure"])),
    max_size=9,
)


@given(cases=CASES, data=st.data())
def test_order_and_failures_never_move_the_mean(cases: list[tuple[float | None, Any]], data: st.DataObject) -> None:
    places = itertools.product("abc", range(3))
    items = [finished(task, trial, *case) for (task, trial), case in zip(places, cases, strict=False)]
    made = measure(*items, tasks="abc", trials=3)
    assert measure(*data.draw(st.permutations(items)), tasks="abc", trials=3) == made
    assert Measurement.model_validate_json(made.model_dump_json()) == made
    good = [i.verdict.reward for i in items if i.counted.reward is not None]
    assert made.n_scored == len(good)
    assert made.raw == (sum(good) / len(good) if good else None)  # type: ignore[arg-type]


def test_a_conversation_counts_the_calls_that_a_tool_refused_and_no_other_error() -> None:
    told = [
        {"role": "assistant", "content": "hello", "error": True},
        {"role": "tool", "content": "no such user", "error": True, "requestor": "assistant"},
        {"role": "tool", "content": "done", "error": False, "requestor": "user"},
        {"role": "tool", "content": "done", "requestor": "user"},
    ]
    assert Conversation.of(told) == Conversation(turns=4, tool_errors=1)
