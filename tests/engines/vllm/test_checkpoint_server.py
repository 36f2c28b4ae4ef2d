"""Checkpoints on a server, its swaps, crashes and refusals, against a program that behaves like vLLM."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fake_server
import pytest

from harness.core.errors import CheckpointError, EngineError, SpecError
from harness.core.serving import Servable, ServeSettings
from harness.engines.vllm.checkpoint_server import MAX_CRASHES, CheckpointServer
from harness.engines.vllm.command import Launch
from harness.engines.vllm.guard import descendants
from harness.engines.vllm.server import VllmServer
from harness.engines.vllm.watch import Watch


def logprobs(number: float, ids: Sequence[int]) -> list[float]:
    """What fake_vllm.py says, computed by its own rule."""
    return [-0.1 - ((number * 31 + sum(ids[: i + 1])) % 97) / 10 for i in range(1, len(ids))]


Make = Callable[..., CheckpointServer]


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The fake as an executable."""
    return fake_server.command(tmp_path / "bin")


@pytest.fixture
def make(tmp_path: Path, command: Path) -> Iterator[Make]:
    """Makes servers that are closed at the end, and looks that nothing is left."""
    before = set(descendants(os.getpid()))
    with ExitStack() as stack:

        def made(fake: dict[str, Any] | None = None, **settings: Any) -> CheckpointServer:
            given = {"command": str(command), "env": {"FAKE": json.dumps(fake or {})}, "startup_timeout_s": 20}
            server = CheckpointServer(ServeSettings(**{**given, **settings}), log_folder=tmp_path / "logs")
            return stack.enter_context(server)

        yield made
    assert set(descendants(os.getpid())) <= before


def full(folder: Path, name: str, number: float, *, own: float | None = None, hidden: int = 8) -> Servable:
    """A checkpoint whose weights are a number; its own log-probs are those of `own`, or of the same number."""
    path = folder / name
    path.mkdir(exist_ok=True)
    (path / "weights.json").write_text(json.dumps(number))
    (path / "config.json").write_text(json.dumps({"vocab_size": 50, "hidden": hidden, "dtype": "float32"}))
    return Servable(
        label=name,
        kind="full",
        model=path,
        fingerprint=f"sha256:{name}",
        model_fingerprint=f"sha256:{name}",
        tokenizer=path,
        tokenizer_digest="t",
        logprobs=own_of(number if own is None else own),
    )


def with_template(servable: Servable, text: str, *, own: str | None = None) -> Servable:
    """The same weights with a chat template; its own rendering is that of `own`, or of the same text."""
    path = servable.model.parent / f"{servable.model.name}-{text}"
    shutil.copytree(servable.model, path, dirs_exist_ok=True)
    (path / "template.txt").write_text(text)

    def render(messages: Sequence[Any], tools: Sequence[Any]) -> list[int]:
        return rendered(text if own is None else own, messages, tools)

    return dataclasses.replace(servable, model=path, tokenizer=path, tokenizer_digest=text, render=render)


def rendered(text: str, messages: Sequence[Any], tools: Sequence[Any]) -> list[int]:
    """As fake_vllm.py makes a prompt."""
    contents = [text, *("".join(map(str, (m["role"], m["content"]))) for m in messages), str(len(tools))]
    return list("|".join(contents).encode())


def own_of(number: float) -> Callable[[Sequence[int]], list[float]]:
    def own(ids: Sequence[int]) -> list[float]:
        return [float("nan")] * (len(ids) - 1) if number < 0 else logprobs(number, list(ids))

    return own


def adapter(folder: Path, base: Servable, name: str, number: float, *, rank: int = 8) -> Servable:
    path = folder / name
    path.mkdir(exist_ok=True)
    (path / "weights.json").write_text(json.dumps(number))
    (path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return Servable(
        label=name,
        kind="lora",
        model=base.model,
        adapter=path,
        fingerprint=f"sha256:{name}",
        model_fingerprint=base.fingerprint,
        tokenizer=base.tokenizer,
        tokenizer_digest=base.tokenizer_digest,
        logprobs=own_of(number),
    )


def test_a_sweep_starts_one_server(make: Make, tmp_path: Path) -> None:
    server = make()
    steps = [full(tmp_path, f"step-{n}", n) for n in (1, 2, 3)]
    assert [server.endpoint(step).how for step in [*steps, steps[2]]] == ["start", "reload", "reload", "kept"]
    assert len(list((tmp_path / "logs").iterdir())) == 1


def test_another_architecture_is_a_restart(make: Make, tmp_path: Path) -> None:
    server = make()
    assert server.endpoint(full(tmp_path, "a", 1)).how == "start"
    assert server.endpoint(full(tmp_path, "b", 2, hidden=16)).how == "restart"


@pytest.mark.parametrize("trouble", ["fails", "does nothing"])
def test_a_reload_that_did_not_do_is_followed_by_a_restart(make: Make, tmp_path: Path, trouble: str) -> None:
    server = make({"reload": trouble})
    server.endpoint(full(tmp_path, "a", 1))
    endpoint = server.endpoint(full(tmp_path, "b", 2))
    assert endpoint.how == "restart" and endpoint.note is not None and "could not be swapped in" in endpoint.note


def test_a_reload_that_did_nothing_shows_even_between_weights_that_are_close(make: Make, tmp_path: Path) -> None:
    server = make({"reload": "does nothing"})
    server.endpoint(full(tmp_path, "a", 1))
    assert server.endpoint(full(tmp_path, "b", 1 + 1e-5)).how == "restart"


def test_several_engines_or_listeners_mean_no_reload(make: Make, tmp_path: Path) -> None:
    server = make(args=["--data-parallel-size", "2"])
    server.endpoint(full(tmp_path, "a", 1))
    assert server.endpoint(full(tmp_path, "b", 2)).how == "restart"


def test_what_is_served_and_is_not_the_checkpoint_is_refused(make: Make, tmp_path: Path) -> None:
    server = make()
    with pytest.raises(CheckpointError, match="what vLLM serves as a is not it: its log-probs differ"):
        server.endpoint(full(tmp_path, "a", 1, own=2))
    assert server.endpoint(full(tmp_path, "b", 2)).how == "reload"


def test_the_same_weights_with_another_template_are_another_checkpoint(make: Make, tmp_path: Path) -> None:
    server = make()
    one, other = (with_template(full(tmp_path, "a", 1), text) for text in ("one", "other"))
    assert [server.endpoint(step).how for step in (one, one, other, one)] == ["start", "kept", "restart", "restart"]


def test_the_same_weights_with_other_generation_settings_are_another_checkpoint(make: Make, tmp_path: Path) -> None:
    server = make()
    one = full(tmp_path, "a", 1)
    other = dataclasses.replace(one, model=tmp_path / "b")
    shutil.copytree(one.model, other.model)
    (other.model / "generation_config.json").write_text('{"repetition_penalty": 1.5}')
    assert [server.endpoint(step).how for step in (one, other, one)] == ["start", "restart", "restart"]


def test_adapters_with_a_template_of_their_own_are_not_served_with_anothers(make: Make, tmp_path: Path) -> None:
    server = make()
    base = full(tmp_path, "base", 1)
    one = adapter(tmp_path, base, "one", 2)
    other = dataclasses.replace(one, tokenizer=one.model, tokenizer_digest="another")
    assert [server.endpoint(step).how for step in (one, one, other)] == ["start", "kept", "restart"]


def test_prompts_that_differ_after_a_swap_lead_to_a_restart(make: Make, tmp_path: Path) -> None:
    server = make()
    one = with_template(full(tmp_path, "a", 1), "t")
    server.endpoint(one)
    other = dataclasses.replace(with_template(full(tmp_path, "b", 2), "t", own="x"), tokenizer_digest="t")
    endpoint = server.endpoint(other)
    assert endpoint.how == "restart" and endpoint.note is not None
    assert "could not be swapped in" in endpoint.note and "prompts differ from the checkpoint's own" in endpoint.note


def test_a_reload_happens_while_the_server_is_paused(make: Make, tmp_path: Path) -> None:
    server = make({"pauses": True})
    steps = [full(tmp_path, f"step-{n}", n) for n in (1, 2)]
    assert [server.endpoint(step).how for step in steps] == ["start", "reload"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"trainable_token_indices": [1, 2]}, "trainable tokens"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: lm_head"),
        ({"bias": "all"}, "bias: all"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
        ({"r": 100000}, "rank 100000"),
    ],
)
def test_an_adapter_that_vllm_cannot_load_costs_no_start(
    make: Make, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    server = make()
    refused = adapter(tmp_path, full(tmp_path, "base", 1), "one", 2)
    assert refused.adapter is not None
    (refused.adapter / "adapter_config.json").write_text(json.dumps({"r": 8, **config}))
    with pytest.raises(CheckpointError, match=words):
        server.endpoint(refused)
    assert not (tmp_path / "logs").exists()


def test_a_checkpoint_that_our_own_loader_refuses_costs_no_start(make: Make, tmp_path: Path) -> None:
    def refuse(ids: Sequence[int]) -> list[float]:
        raise CheckpointError("a layer is missing")

    server = make()
    with pytest.raises(CheckpointError, match="a layer is missing"):
        server.endpoint(dataclasses.replace(full(tmp_path, "a", 1), logprobs=refuse))
    assert not (tmp_path / "logs").exists()


def test_a_context_that_the_model_does_not_have_costs_no_start(make: Make, tmp_path: Path) -> None:
    wanted = full(tmp_path, "a", 1)
    config = json.loads((wanted.model / "config.json").read_text())
    (wanted.model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    with pytest.raises(CheckpointError, match=r"serve.max_model_len is 65, and .* has a context of 64 tokens"):
        make(max_model_len=65).endpoint(wanted)
    assert not (tmp_path / "logs").exists()
    assert (
        make(max_model_len=65, env={"FAKE": "{}", "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}).endpoint(wanted).how == "start"
    )
    stretched = {"max_position_embeddings": 16, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}}
    (wanted.model / "config.json").write_text(json.dumps({**config, **stretched}))
    assert make(max_model_len=64).endpoint(wanted).how == "start", "how far, vLLM says"


def until_dead(server: CheckpointServer | VllmServer) -> None:
    deadline = time.monotonic() + 40
    while server.pids():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_server_that_is_stopped_is_there_again(make: Make, tmp_path: Path) -> None:
    server = make()
    step = full(tmp_path, "a", 1)
    server.endpoint(step)
    for pid in server.pids():
        os.kill(pid, signal.SIGSTOP)
    until_dead(server)
    assert server.endpoint(step).how == "restart" and server.n_restarts(step) == 1
    assert "the engine hangs and was ended" in (tmp_path / "logs" / "vllm-1.log").read_text()


def test_an_engine_that_owes_an_answer_and_does_nothing_is_ended(command: Path, tmp_path: Path) -> None:
    stuck = tmp_path / "stuck"
    settings = ServeSettings(command=str(command), env={"FAKE": json.dumps({"hangs while": str(stuck)})})
    model = full(tmp_path, "a", 1).model
    with VllmServer(
        model, settings=settings, log=tmp_path / "log", launch=Launch(model=model, name="m", dev=True)
    ) as server:
        watch = Watch(server, every_s=0.1, answer_s=0.5)
        time.sleep(1.5)
        assert server.alive()
        stuck.touch()
        with watch.held():
            time.sleep(3)
            assert server.alive()
        deadline = time.monotonic() + 20
        while server.alive():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "hangs" in server.last_words()


def test_a_server_that_runs_and_does_not_answer_hangs(command: Path, tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    settings = ServeSettings(command=str(command), env={"FAKE": json.dumps({"busy while": str(busy)})})
    model = full(tmp_path, "a", 1).model
    with VllmServer(model, settings=settings, log=tmp_path / "log", launch=Launch(model=model, name="m")) as server:
        assert server.alive() and not server.hangs
        busy.touch()
        assert not server.alive(hung_s=0.2, answer_s=0.1) and server.hangs
        busy.unlink()
        server.restart()
        assert server.alive() and not server.hangs
        os.kill(server.pids()[-1], signal.SIGKILL)
        until_dead(server)
        assert not server.alive() and not server.hangs, "it has ended"


def test_weights_that_are_nan(make: Make, tmp_path: Path) -> None:
    server = make()
    server.endpoint(full(tmp_path, "a", 1))
    with pytest.raises(CheckpointError, match="broken gives log-probs that are not finite"):
        server.endpoint(full(tmp_path, "broken", -1))
    assert server.endpoint(full(tmp_path, "b", 2)).how == "reload"


def test_the_first_weights_that_are_nan(make: Make, tmp_path: Path) -> None:
    server = make()
    with pytest.raises(CheckpointError, match="not finite"):
        server.endpoint(full(tmp_path, "broken", -1))
    server.endpoint(full(tmp_path, "b", 2))


def test_without_comparison_it_is_noted(make: Make, tmp_path: Path) -> None:
    server = make(verify=False)
    endpoint = server.endpoint(full(tmp_path, "a", 1, own=2))
    assert endpoint.note is not None and "not compared" in endpoint.note


def test_adapters_beside_each_other_up_to_a_number(make: Make, tmp_path: Path) -> None:
    server = make(max_loras=2)
    base = full(tmp_path, "base", 1)
    one, two, three = (adapter(tmp_path, base, f"lora-{n}", n) for n in (11, 12, 13))
    first = server.endpoint(one)
    assert (first.how, server.endpoint(two).how) == ("start", "adapter")
    assert server.endpoint(one).how == "kept"
    assert server.endpoint(three).how == "adapter"  # two, used longest ago, goes
    assert (server.endpoint(one).how, server.endpoint(two).how) == ("kept", "adapter")
    assert server.endpoint(base).how == "kept"
    assert first.model.startswith("adapter-") and server.endpoint(base).model == "checkpoint"


def test_an_adapter_of_a_higher_rank_or_another_base_is_a_restart(make: Make, tmp_path: Path) -> None:
    server = make()
    base, other = full(tmp_path, "base", 1), full(tmp_path, "other", 2)
    server.endpoint(adapter(tmp_path, base, "a", 11))
    assert server.endpoint(adapter(tmp_path, base, "b", 12, rank=64)).how == "restart"
    assert server.endpoint(adapter(tmp_path, base, "c", 13, rank=8)).how == "adapter"
    assert server.endpoint(adapter(tmp_path, other, "d", 14)).how == "restart"
    with pytest.raises(CheckpointError, match="no adapters of rank 1000"):
        server.endpoint(adapter(tmp_path, base, "e", 15, rank=1000))


def test_a_killed_server_comes_back_with_what_was_on_it(make: Make, tmp_path: Path) -> None:
    server = make()
    base = full(tmp_path, "base", 1)
    wanted = adapter(tmp_path, base, "a", 11)
    server.endpoint(wanted)
    os.kill(server.pids()[0], signal.SIGKILL)
    assert server.endpoint(wanted).how == "restart"


def test_a_server_that_comes_back_has_the_environment_of_its_start(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a benchmark is measured, variables are set that are meant for its task alone."""
    server = make()
    wanted = full(tmp_path, "a", 1)
    server.endpoint(wanted)
    monkeypatch.setenv("OF_A_TASK", "1")
    os.kill(server.pids()[0], signal.SIGKILL)
    server.endpoint(wanted)
    found = [Path(f"/proc/{pid}/environ").read_bytes() for pid in server.pids()]
    assert any(b"FAKE=" in one for one in found) and not any(b"OF_A_TASK" in one for one in found)


def test_a_server_that_dies_again_and_again_is_given_up(make: Make, tmp_path: Path) -> None:
    server = make()
    wanted = full(tmp_path, "a", 1)
    server.endpoint(wanted)
    for _ in range(MAX_CRASHES):
        os.kill(server.pids()[0], signal.SIGKILL)
        assert server.endpoint(wanted).how == "restart"
    os.kill(server.pids()[0], signal.SIGKILL)
    with pytest.raises(EngineError, match=f"vLLM died {MAX_CRASHES + 1} times with a"):
        server.endpoint(wanted)
    assert server.endpoint(full(tmp_path, "b", 2)).how == "restart"


def test_it_breaks_at_its_first_request(make: Make, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"broke at its first request.*the engine broke on purpose"):
        make({"dies at request": 1}).endpoint(full(tmp_path, "a", 1))


def test_callers_from_many_threads_start_one_server(make: Make, tmp_path: Path) -> None:
    server = make()
    wanted = full(tmp_path, "a", 1)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(server.endpoint(wanted).how)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["kept"] * 7 + ["start"]


def test_a_closed_server_is_not_started_again(make: Make, tmp_path: Path) -> None:
    server = make()
    server.close()
    with pytest.raises(EngineError, match="closed"):
        server.endpoint(full(tmp_path, "a", 1))


def test_closing_calls_a_start_off(make: Make, tmp_path: Path) -> None:
    server = make({"hangs": True}, startup_timeout_s=60)
    failures: list[str] = []

    def ask() -> None:
        try:
            server.endpoint(full(tmp_path, "a", 1))
        except EngineError as error:
            failures.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive() and not any((tmp_path / "logs").glob("*")):
        time.sleep(0.02)
    server.close()
    thread.join(30)
    assert not thread.is_alive() and "called off" in failures[0]


def test_a_key_that_is_not_there(make: Make, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="NO_SUCH_KEY, which is not set"):
        make(api_key_env="NO_SUCH_KEY").endpoint(full(tmp_path, "a", 1))


@pytest.mark.parametrize(
    ("fake", "settings", "words"),
    [
        ({"dies": "ValueError: it is too big for max_model_len"}, {}, "it is too big.*smaller serve.max_model_len"),
        ({"hangs": True}, {"startup_timeout_s": 0.5}, "does not answer 0.5 s after its start.*startup_timeout_s"),
        ({"sick": True}, {"startup_timeout_s": 0.5}, "does not answer"),
        ({"unknown": ["--odd"]}, {"args": ["--odd"]}, "unrecognized arguments: --odd; take it out of serve.args"),
    ],
)
def test_a_start_that_fails(
    make: Make, tmp_path: Path, fake: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(EngineError, match=words):
        make(fake, **settings).endpoint(full(tmp_path, "a", 1))


def test_a_start_that_failed_is_not_tried_again_for_the_next_component(make: Make, tmp_path: Path) -> None:
    server, odd = make({"dies": "ValueError: unknown architecture"}), full(tmp_path, "odd", 1)
    for _ in range(3):
        with pytest.raises(EngineError, match="unknown architecture"):
            server.endpoint(odd)
    assert len(list((tmp_path / "logs").iterdir())) == 1
    with pytest.raises(EngineError, match="unknown architecture"):
        server.endpoint(full(tmp_path, "next", 2))
    assert len(list((tmp_path / "logs").iterdir())) == 2


def test_an_older_vllm_is_started_without_our_newer_options(make: Make, tmp_path: Path) -> None:
    server = make({"unknown": ["--shutdown-timeout", "--uvicorn-log-level"]})
    assert server.endpoint(full(tmp_path, "a", 1)).how == "start"


def test_a_port_lost_between_choosing_and_binding_is_chosen_again(make: Make, tmp_path: Path) -> None:
    fake = {"port taken until": {"file": str(tmp_path / "tries"), "times": 3}}
    assert make(fake).endpoint(full(tmp_path, "a", 1)).how == "start"
    assert (tmp_path / "tries").read_text() == "xxx"


@pytest.fixture
def yours(command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmServer]:
    """A server of the user's own, with a key, around a checkpoint `mine` of weights 1."""
    monkeypatch.setenv("YOUR_KEY", "key-123")
    full(tmp_path, "mine", 1)
    settings = ServeSettings(command=str(command), api_key_env="YOUR_KEY")
    with VllmServer(tmp_path / "mine", settings=settings, log=tmp_path / "yours.log") as server:
        yield server


def external(server: VllmServer, make: Make) -> CheckpointServer:
    return make(url=server.endpoint.api_base, command=None, env={}, api_key_env="YOUR_KEY")


def test_a_server_of_the_users_own_is_compared_and_used(yours: VllmServer, make: Make, tmp_path: Path) -> None:
    server = external(yours, make)
    endpoint = server.endpoint(full(tmp_path, "mine", 1))
    assert (endpoint.how, endpoint.model, endpoint.note) == ("external", "mine", None)
    with pytest.raises(CheckpointError, match="what vLLM serves as next is not it"):
        server.endpoint(full(tmp_path, "next", 2))
    endpoint = server.endpoint(full(tmp_path, "copy", 1))
    assert endpoint.note is not None and "the server's only model, mine" in endpoint.note
    server.close()
    assert yours.alive()


def test_an_adapter_is_loaded_on_a_server_of_the_users_own(yours: VllmServer, make: Make, tmp_path: Path) -> None:
    wanted = adapter(tmp_path, full(tmp_path, "mine", 1), "a", 11)
    server = external(yours, make)
    first = server.endpoint(wanted)
    assert first.model.startswith("adapter-") and first.note is None
    assert server.endpoint(wanted) == first


@contextmanager
def hanging_up(port: int) -> Iterator[list[object]]:
    """Something that takes each call on this port and ends it. Gives the calls."""
    calls: list[object] = []

    def take() -> None:
        with suppress(OSError):
            while True:
                connection, caller = listening.accept()
                calls.append(caller)
                connection.close()

    with socket.create_server(("127.0.0.1", port)) as listening:
        threading.Thread(target=take, daemon=True).start()
        yield calls
        listening.shutdown(socket.SHUT_RDWR)


def test_a_server_of_the_users_own_that_is_away_or_closed_to_us(
    yours: VllmServer, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = full(tmp_path, "mine", 1)
    monkeypatch.setenv("WRONG_KEY", "key-456")
    server = make(url=yours.endpoint.api_base, command=None, env={}, api_key_env="WRONG_KEY")
    with pytest.raises(EngineError, match=r"refuses our key.*Bearer \*\*\*.*serve\.api_key_env"):
        server.endpoint(wanted)
    gone = external(yours, make)
    port = urlsplit(yours.endpoint.api_base).port
    assert port is not None
    yours.stop()
    with hanging_up(port) as calls:
        with pytest.raises(EngineError, match="no answer from"):
            gone.endpoint(wanted)
        assert len(calls) == 1, "what is not ours to start is not waited for"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, asyncio.CancelledError])
def test_leaving_the_block_by_an_error_ends_the_server(
    command: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    before = set(descendants(os.getpid()))
    full(tmp_path, "mine", 1)

    async def work() -> None:
        settings = ServeSettings(command=str(command))
        async with VllmServer(tmp_path / "mine", settings=settings, log=tmp_path / "log") as server:
            assert server.endpoint.model == "mine" and server.pids()
            raise error

    with pytest.raises(error):
        asyncio.run(work())
    assert set(descendants(os.getpid())) <= before


def test_a_start_that_is_called_off_leaves_nothing(
    command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(descendants(os.getpid()))
    full(tmp_path, "mine", 1)
    monkeypatch.setenv("FAKE", json.dumps({"hangs": True}))

    async def work() -> None:
        settings = ServeSettings(command=str(command), startup_timeout_s=60)
        async with asyncio.timeout(1.0), VllmServer(tmp_path / "mine", settings=settings, log=tmp_path / "log"):
            pass

    with pytest.raises(TimeoutError):
        asyncio.run(work())
    assert set(descendants(os.getpid())) <= before
