"""Two processes never measure the same thing into one folder: the second waits until the first has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import StateError
from harness.core.held_folder import awaited_file

HOLD = """
import os, sys, time
from pathlib import Path
from harness.core.held_folder import awaited_file
with awaited_file(Path(sys.argv[1]), wait_s=0):
    if os.fork() == 0:
        time.sleep(600)
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(1)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the file, with a child that outlives it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    yield process
    process.stdin.close()
    process.stdout.close()
    process.wait()
    os.killpg(process.pid, signal.SIGKILL)


def test_a_file_is_waited_for_until_its_process_ends(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    with pytest.raises(StateError, match="held by another process"), awaited_file(tmp_path / "file", wait_s=0):
        pass
    holder.kill()
    with awaited_file(tmp_path / "file", wait_s=30):
        assert (tmp_path / "file").exists()
    assert not (tmp_path / "file").exists()


def test_a_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot write"), awaited_file(tmp_path / "none" / "file", wait_s=0):
        pass
