"""banking_knowledge without upstream's package: reference plays, what is no reference play, retrieval, and the files of a data folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tau2_online import plan, run_plan
from tau2_samples import needs_port

from harness.components.tau2.component import Tau2Component
from harness.components.tau2.config import Tau2Config
from harness.core.defaults import Defaults
from harness.core.errors import SpecError
from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.task import Task
from harness.engines.scripted.chat import ScriptedChat
from harness.tasks.tau2.banking import WAYS
from harness.tasks.tau2.domain import Domain, kinds, schemas
from harness.tasks.tau2.sources import open_domain
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
ANSWERS = "d2c695a51c56454b31a336e832fd1aeadc6ad5d718497d82cc4db5a0ad7008e0"
"""Digest of upstream's answers to all reference actions but one tool's, whose records the package words otherwise."""
WORDED = "get_bank_account_transactions_9173"


@pytest.fixture(scope="module")
def bank() -> Domain:
    return open_domain("banking_knowledge", source="inspect_evals")


def calls_of(task: Task) -> list[ToolCall]:
    criteria = task.evaluation_criteria
    actions = () if criteria is None else criteria.actions or ()
    return [
        ToolCall(id=f"c{number}", name=one.name, arguments=one.arguments, requestor=one.requestor)
        for number, one in enumerate(actions)
    ]


def play(bank: Domain, task: Task, calls: Sequence[ToolCall]) -> tuple[list[Message], list[list[Any]]]:
    """The conversation, and the answers."""
    environment = bank.environment(task=task)
    environment.initialize(task.initial_state)
    messages, answers = [Message(role="user", content="Hello.")], []
    for call in calls:
        answer = environment.call(call)
        answers.append([answer.content, answer.error])
        told = Message(role="tool", id=call.id, content=answer.content, error=answer.error, requestor=call.requestor)
        messages += [Message(role=call.requestor, tool_calls=(call,)), told]
    return messages, answers


def task_with(bank: Domain, tool: str) -> tuple[Task, list[ToolCall], int]:
    """The first task whose reference calls a discoverable tool, its calls, and where that one is."""
    for task in bank.tasks():
        calls = calls_of(task)
        for place, call in enumerate(calls):
            if tool == call.arguments.get("agent_tool_name") and call.name.startswith("call_"):
                return task, calls, place
    raise AssertionError(tool)


def test_reference_plays_match_and_every_answer_is_upstreams(bank: Domain) -> None:
    digest, n = hashlib.sha256(), 0
    for task in bank.tasks():
        calls = calls_of(task)
        messages, answers = play(bank, task, calls)
        assert bank.end_state(task, messages).database_matches is True, task.id
        for call, answer in zip(calls, answers, strict=True):
            if call.arguments.get("agent_tool_name") != WORDED:
                digest.update(json.dumps(answer).encode())
                n += 1
    assert (n, digest.hexdigest()) == (854, ANSWERS)


def test_an_action_that_is_left_out_or_done_otherwise_is_no_match(bank: Domain) -> None:
    task, calls, place = task_with(bank, "apply_savings_account_credit_6831")
    inner = json.loads(calls[place].arguments["arguments"])
    number = next(name for name, value in inner.items() if isinstance(value, int | float))
    other = {**calls[place].arguments, "arguments": json.dumps({**inner, number: inner[number] + 1})}
    changed = [*calls[:place], ToolCall(id="x", name=calls[place].name, arguments=other), *calls[place + 1 :]]
    for calls_made in (calls[:place] + calls[place + 1 :], changed):
        messages, _ = play(bank, task, calls_made)
        assert bank.end_state(task, messages).database_matches is False
        assert list(bank.differing(task, messages))


def test_verdicts_of_perturbed_plays_stay_as_they_were_compared_with_upstreams(bank: Domain) -> None:
    """Of every third task: how many still match the reference. docs/tau2.md says what was compared, where upstream's package was."""
    found = {"doubled": 0, "reversed": 0, "last left out": 0}
    tasks = [task for task in bank.tasks() if calls_of(task)][::3]
    for task in tasks:
        calls = calls_of(task)
        for name, made in (("doubled", [*calls, *calls]), ("reversed", calls[::-1]), ("last left out", calls[:-1])):
            found[name] += bank.end_state(task, play(bank, task, made)[0]).database_matches is True
    assert (len(tasks), found) == (33, {"doubled": 28, "reversed": 7, "last left out": 7})


def test_it_is_a_component_of_kind_tau2() -> None:
    keys = {
        "name": "bank",
        "kind": "tau2",
        "domain": "banking_knowledge",
        "num_tasks": 2,
        "user": {"model": "checkpoint"},
    }
    component = Tau2Component.load(Tau2Config.model_validate(keys), Defaults())
    assert component.n_items == 2 and component.calls_tools


def test_a_number_is_the_same_however_it_is_written(bank: Domain) -> None:
    task, calls, place = task_with(bank, "apply_savings_account_credit_6831")
    inner = json.loads(calls[place].arguments["arguments"])
    amount = next(name for name, value in inner.items() if isinstance(value, int | float))
    spelled = {**inner, amount: float(inner[amount])}
    arguments = {**calls[place].arguments, "arguments": json.dumps(spelled)}
    made = [*calls[:place], ToolCall(id="x", name=calls[place].name, arguments=arguments), *calls[place + 1 :]]
    assert bank.end_state(task, play(bank, task, made)[0]).database_matches is True


def test_looking_more_than_the_reference_does_no_harm_and_less_does(bank: Domain) -> None:
    name = "get_all_user_accounts_by_user_id_3847"
    task, calls, place = task_with(bank, name)
    assert bank.end_state(task, play(bank, task, calls[:place] + calls[place + 1 :])[0]).database_matches is False
    other = next(
        one for one in bank.tasks() if not any(call.arguments.get("agent_tool_name") == name for call in calls_of(one))
    )
    more = [
        ToolCall(id="a", name="unlock_discoverable_agent_tool", arguments={"agent_tool_name": name}),
        ToolCall(id="b", name="call_discoverable_agent_tool", arguments={"agent_tool_name": name, "arguments": '{"user_id": "1"}'}),
        ToolCall(id="c", name="grep", arguments={"pattern": "dispute"}),
    ]  # fmt: skip
    assert bank.end_state(other, play(bank, other, [*more, *calls_of(other)])[0]).database_matches is True


def test_a_tool_that_was_not_unlocked_or_given_is_refused(bank: Domain) -> None:
    task = bank.tasks()[0]
    calls = [
        ToolCall(id="a", name="call_discoverable_agent_tool", arguments={"agent_tool_name": WORDED}),
        ToolCall(id="b", name="call_discoverable_agent_tool", arguments={"agent_tool_name": "nope"}),
        ToolCall(
            id="c", name="call_discoverable_user_tool", requestor="user",
            arguments={"discoverable_tool_name": "get_referral_link", "arguments": '{"user_id": "1", "card_name": "x"}'},
        ),
        ToolCall(id="d", name=WORDED, arguments={"account_id": "1"}),
    ]  # fmt: skip
    _, answers = play(bank, task, calls)
    said = [str(content) for content, _ in answers]
    assert "has not been unlocked" in said[0] and "Unknown agent tool 'nope'" in said[1]
    assert "has not been given to you" in said[2]
    assert said[3] == f"Error: Tool '{WORDED}' not found.", "what has to be discovered is no tool of its own"


def test_simulations_share_nothing(bank: Domain) -> None:
    task, calls, _ = task_with(bank, "apply_savings_account_credit_6831")
    first, second = play(bank, task, calls), play(bank, task, calls)
    assert first[1] == second[1]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_retrieve_has_its_prompt_and_tools(way: str) -> None:
    bank = open_domain("banking_knowledge", source="inspect_evals", retrieval=way)
    policy = bank.policy()
    assert "{{" not in policy and "discoverable" in policy
    assert ("grep" in bank.tools) == (way == "grep_only") and (len(policy) > 500_000) == (way == "full_kb")
    assert bank.source.endswith(f", retrieval {way}")
    assert len(schemas(bank.tools)) == len(bank.tools)


def test_grep_ranks_by_matches_and_takes_what_is_no_pattern_as_text(bank: Domain) -> None:
    def search(pattern: str) -> str:
        return bank.environment().call(ToolCall(id="q", name="grep", arguments={"pattern": pattern})).content

    scores = [float(line.split()[1]) for line in search("dispute").splitlines() if line.startswith("   Score:")]
    assert len(scores) == 10 and scores == sorted(scores, reverse=True)
    assert search("no such words at all") == "No matches found for pattern: no such words at all"
    assert search("(unclosed").startswith(("No matches", "1. "))
    assert search(" ") == "No matches found for pattern:  "


def test_upstreams_layout_of_a_data_folder_is_read(bank: Domain, tmp_path: Path) -> None:
    folder = tmp_path / "banking_knowledge"
    for name in ("tasks", "documents", "prompts/components"):
        (folder / name).mkdir(parents=True)
    for number, task in enumerate(bank.tasks()[:2]):
        (folder / "tasks" / f"task_{number}.json").write_text(json.dumps(task.written))
    (folder / "documents" / "a.json").write_text(json.dumps({"id": "a", "title": "Fees", "content": "No fee."}))
    (folder / "tasks.json").write_text("[]")
    given = open_domain("banking_knowledge", source="inspect_evals", data=tmp_path, retrieval="full_kb")
    assert [task.id for task in given.tasks("base")] == [task.id for task in bank.tasks()[:2]]
    assert "## Fees\n\nNo fee." in given.policy() and len(given.policy()) < 20_000
    by_file = open_domain("banking_knowledge", source="inspect_evals", tasks_file=folder / "tasks")
    assert len(by_file.tasks()) == 2


def test_kinds_of_tools_are_upstreams_and_solo_is_refused(bank: Domain) -> None:
    found = kinds(bank)
    assert found["unlock_discoverable_agent_tool"] == found["give_discoverable_user_tool"] == "generic"
    assert found["call_discoverable_agent_tool"] == "write" and found["get_current_time"] == "read"
    with pytest.raises(Exception, match="no solo mode"):
        bank.policy(solo=True)
    with pytest.raises(SpecError, match="none of grep_only, full_kb, no_knowledge"):
        open_domain("banking_knowledge", source="inspect_evals", retrieval="qwen")


def test_it_is_simulated_like_any_domain(tmp_path: Path) -> None:
    made = plan("banking_knowledge", source="inspect_evals", num_tasks=4)
    model = ScriptedChat(ReferencePlay(made.tasks))
    assert [outcome.verdict.reward for outcome in run_plan(made, tmp_path / "run", model).results] == [1.0] * 4


def test_a_pattern_that_never_ends_is_an_error_and_stops_nobody() -> None:
    from harness.tasks.tau2.grep import count

    for pattern in (r"(\w+\s?)+\$\$", r"([\s\S]*)*z{9}", r"(a?){30}\1a{30}b"):
        with pytest.raises(ValueError, match="takes too long"):
            count(pattern, ["a" * 30 + " word" * 300], cpu_s=1)


def test_a_search_in_a_process_of_its_own_finds_the_same(bank: Domain) -> None:
    from harness.tasks.tau2.grep import REPEATS, count

    texts = ["Card cards\nCARD?", "a card.", "no", "Ünïcode card \u2028 card"]
    for pattern in (
        r"cards?",
        r"c.*d",
        r"card\?",
        r"(c)a(r)d",
        r"[",
        "(",
        r"card",
        r"\bcard\b.*",
        r"(?i)CARD",
        r"c{1,2}ard",
    ):
        assert count(pattern, texts) == count(pattern, texts, bounded=False), pattern
    assert REPEATS.search(r"a\\*") and not REPEATS.search(r"what\? a\*") and not REPEATS.search("plain words.")


def test_arguments_that_are_no_object_are_answered_in_upstreams_words(bank: Domain) -> None:
    calls = [
        ToolCall(id="a", name="unlock_discoverable_agent_tool", arguments={"agent_tool_name": WORDED}),
        ToolCall(id="b", name="call_discoverable_agent_tool", arguments={"agent_tool_name": WORDED, "arguments": "[]"}),
    ]
    _, answers = play(bank, bank.tasks()[0], calls)
    place = f"tau2.domains.banking_knowledge.tools.KnowledgeTools.{WORDED}()"
    assert answers[1][0] == f"Error: Invalid arguments: {place} argument after ** must be a mapping, not list"
