"""Child processes that need not import torch and its kin again: forked from a server that has them loaded.

`run` and `Popen` take the commands that tests give to subprocess (`[sys.executable, "-c", code, ...]`, `-m module` or a script) and
give back the same results. Such a child is a process of its own: its arguments, folder, environment, files, limits and signals are
those asked for, and only third-party modules are loaded already. What a fresh interpreter is needed for stays with subprocess: what
the program imports, and what the interpreter or a library reads from the environment when it starts ($HF_HOME is the session's).

One server serves a test session, all workers of pytest-xdist included: `ensure_server` starts it and names its socket in
$HARNESS_FORK_SERVER. It runs no operation of torch before it forks and has no thread of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

VARIABLE = "HARNESS_FORK_SERVER"
NUMBER = struct.Struct("i")
PRELOADED = (
    "torch", "scipy.stats", "pandas", "pyarrow.parquet", "pyarrow.dataset", "datasets", "transformers", "peft",
    "transformers.models.llama.modeling_llama", "lm_eval.evaluator", "lm_eval.models.huggingface",
)  # fmt: skip


def ensure_server() -> str:
    """The address of this session's server, started if there is none. It ends with the process that started it."""
    if VARIABLE not in os.environ:
        address = str(Path(tempfile.mkdtemp(prefix="fork-server-")) / "socket")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, __file__, address]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert server.stdout is not None and server.stdout.readline() == b"listening\n"
        atexit.register(server.communicate)  # which closes its standard input
        os.environ[VARIABLE] = address
    return os.environ[VARIABLE]


class Popen:
    """subprocess.Popen, of text, for a forked child. `stdin` is empty, `stdout` and `stderr` are pipes or files; `limits` for setrlimit."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | IO[Any] = subprocess.PIPE,
        stderr: int | IO[Any] = subprocess.PIPE,
        limits: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        assert command[0] == sys.executable, "another program is a matter for subprocess"
        request = {
            "arguments": list(command[1:]),
            "cwd": os.path.abspath(cwd or "."),  # noqa: PTH100 - a Path would drop a name's bytes
            "environment": dict(os.environ if env is None else env),
            "limits": list((limits or {}).items()),
        }
        self.returncode: int | None = None
        self.stdout, output = _pipe(stdout)
        self.stderr, errors = _pipe(stderr)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(ensure_server())
        with tempfile.TemporaryFile() as written, Path(os.devnull).open("rb") as empty:
            written.write(json.dumps(request).encode())
            written.flush()
            socket.send_fds(self._server, [b"x"], [written.fileno(), empty.fileno(), output.fileno(), errors.fileno()])
            self.pid = self._hear()
        for given, ours in ((stdout, output), (stderr, errors)):
            if given == subprocess.PIPE:
                ours.close()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; negative for the signal that ended it."""
        if self.returncode is None:
            self._server.settimeout(timeout)
            try:
                self.returncode = self._hear()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("the forked child", timeout or 0) from None
            self._server.close()
        return self.returncode

    def _hear(self) -> int:
        (number,) = NUMBER.unpack(self._server.recv(NUMBER.size))
        return int(number)

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(timeout=0)
        return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Everything it wrote, once it has ended."""
        found = {"stdout": "", "stderr": ""}

        def read(name: str, stream: IO[str]) -> None:
            found[name] = stream.read()

        pipes = [("stdout", self.stdout), ("stderr", self.stderr)]
        readers = [threading.Thread(target=read, args=pipe) for pipe in pipes if pipe[1] and not pipe[1].closed]
        for reader in readers:
            reader.start()
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            for reader in readers:
                reader.join()
            self._close()
        return found["stdout"], found["stderr"]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _close(self) -> None:
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Popen:
        return self

    def __exit__(self, *failure: object) -> None:
        self._close()
        self.wait()


def _pipe(given: int | IO[Any]) -> tuple[IO[str] | None, IO[Any]]:
    """Our end, if there is one, and the child's."""
    if not isinstance(given, int):
        return None, given
    assert given == subprocess.PIPE
    reading, writing = os.pipe()
    return open(reading, encoding="utf-8"), open(writing, "wb")  # noqa: PTH123


def run(
    command: Sequence[str], *, timeout: float | None = None, check: bool = False, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """subprocess.run(..., capture_output=True, text=True) for a forked child."""
    with Popen(command, **settings) as process:
        output, errors = process.communicate(timeout)
    done = subprocess.CompletedProcess(command, process.wait(), output, errors)
    if check:
        done.check_returncode()
    return done


# The server's side.


class Request(NamedTuple):
    """What a child is to be: its request and its standard input, output and errors."""

    value: dict[str, Any]
    files: list[int]


def serve(listening: socket.socket) -> Request | None:
    """Fork for every request, and report process id and exit code to whoever asked. Returns the request in the child, None at the end."""
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reports: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for source in (sys.stdin, listening, ended):
            selector.register(source, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if sys.stdin in ready:
                return None
            if ended in ready:
                ended.recv(4096)
                while reports and (found := os.waitpid(-1, os.WNOHANG))[0]:
                    with contextlib.suppress(BrokenPipeError), reports.pop(found[0]) as report:
                        report.send(NUMBER.pack(os.waitstatus_to_exitcode(found[1])))
            if listening in ready:
                report, _ = listening.accept()
                _, (written, *files), _, _ = socket.recv_fds(report, 1, 4)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for one in (ended, wake, report, *reports.values()):
                        one.close()
                    with open(written, "rb") as stream:  # noqa: PTH123 - a descriptor
                        stream.seek(0)
                        return Request(json.load(stream), files)
                for descriptor in (written, *files):
                    os.close(descriptor)
                report.send(NUMBER.pack(pid))
                reports[pid] = report


def become(request: Request, path: Sequence[str]) -> None:
    """Run the program that is asked for, as if this interpreter had just been started for it. `path`: sys.path without a program."""
    environment: dict[str, str] = request.value["environment"]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(request.value["cwd"])
    for number, limits in request.value["limits"]:
        resource.setrlimit(number, limits)
    for number, descriptor in enumerate(request.files):
        os.dup2(descriptor, number)
        os.close(descriptor)
    threads = environment.get("OMP_NUM_THREADS")
    sys.modules["torch"].set_num_threads(int(threads) if threads else os.cpu_count() or 1)
    first, *arguments = request.value["arguments"]
    extra = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if first not in ("-c", "-m"):
        sys.argv = [first, *arguments]
        sys.path[:] = [str(Path(first).resolve().parent), *extra, *path]
        runpy.run_path(first, run_name="__main__")
        return
    program, *sys.argv[1:] = arguments
    sys.argv[0] = first
    if first == "-m":
        sys.path[:] = [request.value["cwd"], *extra, *path]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    sys.path[:] = ["", *extra, *path]
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    exec(compile(program, "<string>", "exec"), main.__dict__)


def main() -> None:
    """`forked.py ADDRESS`, whose standard input is closed to end it. Who asks while modules are loaded waits."""
    address = Path(sys.argv[1])
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    path = sys.path[1:]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        print("listening", flush=True)
        for name in PRELOADED:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        request = serve(listening)
    if request is None:
        shutil.rmtree(address.parent)
        return
    signal.signal(signal.SIGINT, interrupt)
    become(request, path)


if __name__ == "__main__":
    main()
