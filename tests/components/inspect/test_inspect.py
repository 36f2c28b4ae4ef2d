"""kind: inspect: values are Inspect's own, failures have a cause and are never scored, and nothing is asked twice."""

from __future__ import annotations

import logging
import math
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inspect_tasks import (
    asked,
    by_hash,
    by_inspect,
    component,
    measured,
    on,
    rows,
    shelves,
    text_of,
    write_arc,
    write_humaneval,
    write_words,
)
from served import ServedSubject

from harness.core.chat import ChatAnswer, ChatRequest, Usage
from harness.core.endpoint import Endpoint
from harness.core.errors import EngineError, HarnessError, SpecError
from harness.engines.scripted.chat import calling
from harness.engines.scripted.trouble import Trouble
from harness.reward_models.items import Items, scored_items
from harness.tasks.suites.sandbox import protection

needs_sandbox = pytest.mark.skipif(protection().refusal is not None, reason=str(protection().refusal))


@needs_sandbox
@pytest.mark.parametrize("which", ["arc", "humaneval", "words", "tools"])
def test_the_value_is_that_of_inspects_own_eval(which: str, tmp_path: Path) -> None:
    write_words(tmp_path)
    keys = {
        "arc": lambda: write_arc(tmp_path, 40),
        "humaneval": lambda: write_humaneval(tmp_path, 5),
        "words": lambda: {"task": "words.py@words"},
        "tools": lambda: {"task": "words.py@tools"},
    }[which]()
    script = {"arc": by_hash, "humaneval": programs, "words": shelves, "tools": librarian}[which]
    it = component(tmp_path, **keys)
    with asked(script) as (subject, server):
        mine = measured(it, subject, tmp_path / "scratch")
        log = by_inspect(it, server.url, tmp_path)
    theirs = log.results.scores[0].metrics
    assert mine.measurement.raw == pytest.approx(theirs["accuracy"].value, abs=1e-12)
    assert mine.measurement.stderr == pytest.approx(theirs["stderr"].value, abs=1e-12)
    assert mine.measurement.raw not in (0.0, 1.0), "a value that shows something"
    assert (mine.measurement.status, mine.n_open) == ("ok", 0)
    assert isinstance(scored_items(mine.items, mine.measurement, it.task), Items)


def programs(request: ChatRequest) -> ChatAnswer:
    """Right for even numbers, a failing program for odd ones, and one that ends itself."""
    number = int(text_of(request).partition("def add")[2].partition("(")[0])
    body = {1: "raise SystemExit(1)", 3: "return x"}.get(number, f"return x + {number}")
    return ChatAnswer(content=f"```python\ndef add{number}(x):\n    {body}\n```")


def librarian(request: ChatRequest) -> ChatAnswer:
    """Looks on the shelf, and says what is there; of odd shelves it says nothing."""
    if request.messages[-1]["role"] == "tool":
        return ChatAnswer(content=f"It is {text_of(request)}.")
    number = int(text_of(request).partition("shelf ")[2].partition("?")[0])
    return calling(("shelf", {"number": number})) if number % 2 == 0 else ChatAnswer(content="I do not know.")


def test_every_sample_has_a_row(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words", cluster="group")
    with asked() as (subject, server):
        outcome = measured(it, subject, tmp_path / "s")
    assert server.requests == 8
    found = rows(outcome)
    assert [*found] == [f"w{i}" for i in range(8)]
    assert {one["status"] for one in found.values()} == {"ok"}
    assert found["w2"]["value"] == 1.0 and found["w3"]["value"] == 0.0
    assert all(one["tokens"] == 9 and one["seconds"] > 0 and one["turns"] == 1 for one in found.values())
    assert (outcome.measurement.raw, outcome.measurement.n_clusters) == (0.5, 4)
    assert outcome.measurement.stderr == 0.0, "each pair of samples has one right and one wrong answer"
    assert outcome.measurement.detail["tokens"] == 72
    assert (tmp_path / "s" / outcome.files[0]).suffix == ".eval"


@pytest.mark.parametrize(
    ("trouble", "attempts"), [("500", 1), ("401", 3), ("truncated", 1), ("error in 200", 1), ("html", 1), ("429", 1)]
)
def test_an_endpoint_that_fails_leaves_its_samples_open(trouble: str, attempts: int, tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words", attempts=attempts)
    with asked(troubles=[on(3, trouble), on(4, trouble)]) as (subject, server):
        first = measured(it, subject, tmp_path / "s")
    assert (first.measurement.status, first.measurement.n_scored, first.n_open) == ("partial", 6, 2)
    assert first.measurement.detail["causes"] == {"endpoint": 2}
    assert first.measurement.raw == 0.5 and "2 of 8 ended by endpoint" in str(first.measurement.reason)
    row = rows(first)["w3"]
    assert (row["status"], row["cause"], row["value"]) == ("failed", "endpoint", None) and row["reason"]
    with asked() as (subject, server):
        again = measured(it, subject, tmp_path / "s")
    assert server.requests == 2, "what has an end is not asked again"
    assert (again.measurement.status, again.measurement.raw, again.n_open) == ("ok", 0.5, 0)


def test_a_failure_that_passes_is_asked_again(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words", attempts=4, max_concurrency=1)
    once = Trouble(kind="500", when=lambda number, _: number in (2, 5))
    with asked(troubles=[once]) as (subject, server):
        outcome = measured(it, subject, tmp_path / "s")
    assert (outcome.measurement.status, outcome.measurement.raw, server.requests) == ("ok", 0.5, 10)
    assert subject.endpoints > 2, "after a failure the endpoint is asked for again, which brings back a server"


def test_a_task_that_hides_a_failure_is_not_scored_for_it(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@swallows")
    with asked(troubles=[on(3, "500")]) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
        assert rows(outcome)["w3"]["value"] is None and rows(outcome)["w3"]["cause"] == "endpoint"
    with asked(lambda _: ChatAnswer(content="word3")) as (subject, server):
        again = measured(it, subject, tmp_path / "s")
    assert (server.requests, rows(again)["w3"]["value"]) == (1, 1.0)


@pytest.mark.parametrize("better", [True, False])
def test_a_conversation_too_long_is_the_checkpoints_own_failure(better: bool, tmp_path: Path) -> None:
    """Never scored from the text of the error, which holds the words that a scorer may look for."""
    write_words(tmp_path)
    for row in (path := tmp_path / "words.jsonl").read_text().splitlines()[:1]:
        path.write_text(path.read_text().replace(row, row.replace("word0", "context length")))
    it = component(tmp_path, task="words.py@words", higher_is_better=better)
    with asked(troubles=[on(0, "overflow"), on(2, "overflow")]) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    found = rows(outcome)
    assert found["w0"]["cause"] == found["w2"]["cause"] == "context" and outcome.n_open == 0
    assert outcome.measurement.detail["causes"] == {"context": 2}
    if better:
        assert found["w0"]["value"] == 0.0 and outcome.measurement.raw == 2 / 8
        assert outcome.measurement.n_scored == 8
    else:
        assert found["w0"]["value"] is None and outcome.measurement.raw == 2 / 6
    with asked() as (subject, server):
        again = measured(it, subject, tmp_path / "s")
    assert server.requests == 0 and again.measurement.raw == outcome.measurement.raw


def test_an_overflow_that_is_the_servers_setting_stays_open(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words")
    with asked(troubles=[on(2, "overflow")], max_model_len=8, own_length=4096) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    assert rows(outcome)["w2"]["cause"] == "endpoint" and "max_model_len" in rows(outcome)["w2"]["reason"]
    assert outcome.n_open == 1


def test_a_limit_of_the_answer_that_leaves_no_room_is_no_overflow(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words", generate={"max_tokens": 4096}, max_concurrency=1)
    odd = Trouble(kind="overflow", when=lambda number, _: number % 2 == 1)
    with asked(troubles=[odd]) as (subject, server):
        outcome = measured(it, subject, tmp_path / "s")
    assert (outcome.measurement.raw, server.requests) == (0.5, 16)
    assert "causes" not in outcome.measurement.detail


@pytest.mark.parametrize(("task", "cause"), [("fussily", "scorer"), ("breaks", "task")])
def test_code_of_the_task_that_breaks_is_counted_by_name(task: str, cause: str, tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task=f"words.py@{task}")
    with asked() as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    assert outcome.measurement.detail["causes"] == {cause: 1} and outcome.n_open == 1
    assert rows(outcome)["w3"]["cause"] == cause and outcome.measurement.raw == pytest.approx(4 / 7)


def test_a_grader_that_fails_leaves_the_sample_open(tmp_path: Path) -> None:
    write_words(tmp_path)

    def grades(request: ChatRequest) -> ChatAnswer:
        return ChatAnswer(content="GRADE: C" if "word2." in text_of(request) else "GRADE: I")

    bad = Trouble(kind="500", when=lambda _, request: "word4." in text_of(request))
    with asked() as (subject, server), asked(grades, troubles=[bad], key="sk-of-the-grader") as (_, grader):
        role = {"model": "hosted_vllm/judge", "api_base": grader.url, "api_key_env": "GRADER_KEY"}
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("GRADER_KEY", "sk-of-the-grader")
            it = component(tmp_path, task="words.py@graded", roles={"grader": role})
            outcome = measured(it, subject, tmp_path / "s")
    assert (server.requests, grader.requests) == (8, 8), "the checkpoint does not grade itself"
    assert rows(outcome)["w2"]["value"] == 1.0 and rows(outcome)["w0"]["value"] == 0.0
    assert rows(outcome)["w4"]["cause"] == "endpoint" and outcome.n_open == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"sk-of-the-grader" in path.read_bytes()]


def test_limits_are_counted_and_scored_by_the_task(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@tools", message_limit=3)
    endless = calling(("shelf", {"number": 1}))
    with asked(lambda r: endless if "shelf 4?" in str(r.messages[0]["content"]) else ChatAnswer(content="word2")) as (
        subject,
        _,
    ):
        outcome = measured(it, subject, tmp_path / "s")
    assert rows(outcome)["w4"]["limit"] == "message" and rows(outcome)["w4"]["value"] == 0.0
    assert (outcome.measurement.status, outcome.measurement.raw) == ("ok", 1 / 8)
    assert outcome.measurement.detail["limits"] == {"message": 1}
    for key, limit in (("token_limit", "token"), ("turn_limit", "turn")):
        it = component(tmp_path, task="words.py@tools", **{key: 1}, sample_ids=["w4"])
        with asked(lambda _: replace(endless, usage=Usage(prompt_tokens=5, completion_tokens=4))) as (subject, server):
            outcome = measured(it, subject, tmp_path / key)
        assert server.requests <= 2 and outcome.n_open == 0
        assert outcome.measurement.detail["limits"] == {limit: 1} and outcome.measurement.raw == 0.0


def test_epochs_become_one_score_per_sample(tmp_path: Path) -> None:
    write_words(tmp_path)
    turns: dict[str, int] = {}

    def sometimes(request: ChatRequest) -> ChatAnswer:
        turns[text_of(request)] = turns.get(text_of(request), 0) + 1
        return shelves(request) if turns[text_of(request)] % 3 == 0 else ChatAnswer(content="no")

    for reducer, value in (("mean", 4 / 8 / 3), ("max", 0.5)):
        turns.clear()
        it = component(tmp_path, task="words.py@words", epochs=3, reducer=reducer)
        with asked(sometimes) as (subject, server):
            outcome = measured(it, subject, tmp_path / reducer)
        assert server.requests == 24 and outcome.measurement.raw == pytest.approx(value, abs=1e-12)
        assert outcome.measurement.n_items == 8 and set(outcome.items["n_answers"]) == {3}
        assert isinstance(scored_items(outcome.items, outcome.measurement, it.task), Items)


def test_an_epoch_without_an_answer_is_not_hidden_by_the_others(tmp_path: Path) -> None:
    write_words(tmp_path)
    seen: list[int] = []

    def once(_: int, request: ChatRequest) -> bool:
        if "shelf 2?" in text_of(request):
            seen.append(1)
        return "shelf 2?" in text_of(request) and len(seen) == 1

    for reducer, scored in (("mean", 8), ("max", 7)):
        seen.clear()
        it = component(tmp_path, task="words.py@words", epochs=2, reducer=reducer)
        with asked(troubles=[Trouble(kind="500", when=once)]) as (subject, _):
            outcome = measured(it, subject, tmp_path / reducer)
        assert (outcome.measurement.status, outcome.measurement.n_scored, outcome.n_open) == ("partial", scored, 1)
        assert rows(outcome)["w2"]["cause"] == "endpoint"


def test_another_scorer_or_metric_can_be_the_value(tmp_path: Path) -> None:
    write_words(tmp_path)
    for keys, name in (({"scorer": "length"}, "mean"), ({"metric": "length/mean"}, "length/mean")):
        it = component(tmp_path, task="words.py@lengths", **keys)
        assert it.metric == name
        with asked() as (subject, _):
            outcome = measured(it, subject, tmp_path / str(len(name)))
        assert outcome.measurement.raw == pytest.approx((4 * len("It is word0.") + 4 * len("I see nothing.")) / 8)
    with pytest.raises(SpecError, match="no metric 'f1'; it has accuracy, stderr, mean"):
        component(tmp_path, task="words.py@lengths", metric="f1")


def test_a_server_that_dies_is_asked_for_again(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words", attempts=3)
    with asked() as (alive, server):

        class Dying(ServedSubject):
            def endpoint(self) -> Endpoint:
                super().endpoint()
                gone = Endpoint(api_base="http://127.0.0.1:9/v1", model="m", how="start")
                return gone if self.endpoints <= 2 else alive.endpoint()

        outcome = measured(it, Dying(None, None, alive.endpoint()), tmp_path / "s")
    assert (outcome.measurement.status, outcome.measurement.raw, server.requests) == ("ok", 0.5, 8)


def test_a_server_that_is_gone_for_good_is_said_once_and_what_was_asked_is_kept(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words", attempts=3, max_concurrency=1)
    with asked(troubles=[Trouble(kind="500", when=lambda number, _: number >= 4)]) as (alive, _):

        class Gone(ServedSubject):
            def endpoint(self) -> Endpoint:
                super().endpoint()
                if self.endpoints > 2:
                    raise EngineError("the server crashed 5 times")
                return alive.endpoint()

        with pytest.raises(HarnessError, match="crashed 5 times"):
            measured(it, Gone(None, None, alive.endpoint()), tmp_path / "s")
    with asked() as (subject, server):
        outcome = measured(it, subject, tmp_path / "s")
    assert (outcome.measurement.raw, server.requests) == (0.5, 5)


def test_answers_made_of_nan_have_failed(tmp_path: Path) -> None:
    write_words(tmp_path)
    from harness.engines.chat.wire import NOT_FINITE, check_logprobs

    with pytest.raises(Exception, match=NOT_FINITE[:30]):
        check_logprobs({"logprobs": {"content": [{"logprob": math.nan}]}})
    it = component(tmp_path, task="words.py@words")
    with asked(logprobs=True) as (subject, _):
        assert measured(it, subject, tmp_path / "s").measurement.raw == 0.5


def test_a_part_of_the_samples_by_number_and_by_id(tmp_path: Path) -> None:
    write_words(tmp_path)
    with asked() as (subject, server):
        first = measured(component(tmp_path, task="words.py@words", limit=3), subject, tmp_path / "a")
        chosen = component(tmp_path, task="words.py@words", sample_ids=["w5", "w2"])
        second = measured(chosen, subject, tmp_path / "b")
    assert (first.items["id"], second.items["id"], server.requests) == (["w0", "w1", "w2"], ["w2", "w5"], 5)


def test_it_goes_to_another_process_as_its_configuration(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words")
    assert pickle.loads(pickle.dumps(it)).definition == it.definition


def test_a_scorer_that_gives_no_number_is_counted_and_not_asked_for_again(tmp_path: Path) -> None:
    path = write_words(tmp_path)
    path.write_text(
        path.read_text() + "\n\n@scorer(metrics=[mean()])\ndef unsure():\n    async def score(state, target):\n"
        "        if '3' in state.input_text:\n            return None\n"
        "        return Score(value=float('nan') if '4' in state.input_text else 1.0)\n    return score\n\n\n"
        "@task\ndef unsurely():\n    return Task(dataset=samples(), scorer=unsure())\n"
    )
    it = component(tmp_path, task="words.py@unsurely")
    with asked() as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    made = outcome.measurement
    assert (made.status, made.n_scored, made.raw, outcome.n_open) == ("partial", 6, 1.0, 0)
    assert made.detail["causes"] == {"scorer": 2} and made.reason
    assert rows(outcome)["w3"]["cause"] == rows(outcome)["w4"]["cause"] == "scorer"


def test_a_role_is_asked_as_its_args_say(tmp_path: Path) -> None:
    path = write_words(tmp_path)
    path.write_text(
        path.read_text()
        + "\n\nfrom inspect_ai.model import get_model\n\n\n@solver\ndef talking():\n    async def solve(state, generate):\n"
        "        await get_model(role='user').generate('Say hello on ' + state.input_text)\n"
        "        return await generate(state)\n    return solve\n\n\n"
        "@task\ndef talks():\n    return Task(dataset=samples()[:3], solver=talking(), scorer=includes())\n"
    )
    heard: list[ChatRequest] = []

    def user(request: ChatRequest) -> ChatAnswer:
        heard.append(request)
        return ChatAnswer(content="hello")

    with asked() as (subject, server), asked(user) as (_, others):
        role = {"model": "openai/other", "api_base": others.url, "args": {"seed": 7}}
        outcome = measured(component(tmp_path, task="words.py@talks", roles={"user": role}), subject, tmp_path / "s")
        assert (outcome.measurement.raw, server.requests, len(heard)) == (2 / 3, 3, 3)
        assert {request.seed for request in heard} == {7}
        itself = component(tmp_path, task="words.py@talks", roles={"user": {"model": "checkpoint"}})
        again = measured(itself, subject, tmp_path / "itself")
    assert (again.measurement.raw, server.requests) == (2 / 3, 9)
    assert set(again.items["tokens"]) == {18}


def test_inspect_leaves_the_process_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads a .env wherever a command is given, takes over logging, warnings and what happens to uncaught errors.

    What a task sets is there while it is built and asked, and for no other task.
    """
    path = write_words(tmp_path)
    path.write_text(
        path.read_text()
        + "\n\nimport logging, os\nos.environ['TASK_AT_IMPORT'] = '1'\nlogging.getLogger().setLevel(1)\n\n\n@solver\ndef reads():\n"
        "    async def solve(state, generate):\n        state = await generate(state)\n"
        "        state.output.completion = 'word0' * all(name in os.environ for name in ('TASK_AT_IMPORT', 'TASK_WHEN_BUILT'))\n"
        "        return state\n    return solve\n\n\n@task\ndef sets():\n    os.environ['TASK_WHEN_BUILT'] = '2'\n"
        "    os.chdir('/')\n    return Task(dataset=samples()[:1], solver=reads(), scorer=includes())\n"
    )
    (tmp_path / ".env").write_text("INSPECT_EVAL_TEMPERATURE=2\nHARNESS_TEST_OF_ENV=secret\n")
    monkeypatch.chdir(tmp_path)

    def state() -> tuple[Any, ...]:
        root = logging.getLogger()
        return dict(os.environ), sys.excepthook, list(root.handlers), root.level, sys.stdout, sys.stderr, Path.cwd()

    before = state()
    it, other = component(tmp_path, task="words.py@sets"), component(tmp_path, task="words.py@words")
    assert state() == before
    with asked() as (subject, _):
        assert measured(it, subject, tmp_path / "s").measurement.raw == 1.0
        measured(other, subject, tmp_path / "other")
    assert state() == before and "TASK_WHEN_BUILT" not in other.built.environment
    assert not [name for name in tmp_path.iterdir() if name.name in ("logs", "traces")]


@pytest.mark.parametrize(("opened", "before"), [(False, "<think>"), (True, "")])
def test_what_is_thought_is_not_scored(opened: bool, before: str, tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words")

    def thinking(request: ChatRequest) -> ChatAnswer:
        every = " ".join(f"word{i}" for i in range(8))
        return ChatAnswer(content=f"{before}Is it {every}?</think>\n\n{shelves(request).content}")

    with asked(thinking, opens_thought=opened) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    assert outcome.measurement.raw == 0.5 and rows(outcome)["w2"]["answer"].strip() == "It is word2."
