"""An Inspect sandbox, `harness`, for Python programs that a scorer runs, on tasks/suites/sandbox.py. No shell, no network.

Scorers run `python -c PROGRAM` or a file that they wrote before; any other command is refused.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inspect_ai.util import ExecResult, SandboxEnvironment, sandboxenv
from inspect_ai.util import concurrency as concurrently

from harness.tasks.suites.sandbox import TIME_S, run_program

PYTHON = re.compile(r"python(3(\.\d+)?)?")
UNITTEST = re.compile(r"(?m)^if __name__ == (['\"])__main__\1:\s+unittest\.main\([^()]*\)\s*\Z")
"""The end of BigCodeBench's and ClassEval's programs, where unittest exits the process; our sandbox counts a process that exits itself
as failed."""
RUN_TESTS = """
_harness_found = [c for c in list(globals().values()) if isinstance(c, type) and issubclass(c, unittest.TestCase)]
_harness_tests = unittest.TestSuite(map(unittest.defaultTestLoader.loadTestsFromTestCase, _harness_found))
_harness_ran = unittest.TextTestRunner().run(_harness_tests)
assert _harness_ran.wasSuccessful(), "a test failed"
"""


MISSING = re.compile(r"No module named '(\w+)")


class NotOfThisSandboxError(RuntimeError):
    """A command or option that this sandbox does not support."""


@sandboxenv(name="harness")
class ProgramSandbox(SandboxEnvironment):
    """One sample's files, in memory, and a process of its own for every program.

    `libraries`: modules that the image of the task that runs has -> their packages; one that a program lacks is not its fault.
    """

    libraries: Mapping[str, str] = {}

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, bytes] = {}

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,  # noqa: A002 - Inspect's name
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a Python program. Raises TimeoutError, or NotOfThisSandboxError."""
        program = self._program(cmd)
        elsewhere = next((name for name in self._files if Path(name).is_absolute() and name not in cmd), None)
        asked = {"input": input is not None, "environment": env, f"file at {elsewhere}": elsewhere}
        if lacks := next((what for what, value in asked.items() if value), None):
            raise NotOfThisSandboxError(f"the sandbox `harness` gives a program no {lacks}; sandbox: docker")
        program = UNITTEST.sub(RUN_TESTS, program)
        beside = {name: content for name, content in self._files.items() if not Path(name).is_absolute()}
        # A program's time limit is wall-clock time, so at most one runs per processor.
        async with concurrently("harness programs", os.cpu_count() or 1):
            ran = await asyncio.to_thread(
                run_program, program, time_s=float(timeout or TIME_S), as_main=True, files=beside
            )
        if ran.reason == "timed out":
            raise TimeoutError("the program timed out")
        named = () if ran.passed else self.libraries.keys() & MISSING.findall(f"{ran.output}\n{ran.reason}")
        if absent := [one for one in named if find_spec(one) is None]:  # not a part that a library never had
            names = ", ".join(sorted(self.libraries[one] for one in absent))
            raise NotOfThisSandboxError(
                f"the program needs {names}, not installed here; pip install it, or sandbox: docker"
            )
        return ExecResult(ran.passed, 0 if ran.passed else 1, ran.output, "" if ran.passed else f"{ran.reason}\n")

    def _program(self, cmd: list[str]) -> str:
        if len(cmd) == 3 and PYTHON.fullmatch(cmd[0]) and cmd[1] == "-c":
            return cmd[2]
        if len(cmd) == 2 and PYTHON.fullmatch(cmd[0]) and cmd[1] in self._files:
            return self._files[cmd[1]].decode("utf-8")
        raise NotOfThisSandboxError(
            f"the sandbox `harness` runs Python programs alone, not {' '.join(cmd)[:80]!r}; sandbox: docker"
        )

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Keep a file, a program to be run."""
        self._files[file] = contents.encode() if isinstance(contents, str) else contents

    async def read_file(self, file: str, text: bool = True) -> Any:
        """A file that was written. Raises FileNotFoundError."""
        if file not in self._files:
            raise FileNotFoundError(file)
        return self._files[file].decode() if text else self._files[file]

    @classmethod
    async def sample_init(cls, task_name: str, config: Any, metadata: dict[str, str]) -> dict[str, SandboxEnvironment]:
        """One for each sample."""
        return {"default": cls()}

    @classmethod
    async def sample_cleanup(
        cls, task_name: str, config: Any, environments: dict[str, SandboxEnvironment], interrupted: bool
    ) -> None:
        """Nothing: there are no resources to release."""
