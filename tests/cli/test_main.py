"""`python -m harness` is the command line, and a shell can complete it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tiny

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


def test_a_folder_of_the_packages_name_in_the_working_directory_shadows_neither_command_nor_its_processes(
    tmp_path: Path,
) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("raise RuntimeError('somebody else's package')")
    (tmp_path / "spec.yaml").write_text("components: [{name: prose, kind: logprob, field: stdlib_prose, limit: 2}]\n")
    tiny.save(tmp_path / "run" / "checkpoint-1", tiny.llama(1))
    tiny.save(tmp_path / "run" / "checkpoint-2", tiny.llama(2))
    # As the console script that pip writes: its folder, not the working directory, stands on the path.
    console = ["-P", "-c", "from harness.cli import main; main()"]
    for arguments, said in (
        (["prefetch", "run", "--spec", "spec.yaml"], "component prose"),
        (["score", "run", "--spec", "spec.yaml", "--out", "out", "--workers", "2"], "2 vector(s) appended"),
    ):
        done = subprocess.run(
            [sys.executable, *console, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ROOT},
            check=False,
        )
        assert done.returncode == 0 and said in done.stdout, done.stderr
