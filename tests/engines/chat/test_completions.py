"""Completions of a server that fails: asked again, brought back, never repeated, never made up."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
from served import ServedSubject, served

from harness.core.answer import Failure
from harness.core.component import SilentProgress
from harness.core.endpoint import Endpoint
from harness.core.errors import DataError, EngineError
from harness.engines.chat.completions import Completion, Prompt, complete
from harness.engines.chat.retry import Backoff
from harness.engines.scripted.server import ScriptedServer, TextAnswer, TextRequest, serving
from harness.engines.scripted.trouble import Trouble
from harness.lm_eval.generation import make_prompt, prompt_ids, render_chat

QUICK = Backoff(attempts=4, first_s=0.01, longest_s=0.02)


def prompts(n: int) -> list[Prompt]:
    payload = {"max_tokens": 4, "temperature": 0.0, "stop": ["\n"], "seed": 1}
    return [Prompt(ids=(5, 6, i), payload=payload, stop=("\n",), truncated=False) for i in range(n)]


def echo(request: TextRequest) -> TextAnswer:
    return TextAnswer(text=f"answer {request.prompt[-1]}", n_tokens=2)


def ask(subject: Any, n: int, journal: Path, backoff: Backoff = QUICK) -> list[Completion | Failure]:
    return complete(
        subject,
        subject.endpoint(),
        prompts(n),
        journal=journal,
        timeout_s=5.0,
        progress=SilentProgress(),
        backoff=backoff,
    )


def texts(answers: list[Completion | Failure]) -> list[str | None]:
    return [answer.text if isinstance(answer, Completion) else None for answer in answers]


@pytest.mark.parametrize("kind", ["500", "429", "lost", "truncated", "html", "sse", "error in 200", "null"])
def test_whatever_a_server_does_is_asked_again_and_comes_out_whole(tmp_path: Path, kind: str) -> None:
    with served(echo, None, troubles=[Trouble.every(3, kind)]) as (subject, server):
        assert texts(ask(subject, 12, tmp_path / "j")) == [f"answer {i}" for i in range(12)]
        assert server.requests > 12


def test_no_more_requests_are_in_flight_than_the_endpoint_takes(tmp_path: Path) -> None:
    def slow(request: TextRequest) -> TextAnswer:
        time.sleep(0.02)
        return echo(request)

    with served(slow, None, parallel=3) as (subject, server):
        ask(subject, 15, tmp_path / "j")
        assert server.in_flight_most == 3


def test_what_the_journal_has_is_not_asked_again(tmp_path: Path) -> None:
    with served(echo, None) as (subject, server):
        ask(subject, 5, tmp_path / "j")
        lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
        assert len(lines) == 5
        (tmp_path / "j").write_bytes(b"".join(lines[:3]) + lines[3][:20])  # killed while it wrote
        assert texts(ask(subject, 5, tmp_path / "j")) == [f"answer {i}" for i in range(5)]
        assert server.requests == 5 + 2
        assert len({json.loads(line)["key"] for line in (tmp_path / "j").read_text().splitlines()}) == 5


def test_an_answer_that_never_comes_is_a_failure_and_the_others_stay(tmp_path: Path) -> None:
    def broken(request: TextRequest) -> TextAnswer:
        return TextAnswer(text="", finish_reason="abort") if request.prompt[-1] == 2 else echo(request)

    with served(broken, None) as (subject, _):
        answers = ask(subject, 4, tmp_path / "j")
        assert answers[2] == Failure(cause="the completion was broken off (finish_reason 'abort') (4 attempts)")
        assert texts(answers) == ["answer 0", "answer 1", None, "answer 3"]
        assert len((tmp_path / "j").read_text().splitlines()) == 3


def test_a_refusal_is_final_and_the_key_is_not_in_it(tmp_path: Path) -> None:
    with served(echo, None, key="right", sent_key="s3cret") as (subject, server):
        answers = ask(subject, 2, tmp_path / "j")
        assert all(isinstance(answer, Failure) and "401" in answer.cause for answer in answers)
        assert server.requests == 2
        assert "s3cret" not in repr(answers) + repr(subject.endpoint())


def test_a_server_that_died_is_brought_back_by_asking_for_its_endpoint(tmp_path: Path) -> None:
    """The first server goes while requests are under way; the subject then names another."""
    gone = threading.Event()

    def dying(request: TextRequest) -> TextAnswer:
        if request.prompt[-1] >= 3:
            gone.wait(5)
        return echo(request)

    first, second = ScriptedServer(completer=dying), ScriptedServer(completer=echo)

    class Restarting(ServedSubject):
        def endpoint(self) -> Endpoint:
            self.endpoints += 1
            url = first.url if self.endpoints == 1 else second.url
            return Endpoint(api_base=url, model="m", how="restart", parallel=4)

    subject = Restarting(None, None, EngineError("unused"))
    answers: list[Completion | Failure] = []
    with serving(second):
        with serving(first):
            worker = threading.Thread(target=lambda: answers.extend(ask(subject, 8, tmp_path / "j")))
            worker.start()
            while first.requests < 4:
                time.sleep(0.01)
        gone.set()
        worker.join()
    assert texts(answers) == [f"answer {i}" for i in range(8)]
    assert second.requests >= 1 and subject.endpoints >= 2


def test_a_server_that_does_not_come_back_ends_the_measurement_with_its_cause(tmp_path: Path) -> None:
    class Gone(ServedSubject):
        def endpoint(self) -> Endpoint:
            self.endpoints += 1
            if self.endpoints > 1:
                raise EngineError("vllm exited with code 1: out of memory")
            return Endpoint(api_base="http://127.0.0.1:9/v1", model="m", how="start", parallel=4)

    with pytest.raises(EngineError, match="out of memory"):
        ask(Gone(None, None, EngineError("unused")), 3, tmp_path / "j")


def test_it_works_where_an_event_loop_runs_already(tmp_path: Path) -> None:
    import asyncio

    async def notebook(subject: Any) -> list[Completion | Failure]:
        return ask(subject, 2, tmp_path / "j")

    with served(echo, None) as (subject, _):
        assert texts(asyncio.run(notebook(subject))) == ["answer 0", "answer 1"]


# What is sent.


def made(text: str = "The quick brown fox", *, max_model_len: int | None = None, **options: Any) -> Prompt:
    return make_prompt(tiny.tokenizer(), text, options, max_model_len=max_model_len, seed=7)


def test_options_are_sent_as_lm_evals_completions_send_them() -> None:
    prompt = made(until=["\n\n", "Q:"], max_gen_toks=12, do_sample=False, temperature=0.5, top_p=0.9)
    assert dict(prompt.payload) == {
        "max_tokens": 12,
        "temperature": 0.0,
        "stop": ["\n\n", "Q:", "</s>"],
        "seed": 7,
        "top_p": 0.9,
    }
    assert prompt.stop == ("\n\n", "Q:")
    assert made(until="x").payload["stop"] == ["x", "</s>"]
    assert made().payload["max_tokens"] == 256
    assert made(do_sample=True, temperature=0.7).payload["temperature"] == 0.7
    assert made(max_new_tokens=5).payload["max_tokens"] == 5


def test_a_long_prompt_loses_its_beginning_and_an_answer_without_room_is_refused() -> None:
    whole = made().ids
    cut = made(max_model_len=10, max_gen_toks=6)
    assert cut.ids == whole[-4:] and cut.truncated
    assert made(max_model_len=10 + len(whole), max_gen_toks=10).ids == whole
    with pytest.raises(DataError, match=r"asks for up to 6 new tokens.*gen_kwargs: \{max_gen_toks: N\}"):
        made(max_model_len=6, max_gen_toks=6)


def test_bos_stands_once() -> None:
    tokenizer = tiny.tokenizer()
    assert prompt_ids(tokenizer, "fox")[0] == tokenizer.bos_token_id
    assert prompt_ids(tokenizer, "<s>fox") == prompt_ids(tokenizer, "fox")


def test_a_template_that_refuses_the_systems_role_gets_it_left_out() -> None:
    template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m.content }}{% endfor %}"
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert render_chat(tiny.tokenizer(chat_template=template), messages) == "U"
