"""Checkpoints on a real vLLM server (the CPU build): swaps, crashes, broken weights, and what is left behind.

One server serves nearly all of it, as in a sweep. `served` puts a checkpoint on it whatever was there before, so the
order of the tests decides their cost and nothing else.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tau2_online import http_chat, plan, run_plan
from tool_model import conversation, plays, wire
from vllm_here import CPU, cpu_settings, needs_vllm, vllm_environment

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.open import Opener
from harness.core.endpoint import Endpoint
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions
from harness.engines.scripted.chat import ScriptedChat
from harness.engines.vllm.guard import descendants
from harness.tasks.tau2.sources import open_domain
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_vllm
KEY = "key-5eb1c0ffee"
Serve = Callable[[str], Endpoint]


@pytest.fixture(scope="module")
def opener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Opens checkpoints, with a server that wants a key."""
    os.environ["TEST_SERVER_KEY"] = KEY
    settings = cpu_settings(api_key_env="TEST_SERVER_KEY", max_loras=2, max_model_len=2048)
    logs = tmp_path_factory.mktemp("logs")
    with closing(Opener(OpenOptions(dtype="auto", device="cpu", serve=settings), log_folder=logs)) as opened:
        yield opened
    del os.environ["TEST_SERVER_KEY"]


@pytest.fixture(scope="module")
def served(opener: Opener, family: Path) -> Serve:
    """Puts a checkpoint of the family on the server."""

    def serve(name: str) -> Endpoint:
        [checkpoint] = find_checkpoints([str(family / name)])
        with opener.open(checkpoint) as subject:
            return subject.endpoint()

    return serve


def own_logprobs(opener: Opener, folder: Path, ids: list[int]) -> list[float]:
    from harness.engines.scoring.score import token_logprobs

    [checkpoint] = find_checkpoints([str(folder)])
    return token_logprobs(opener.models.load(checkpoint), ids)


def post(endpoint: Endpoint, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{endpoint.api_base}{path}", data=json.dumps({"model": endpoint.model, **body}).encode()
    )
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {endpoint.api_key}")
    with urllib.request.urlopen(request, timeout=120) as response:
        return dict(json.load(response))


def greedy(endpoint: Endpoint) -> str:
    """What a checkpoint goes on with."""
    asked = {"prompt": "Hello, I need help.", "max_tokens": 16, "temperature": 0}
    # Whether the model would end here depends on how it was trained; what it goes on with tells weights apart.
    body = post(endpoint, "/completions", {**asked, "ignore_eos": True, "skip_special_tokens": False})
    return str(body["choices"][0]["text"])


def gone(pids: list[int]) -> bool:
    """Whether they end; waits for it."""
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def processes(opener: Opener) -> list[int]:
    assert opener.serving.server is not None
    return opener.serving.server.pids()


def test_a_checkpoint_that_learnt_to_calls_its_tools(served: Serve) -> None:
    endpoint = served("tools")
    assert endpoint.dtype == "float32" and endpoint.device == "cpu" and endpoint.version
    wrong = []
    heard = {json.dumps(list(request.messages)): (request, answer) for request, answer in plays()}
    for request, answer in heard.values():
        body = {"messages": conversation(request), "tools": list(request.tools), "temperature": 0, "max_tokens": 100}
        for message in body["messages"]:
            for call in message.get("tool_calls") or ():
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        said = post(endpoint, "/chat/completions", body)["choices"][0]["message"]
        calls = [
            (call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in said.get("tool_calls") or ()
        ]
        wanted = [
            (call["function"]["name"], call["function"]["arguments"]) for call in wire(answer).get("tool_calls", ())
        ]
        if calls != wanted or (said["content"] or "").strip() != (answer.content or ""):
            wrong.append((said, wire(answer)))
    assert not wrong


def test_it_solves_the_tasks_of_tau2s_mock_domain(served: Serve, tmp_path: Path) -> None:
    endpoint = served("tools")
    model = f"hosted_vllm/{endpoint.model}"
    agent = http_chat(endpoint.api_base, model=model, api_key=endpoint.api_key, arguments={"temperature": 0.0})
    user = ScriptedChat(ReferencePlay(open_domain("mock").tasks()))
    report = run_plan(plan("mock"), tmp_path / "run", agent, user)
    reference = run_plan(plan("mock"), tmp_path / "reference", ScriptedChat(ReferencePlay(open_domain("mock").tasks())))
    wanted = {outcome.key.task_id: outcome.verdict for outcome in reference.results}
    assert {outcome.key.task_id: outcome.verdict for outcome in report.results} == wanted
    assert len(wanted) >= 8 and [v.reward for v in wanted.values() if v is not None].count(1.0) >= 6


def test_its_logprobs_are_our_engines(served: Serve, opener: Opener, family: Path) -> None:
    endpoint = served("tools")
    ids = list(range(100, 180))
    body = post(endpoint, "/completions", {"prompt": ids, "max_tokens": 1, "echo": True, "logprobs": 0})
    there = body["choices"][0]["logprobs"]["token_logprobs"][1:80]
    assert there == pytest.approx(own_logprobs(opener, family / "tools", ids), abs=2e-4)


def test_lm_eval_measures_it_over_http(served: Serve, family: Path, tmp_path: Path) -> None:
    endpoint = served("tools")
    (tmp_path / "docs.jsonl").write_text(
        "".join(
            json.dumps({"q": f"Question {i}: which?", "choices": [" this", " that"], "a": i % 2}) + "\n"
            for i in range(6)
        )
    )
    (tmp_path / "which.yaml").write_text(
        "task: which\noutput_type: multiple_choice\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'docs.jsonl'}}}}}\n"
        "test_split: test\ndoc_to_text: '{{q}}'\ndoc_to_choice: choices\ndoc_to_target: a\n"
        "target_delimiter: ''\nmetric_list: [{metric: acc}]\n"
    )
    model = (
        f"model={endpoint.model},base_url={endpoint.api_base}/completions,tokenizer={family / 'tools'},"
        "tokenizer_backend=huggingface,num_concurrent=2,max_length=2048"
    )
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", model]
    command += [
        "--tasks",
        "which",
        "--include_path",
        str(tmp_path),
        "--output_path",
        str(tmp_path / "out"),
        "--log_samples",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OPENAI_API_KEY": KEY})
    assert done.returncode == 0, done.stderr[-2000:]
    [path] = (tmp_path / "out").rglob("samples_which_*.jsonl")
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    from transformers import AutoTokenizer

    tok = AutoTokenizer.from_pretrained(family / "tools")
    with closing(Opener(OpenOptions(dtype="auto", device="cpu"))) as other:
        for sample in samples:
            for choice, (found, _) in zip(sample["doc"]["choices"], sample["filtered_resps"], strict=True):
                q, whole = (tok(text)["input_ids"] for text in (sample["doc"]["q"], sample["doc"]["q"] + choice))
                own = own_logprobs(other, family / "tools", whole)
                if whole[: len(q)] == q:
                    assert float(found) == pytest.approx(math.fsum(own[len(q) - 1 :]), abs=1e-3)
    assert len(samples) == 6


def test_weights_are_swapped_on_the_running_server(served: Serve, opener: Opener) -> None:
    first = greedy(served("tools"))
    before = processes(opener)
    noisy = served("noisy")
    assert noisy.how == "reload" and noisy.note is None
    other = greedy(noisy)
    back = served("tools")
    assert back.how == "reload" and greedy(back) == first != other
    assert served("tools").how == "kept"
    assert processes(opener) == before


def test_weights_that_are_nan_are_refused_and_the_sweep_goes_on(served: Serve) -> None:
    served("tools")
    for _ in range(2):  # the second time from memory
        with pytest.raises(CheckpointError, match="nan gives log-probs that are not finite"):
            served("nan")
    assert served("noisy").how == "reload"


@pytest.mark.parametrize("victim", [pytest.param("VLLM::Worker", marks=pytest.mark.long), "vllm serve"])
def test_a_killed_server_is_there_again_when_it_is_asked_for(served: Serve, opener: Opener, victim: str) -> None:
    endpoint = served("noisy")
    text = greedy(endpoint)
    before = processes(opener)
    named = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in before}
    [pid] = [pid for pid, name in named.items() if victim in name][:1]
    os.kill(pid, signal.SIGKILL)
    answer = None
    for _ in range(20):  # as a client does that gets no answer
        try:
            answer = greedy(served("noisy"))
            break
        except (urllib.error.URLError, OSError, ValueError):
            time.sleep(0.2)
    assert answer == text
    assert gone(before)


def test_adapters_lie_beside_each_other_on_one_server(served: Serve, opener: Opener) -> None:
    first = served("one")
    before = processes(opener)
    second = served("two")
    assert second.how == "adapter" and processes(opener) == before
    said = {name: greedy(endpoint) for name, endpoint in (("one", first), ("two", second))}
    base = served("tools")
    assert base.how == "kept" and base.model != first.model != second.model
    assert len({greedy(base), *said.values()}) == 3
    assert served("one").how == "kept" and greedy(first) == said["one"]


def test_the_key_is_asked_for_and_stands_in_no_command_line_and_no_log(served: Serve, opener: Opener) -> None:
    endpoint = served("one")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{endpoint.api_base}/models", timeout=10)
    assert KEY not in repr(endpoint)
    assert opener.serving.log_folder is not None
    logs = sorted(opener.serving.log_folder.iterdir())
    assert logs and not [log for log in logs if KEY in log.read_text(errors="replace")]
    everyone = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert any(b"serve" in line for line in everyone) and not [line for line in everyone if KEY.encode() in line]


def test_nothing_is_left_when_the_opener_is_closed(opener: Opener, served: Serve) -> None:
    served("one")
    before = processes(opener)
    assert len(before) >= 3
    opener.close()
    assert gone(before)


def harness_serve(folder: Path, log: Path, *more: str) -> subprocess.Popen[str]:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from harness.cli import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "serve",
        str(folder),
        "--command",
        str(vllm_environment()),
        "--log",
        str(log),
    ]
    return subprocess.Popen(
        [*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **CPU}
    )


def test_harness_serve_prints_the_address_and_ends_with_ctrl_c(family: Path, tmp_path: Path) -> None:
    started = harness_serve(family / "one", tmp_path / "log", "--", "--enforce-eager", "--max-model-len", "1024")
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+/v1) one\n", line)
        assert found, line + started.communicate(timeout=60)[1]
        endpoint = Endpoint(api_base=found[1], model="one", how="external")
        assert greedy(endpoint)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            post(endpoint, "/../collective_rpc", {"method": "x"})
        below = descendants(started.pid)
        assert len(below) >= 4
        started.send_signal(signal.SIGINT)
        assert started.wait(30) == 130
        assert gone(below)
    finally:
        started.kill()
        started.communicate()


@pytest.mark.long  # the next one kills the same processes, children first, once it serves
def test_a_harness_that_is_killed_leaves_no_process(family: Path, tmp_path: Path) -> None:
    started = harness_serve(family / "tools", tmp_path / "log", "--", "--enforce-eager")
    deadline = time.monotonic() + 120
    while "Worker" not in (tmp_path / "log").read_text(errors="replace") if (tmp_path / "log").exists() else True:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    below = descendants(started.pid)
    assert len(below) >= 3
    started.kill()
    started.communicate()
    assert gone(below)


def test_children_killed_before_the_harness_leave_no_process(family: Path, tmp_path: Path) -> None:
    """As Ray and epilogs of Slurm end a job: first what a process started, then the process."""
    started = harness_serve(family / "tools", tmp_path / "log", "--", "--enforce-eager", "--max-model-len", "1024")
    try:
        assert started.stdout is not None and started.stdout.readline().startswith("http://")
        below = descendants(started.pid)
        assert len(below) >= 4
        children = [
            pid
            for pid in below
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == started.pid
        ]
        for pid in [*children, started.pid]:
            os.kill(pid, signal.SIGKILL)
        assert gone(below)
    finally:
        started.kill()
        started.communicate()
