"""A run that was killed asks again only for what was in flight, through the whole command as well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
from inspect_tasks import asked, component, measured, rows, shelves, text_of, write_words

from harness import read_feed
from harness.cli import run
from harness.components.inspect.journal import FILE
from harness.core.chat import ChatAnswer, ChatRequest
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, DataError
from harness.engines.scripted.server import ScriptedServer, serving
from harness.engines.scripted.trouble import Trouble

RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from inspect_tasks import component, measured
from served import ServedSubject
from harness.core.endpoint import Endpoint
folder = Path({folder!r})
where = Endpoint(api_base={url!r}, model="m", how="external", parallel=4)
measured(component(folder, task="words.py@words"), ServedSubject(None, None, where), folder / "s")
"""


@pytest.mark.slow
def test_killed_again_and_again_it_asks_only_for_what_was_in_flight(tmp_path: Path) -> None:
    n, parallel, kills = 40, 4, 2
    write_words(tmp_path, n)
    with serving(ScriptedServer(shelves, latency_s=0.15)) as server:
        tests = str(Path(__file__).parents[2])
        program = RUN.format(tests=tests, folder=str(tmp_path), url=server.url)
        for kill in range(1, kills + 1):
            process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "HF_HUB_OFFLINE": "1"})
            until = time.monotonic() + 120
            while server.requests < kill * 12 and process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            assert process.poll() is None, "it was to be killed while it runs"
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        lines = (tmp_path / "s" / FILE).read_bytes().count(b"\n") - 1
        before = server.requests
        assert 0 < lines < n and before - lines <= kills * parallel
        subprocess.run([sys.executable, "-c", program], check=True)
        assert server.requests - before == n - lines
    with asked() as (subject, server):
        outcome = measured(component(tmp_path, task="words.py@words"), subject, tmp_path / "s")
    assert server.requests == 0
    assert (outcome.measurement.status, outcome.measurement.raw, len(rows(outcome))) == ("ok", 0.5, n)


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once_and_keeps_what_was_asked(tmp_path: Path) -> None:
    """Inspect catches the interrupt and returns; what comes back is no measurement."""
    n = 40
    write_words(tmp_path, n)
    with serving(ScriptedServer(shelves, latency_s=0.15)) as server:
        program = RUN.format(tests=str(Path(__file__).parents[2]), folder=str(tmp_path), url=server.url)
        process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 120
        while server.requests < 12 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode in (130, -signal.SIGINT), said
    assert server.requests < n
    with asked() as (subject, server):
        outcome = measured(component(tmp_path, task="words.py@words"), subject, tmp_path / "s")
    assert 0 < server.requests < n and outcome.measurement.raw == 0.5


def test_a_task_that_ends_the_process_costs_its_component_and_is_no_interruption(tmp_path: Path) -> None:
    """And the process comes to its end: no thread is left that it waits for."""
    path = write_words(tmp_path)
    path.write_text(path.read_text().replace('raise KeyError("a bug of the task")', "raise SystemExit(3)"))
    with serving(ScriptedServer(shelves)) as server:
        program = RUN.format(tests=str(Path(__file__).parents[2]), folder=str(tmp_path), url=server.url)
        program = program.replace("words.py@words", "words.py@breaks")
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "EngineError" in ended.stderr.splitlines()[-1], ended.stderr
    assert "words.py@breaks ends the process (SystemExit: 3)" in ended.stderr


def test_a_torn_line_costs_one_sample_and_a_broken_one_is_named(tmp_path: Path) -> None:
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words")
    with asked() as (subject, _):
        measured(it, subject, tmp_path / "s")
    journal = tmp_path / "s" / FILE
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    with asked() as (subject, server):
        assert measured(it, subject, tmp_path / "s").measurement.raw == 0.5
    assert server.requests == 1
    first, _, rest = whole.partition(b"\n")
    journal.write_bytes(first + b"\n{broken\n" + rest)
    with asked() as (subject, _), pytest.raises(DataError, match=r"samples.jsonl line 2|not valid JSON"):
        measured(it, subject, tmp_path / "s")


@pytest.mark.parametrize("end", [0, 1, 50, -1, None])
def test_a_header_that_was_cut_off_is_written_anew(end: int | None, tmp_path: Path) -> None:
    """What a process left that was killed before its first sample."""
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words")
    with asked() as (subject, server):
        measured(it, subject, tmp_path / "s")
        journal = tmp_path / "s" / FILE
        header = journal.read_bytes().partition(b"\n")[0]
        journal.write_bytes(header + b"\n" if end is None else header[:end])
        assert measured(it, subject, tmp_path / "s").measurement.raw == 0.5
        assert measured(it, subject, tmp_path / "s").measurement.raw == 0.5
    assert server.requests == 16


def write_spec(folder: Path, url: str, **more: Any) -> Path:
    write_words(folder)
    spec = {
        "components": [
            {"name": "words", "kind": "inspect", "task": "words.py@words", "attempts": 1},
            {"name": "tools", "kind": "inspect", "task": "words.py@tools", "attempts": 1, "role": "source"},
        ],
        "serve": {"url": url, "verify": False},
        **more,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "spec.yaml").write_text(json.dumps(spec))
    return folder / "spec.yaml"


def test_the_whole_command_resumes_and_completes_what_was_open(tmp_path: Path) -> None:
    answered: list[str] = []

    def counted(request: ChatRequest) -> ChatAnswer:
        if "shelf" not in text_of(request):  # the look at a server of one's own
            return ChatAnswer(content="yes")
        answered.append(text_of(request))
        return shelves(request)

    ill = [True]
    bad = Trouble(kind="500", when=lambda _, request: ill[0] and "shelf 3?" in str(request.messages[-1]["content"]))
    for step in (1, 2):
        tiny.save(tmp_path / "run" / f"checkpoint-{step}", tiny.llama(step))
    with serving(ScriptedServer(counted, troubles=[bad])) as server:
        spec = write_spec(tmp_path, server.url)
        command = ["score", str(tmp_path / "run"), "--spec", str(spec), "--out", str(tmp_path / "out"), "--quiet"]
        assert run(command) == EXIT_INCOMPLETE
        first = read_feed(tmp_path / "out")
        assert [one.components[0].status for one in first] == ["partial", "partial"]
        assert len(answered) == 32
        assert run(command) == EXIT_INCOMPLETE and len(answered) == 32
        ill[0] = False
        assert run([*command, "--retry-failed"]) == EXIT_OK
        assert len(answered) == 36, "two components of two checkpoints lacked one sample each"
    feed = read_feed(tmp_path / "out")
    assert [[one.raw for one in vector.components] for vector in feed] == [[0.5, 0.5], [0.5, 0.5]]
    assert feed[1].components[0].change == 0.0 and feed[1].components[0].n_paired == 8
