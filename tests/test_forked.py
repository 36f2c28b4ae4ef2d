"""A forked child is a process of its own: what a test would see of a fresh interpreter, it sees."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest

PYTHON = [sys.executable, "-c"]


def test_arguments_folder_environment_and_threads_are_those_asked_for(tmp_path: Path) -> None:
    code = (
        "import json, os, sys, torch\n"
        "print(json.dumps([sys.argv, os.getcwd(), dict(os.environ), torch.get_num_threads(), sys.path[:2], os.getpid()]))"
    )
    environment = {"OMP_NUM_THREADS": "2", "PYTHONPATH": "/extra"}
    with forked.Popen([*PYTHON, code, "a b", "ü"], cwd=tmp_path, env=environment) as process:
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert json.loads(output) == [["-c", "a b", "ü"], str(tmp_path), environment, 2, ["", "/extra"], process.pid]
    assert process.pid != os.getpid()


def test_modules_and_scripts_run_as_main(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys, beside\nprint(__name__, sys.argv[1:], beside.__name__)\n")
    (tmp_path / "beside.py").touch()
    for command in (["-m", "program", "x"], [str(tmp_path / "program.py"), "x"]):
        done = forked.run([sys.executable, *command], cwd=tmp_path, check=True)
        assert done.stdout == "__main__ ['x'] beside\n"


@pytest.mark.parametrize(
    ("code", "exit_code", "errors"),
    [
        ("pass", 0, ""),
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os._exit(3)", 3, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
    ],
)
def test_exit_codes_are_those_of_a_program(code: str, exit_code: int, errors: str) -> None:
    done = forked.run([*PYTHON, code])
    assert done.returncode == exit_code and errors in done.stderr
    if exit_code:
        with pytest.raises(subprocess.CalledProcessError):
            forked.run([*PYTHON, code], check=True)


def test_signals_arrive_and_exit_handlers_run() -> None:
    code = "import atexit, time; atexit.register(print, 'bye'); print('ready', flush=True); time.sleep(600)"
    with forked.Popen([*PYTHON, code]) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert output == "bye\n" and "KeyboardInterrupt" in errors and process.returncode == -signal.SIGINT


def test_what_takes_too_long_is_ended() -> None:
    with forked.Popen([*PYTHON, "import time; time.sleep(600)"]) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=0.1)
        assert process.wait() == -signal.SIGKILL


def test_limits_hold_in_the_child_alone(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    code = "f = open('f', 'wb', buffering=0); f.write(bytes(100)); f.write(b'x')"
    done = forked.run([*PYTHON, code], cwd=tmp_path, limits={resource.RLIMIT_FSIZE: (10, before[1])})
    assert done.returncode == 1 and "File too large" in done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
    assert forked.run([*PYTHON, code], cwd=tmp_path).returncode == 0


def test_nothing_of_ours_is_loaded_already() -> None:
    code = "import sys; print([name for name in sys.modules if name.split('.')[0] in ('harness', 'tiny', 'pytest')])"
    assert forked.run([*PYTHON, code], check=True).stdout == "[]\n"
