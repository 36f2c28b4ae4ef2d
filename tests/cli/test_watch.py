"""harness watch, as a user starts it beside a training."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import forked
import tiny

from harness import read_feed
from harness.core.errors import EXIT_INTERRUPTED, EXIT_OK

MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from harness.cli import main; main()"


def start(folder: Path, *more: str) -> forked.Popen:
    (folder.parent / "f.jsonl").write_text('{"q": "a", "r": " b"}\n')
    (folder.parent / "spec.yaml").write_text("components: [{name: f, kind: logprob, field: f.jsonl}]\n")
    command = [sys.executable, "-c", MAIN, "watch", str(folder), "--spec", str(folder.parent / "spec.yaml")]
    options = ["--out", str(folder.parent / "out"), "--interval", "0.1", "--settle", "0.2", *more]
    return forked.Popen([*command, *options])


def wait_for(path: Path, lines: int, process: forked.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_text().count("\n") < lines:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)


def test_each_checkpoint_is_in_the_feed_soon_after_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tiny.save(folder / "checkpoint-1", tiny.llama(1))
    feed = tmp_path / "out" / "rewards.jsonl"
    with start(folder) as process:
        wait_for(feed, 1, process)
        tiny.save(folder / "checkpoint-2", tiny.llama(2))
        wait_for(feed, 2, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == EXIT_INTERRUPTED and "Traceback" not in errors, errors
    with start(folder, "--idle-timeout", "0.5") as again:
        output, errors = again.communicate(timeout=120)
        assert again.returncode == EXIT_OK, errors
    assert f"0 vector(s) appended to {feed}, 2 were there before" in output
    vectors = read_feed(feed)
    assert [vector.step for vector in vectors] == [1, 2]
    assert vectors[1].gain == vectors[1].scalar - vectors[0].scalar
