"""harness serve, against a program that behaves like vLLM: it ends when it is told to, wherever it was started from."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import fake_server
import pytest
import tiny

from harness.engines.vllm.guard import descendants


def started_again(serving: int, before: list[int], root: str) -> list[int]:
    """The processes of the server that answers in the place of another one."""
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        below = descendants(serving)
        if len(below) == 2 and not set(below) & set(before):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{root}/health", timeout=5):
                return below


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_it_ends_in_the_background_of_a_script_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    folder = tiny.save(tmp_path / "model", tiny.llama(1))
    (folder / "weights.json").write_text("1")
    command = fake_server.command(tmp_path)
    words = [
        sys.executable,
        "-c",
        "from harness.cli import main; main()",
        "serve",
        str(folder),
        "--command",
        str(command),
    ]
    started = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell starts what ends in &
    )
    try:
        assert started.stdout is not None
        address = started.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        below = descendants(started.pid)
        assert len(below) == 2
        if number == signal.SIGTERM:
            os.kill(below[-1], signal.SIGSTOP)  # a server that is up and does not answer is started again
            below = started_again(started.pid, below, address.removesuffix("/v1"))
        os.kill(started.pid, number)
        assert started.wait(30) == (130 if number == signal.SIGTERM else -number)
        deadline = time.monotonic() + 5
        while any(Path(f"/proc/{pid}").exists() for pid in below):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        started.kill()
        started.communicate()
