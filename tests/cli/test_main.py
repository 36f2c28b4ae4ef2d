"""`python -m harness` is the command line, and a shell can complete it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import harness

ROOT = str(Path(harness.__file__).resolve().parents[1])


def child(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
        check=False,
    )


def test_the_package_is_a_command() -> None:
    done = child("--version")
    assert done.returncode == 0 and done.stdout == f"harness {harness.__version__}\n"
    assert child("no-such-verb").returncode == 2


def test_a_shell_completes_verbs() -> None:
    done = child(_HARNESS_COMPLETE="complete_bash", COMP_WORDS="harness s", COMP_CWORD="1")
    assert set(done.stdout.split()) == {"score", "serve", "show", "schema"}
