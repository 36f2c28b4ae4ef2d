"""Programs that a model wrote: judged as code_eval judges them, and kept from doing harm."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.tasks.suites.code_eval import chance_of_one, mbpp_examples, pass_at_1, pass_at_k
from harness.tasks.suites.sandbox import protection, run_program

pytestmark = pytest.mark.skipif(bool(protection().refusal), reason=str(protection().refusal))


@pytest.mark.parametrize(
    ("program", "passed"),
    [
        ("def f(x):\n    return x + 1\nassert f(1) == 2", True),
        ("import math, collections, heapq, re, typing, threading", True),
        ("import numpy\nassert numpy.arange(3).sum() == 3", True),
        ("import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()", True),
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()", True),
        ("import doctest\nassert doctest.testmod().failed == 0", True),
        ("import asyncio, time\nasync def f():\n    await asyncio.to_thread(time.sleep, 0.2)\nasyncio.run(f())", True),
        ("import contextlib, os\nwith contextlib.redirect_stdout(open(os.devnull, 'w')):\n    print(1)", True),
        ('import doctest\ndef f():\n    """\n    >>> f()\n    """\nassert not doctest.testmod().failed', True),
        ("assert 1 == 2", False),
        ("this is no python", False),
        ("import sys\nsys.exit(0)", False),
        ("import os\nos._exit(0)", False),
        ("print('passed')\nraise ValueError", False),
        ("if __name__ == '__main__':\n    raise ValueError", True),  # as code_eval runs it
        ("input()", False),
    ],
)
def test_a_program_passes_if_it_runs_to_its_end(program: str, passed: bool) -> None:
    assert run_program(program).passed is passed


def test_a_program_run_as_main_is_the_main_module() -> None:
    program = (
        "import pickle\nfrom typing import get_type_hints\nclass A:\n    b: 'B'\nclass B:\n    pass\n"
        "assert get_type_hints(A) == {'b': B} and type(pickle.loads(pickle.dumps(A()))) is A"
    )
    assert run_program(program, as_main=True).reason is None
    beside = {"solution.py": b"def f():\n    return 1"}
    assert run_program("from solution import f\nassert f() == 1", as_main=True, files=beside).reason is None


def test_a_program_cannot_reach_the_network() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        for program in (
            f"import socket\nsocket.create_connection(('127.0.0.1', {port}))",
            "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
            "import socket\nsocket.socket(socket.AF_UNIX)",
            "import socket\na, b = socket.socketpair(type=socket.SOCK_DGRAM)\na.sendto(b'x', '/dev/log')",
        ):
            ran = run_program(program)
            assert not ran.passed and "PermissionError" in str(ran.reason), program
        listening.settimeout(0)
        with pytest.raises(BlockingIOError):
            listening.accept()


AS_MAIN = {
    "its tests": "def f():\n    '>>> f()\\n1'\n    return 1\nimport doctest\nassert doctest.testmod() == (0, 1)",
    "an instance": "import pickle\nclass A: pass\nassert type(pickle.loads(pickle.dumps(A()))) is A",
    "a name in an annotation": "import typing\nclass A:\n    x: 'B'\nclass B: pass\nassert typing.get_type_hints(A)['x'] is B",
}


@pytest.mark.parametrize("program", AS_MAIN.values(), ids=AS_MAIN.keys())
def test_a_program_that_is_run_as_main_is_the_main_module(program: str) -> None:
    ran = run_program(program, as_main=True)
    assert ran.passed, ran


@pytest.mark.parametrize("writable", [True, False], ids=["landlock", "without landlock"])
def test_a_program_cannot_write_outside_its_folder(tmp_path: Path, writable: bool) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    for program in (
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"open({str(victim)!r}, 'a').write('x')",
        f"import os\nos.unlink({str(victim)!r})",
        f"import os\nos.rename({str(victim)!r}, 'mine')",
        f"import os\nos.truncate({str(victim)!r}, 0)",
        f"import os\nos.chmod({str(victim)!r}, 0)",
        f"import os\nos.utime({str(victim)!r}, (0, 0))",
        f"import os\nos.symlink({str(victim)!r}, 'mine')\nos.chmod('mine', 0)",
        f"import os\nos.mkdir({str(tmp_path / 'folder')!r})",
        f"import os\nos.symlink('/etc', {str(tmp_path / 'link')!r})",
        f"import os\nos.link({str(victim)!r}, 'mine')\nopen('mine', 'w')",
    ):
        assert not run_program(program, writable=writable).passed, program
    assert [path.name for path in tmp_path.iterdir()] == ["victim"] and victim.read_text() == "whole"


def test_a_program_can_use_its_own_folder_and_nothing_of_it_stays() -> None:
    if protection().files == "nowhere":
        pytest.skip("this kernel has no Landlock, so nothing can be written at all")
    program = "open('mine', 'w').write('x')\nassert open('mine').read() == 'x'"
    assert run_program(program).passed
    copied = "import os, shutil\nshutil.copy('mine', 'other')\nos.mkdir('a')\nshutil.copy2('mine', 'a')\nshutil.copytree('a', 'b')"
    assert run_program(f"{program}\n{copied}\nassert open('b/mine').read() == 'x'").reason is None
    assert "PermissionError" in str(run_program(program, writable=False).reason)
    assert run_program("import os, math, numpy\nassert open(os.__file__).read()", writable=False).passed


def test_a_program_cannot_start_or_harm_processes() -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for program in (
            "import os\nos.fork()",
            "import subprocess\nsubprocess.run(['true'])",
            "import os\nos.execv('/bin/true', ['true'])",
            f"import os\nos.kill({victim.pid}, {int(signal.SIGKILL)})",
            f"import os\nos.kill({os.getpid()}, 0)",
            "import os\nos.setsid()",
        ):
            ran = run_program(program)
            assert not ran.passed and "PermissionError" in str(ran.reason), program
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_time_and_memory_have_an_end() -> None:
    assert run_program("while True: pass", time_s=0.5).reason == "timed out"
    assert run_program("import time\ntime.sleep(10)", time_s=0.5).reason == "timed out", "left alone, it would pass"
    assert "MemoryError" in str(run_program("x = bytearray(2**30)", memory_bytes=2**29).reason)
    assert run_program("x = bytearray(2**20)", memory_bytes=2**29).passed


def test_a_program_that_swallows_its_timeout_is_ended() -> None:
    program = (
        "import time\nwhile time.process_time() < 10:\n    try:\n        for i in range(10**6): i + i\n"
        "    except BaseException:\n        continue"
    )
    assert not run_program(program, time_s=0.5).passed, "left alone, it would pass"


FORGED = {
    "patched functions": "import os, signal\nos.write = os._exit = signal.setitimer = lambda *_: None\nassert False",
    "another main": "import __main__\n__main__.tell = __main__.run = lambda *_: None\nassert False",
    "builtins": "import builtins\nbuiltins.BaseException = ()\nbuiltins.isinstance = lambda *_: 1 / 0\nassert False",
    "the caller's frame": "import sys\nf = sys._getframe()\nwhile f:\n    f.f_globals.update(tell=print)\n    f.f_locals.update(error=None)\n"
    "    f = f.f_back\nassert False",
    "a trace function": "import sys\nf = sys._getframe(1)\nf.f_trace = lambda *_: None\nsys.settrace(lambda *_: f.f_trace)\nassert False",
    "the pipes": "import os\nfor n in range(64):\n    try: os.write(n, b'passed')\n    except OSError: pass\nassert False",
    "waiting where the end is": "import os\nfor n in range(3, 64):\n    try: os.fstat(n)\n    except OSError: continue\n    os.read(n, 2)",
    "waiting in C code": "import os, operator\nfrom collections import deque\nfrom functools import partial\n"
    "for n in range(3, 64):\n    try: os.fstat(n)\n    except OSError: continue\n"
    "    deque(map(operator.call, (partial(os.read, n, 2),)), 0)",
    "an exit with 0": "import os\nos._exit(0)",
    "steps found in memory": "import gc, functools\nfor o in gc.get_objects():\n    if isinstance(o, functools.partial):\n"
    "        o.__setstate__((int, (), {}, None))\nassert False",
    "the hook that refuses trace functions": "import gc, sys\nfor o in gc.get_objects():\n"
    "    if type(o).__name__ == 'function' and o.__name__ == '<lambda>' and 'sandbox_child' in o.__code__.co_filename:\n"
    "        o.__code__ = (lambda event, _: None).__code__\n"
    "def t(f, e, _):\n    if e == 'line' and f.f_code.co_name == '<module>' and f.f_lineno == 10: f.f_lineno = 11\n    return t\n"
    "sys._getframe().f_trace = t\nsys.settrace(t)\nassert gc is None\nx = 1\nx = 2",
    "assertions overwritten in memory": "import ctypes, dis, sys\nc = sys._getframe().f_code\nread = ctypes.string_at\n"
    "at = next(i.offset for i in dis.get_instructions(c) if i.opname == 'RAISE_VARARGS')\n"
    "while (n := read(id(c), sys.getsizeof(c)).find(c.co_code[at - 2 : at + 2])) >= 0:\n"
    "    ctypes.memmove(id(c) + n + 2, bytes([dis.opmap['POP_TOP'], 0]), 2)\nassert at is None",
    "a hook at the end": "import sys, atexit\nsys.excepthook = sys.unraisablehook = print\natexit.register(print)\nraise SystemExit(0)",
}


@pytest.mark.parametrize("program", FORGED.values(), ids=FORGED.keys())
def test_a_program_cannot_write_its_own_verdict(program: str) -> None:
    assert not run_program(program, time_s=0.5).passed


AFTER_ITS_END = {
    "a handler of a signal": "signal.signal(signal.SIGVTALRM, late)\nsignal.setitimer(signal.ITIMER_VIRTUAL, 0.3)",
    "a hook of an exception": "sys.excepthook = late\n"
    "threading.Thread(target=lambda: (time.sleep(0.3), _thread.interrupt_main()), daemon=True).start()",
    "a hook at exit": "atexit.register(late)",
}


@pytest.mark.parametrize("program", AFTER_ITS_END.values(), ids=AFTER_ITS_END.keys())
def test_nothing_of_a_program_runs_once_it_has_failed(program: str) -> None:
    """It could wait at the very depth at which a program that has passed waits."""
    begin = (
        "import _thread, atexit, os, signal, sys, threading, time\nwrite, held = os.write, []\nfor n in range(3, 64):\n"
        "    try: os.fstat(n)\n    except OSError: continue\n    held.append(n)\n"
        "def late(*_):\n    for n in held:\n        try: write(n, b'still here')\n        except OSError: pass\n"
        "os.write = lambda *_: None\n"
    )
    ran = run_program(f"{begin}{program}\nassert os is None", time_s=0.5)
    assert not ran.passed and ran.reason in ("ended without a verdict", "timed out")


def test_a_program_that_changes_names_and_runs_to_its_end_passes() -> None:
    assert run_program(
        "import os, signal, sys\nos.write = os.read = signal.setitimer = None\nsys.modules.clear()", time_s=0.5
    ).passed


def test_a_program_cannot_touch_the_limits_of_other_processes() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for program in (
        "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (64, 64))",
        "import os\nos.sched_setaffinity(os.getppid(), {0})",
        "import os\nos.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0))",
    ):
        ran = run_program(program)
        assert not ran.passed and "PermissionError" in str(ran.reason), program
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    assert run_program("import resource\nassert resource.getrlimit(resource.RLIMIT_CPU)[0] > 0").passed


HOARDS = {
    "many files": "n = 0\nwhile True:\n    open(f'f{n}', 'wb').write(bytes(2**23) + b'x' * 2**23)\n    n += 1",
    "empty files": "n = 0\nwhile True:\n    open(f'f{n}', 'w')\n    n += 1",
    "folders": "import os\nn = 0\nwhile True:\n    os.mkdir(f'f{n}')\n    n += 1",
    "deleted files": "import os, time\nheld = []\nfor n in range(40):\n    held.append(open('f', 'wb'))\n"
    "    held[-1].write(b'x' * 2**24)\n    os.unlink('f')\ntime.sleep(30)",
}


@pytest.mark.parametrize("program", HOARDS.values(), ids=HOARDS.keys())
def test_a_program_has_a_share_of_the_disk_and_no_more(program: str) -> None:
    if protection().files == "nowhere":
        pytest.skip("this kernel has no Landlock, so nothing can be written at all")
    ran = run_program(program, time_s=20.0)
    assert not ran.passed and "more than" in str(ran.reason), ran.reason


def test_memory_beside_its_address_space_cannot_be_had() -> None:
    assert "PermissionError" in str(run_program("import os\nos.memfd_create('x')").reason)


def test_nothing_of_the_environment_is_shown() -> None:
    assert run_program(
        "import os\nassert set(os.environ) <= {'PATH', 'HOME', 'TMPDIR', 'OPENBLAS_NUM_THREADS', 'LC_CTYPE'}"
    ).passed


def test_pass_at_k_is_the_unbiased_estimate() -> None:
    good, bad = "def f(): return 1", "def f(): return 2"
    assert pass_at_k(["assert f() == 1"], [[good, bad, bad]], [1, 2]) == pytest.approx(
        {"pass@1": 1 / 3, "pass@2": 2 / 3}
    )
    assert pass_at_k(["assert f() == 1", "assert f() == 2"], [[good], [good]], [1]) == {"pass@1": 0.5}
    assert pass_at_1("assert f() == 1", [good]) == 1.0
    assert pass_at_1("assert f() == 1", [f"{bad}\nif False: \\"]) == 0.0, "it takes the line of the test"
    assert [chance_of_one(5, passed, 1) for passed in (0, 2, 5)] == pytest.approx([0.0, 0.4, 1.0])
    assert chance_of_one(4, 3, 2) == 1.0


def test_mbpps_examples_are_lm_evals_own() -> None:
    examples = mbpp_examples()
    assert [example["task_id"] for example in examples] == [2, 3, 4]
    assert all(len(example["test_list"]) == 3 and example["is_fewshot"] for example in examples)
    for example in examples:
        assert run_program("\n".join([example["code"], *example["test_list"]])).passed
