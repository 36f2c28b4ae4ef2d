"""Programs that scorers run, in the project's own sandbox: right ones pass, wrong ones and those that reach out do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from inspect_tasks import (
    asked,
    component,
    measured,
    rows,
    text_of,
    write_apps,
    write_bigcodebench,
    write_ds1000,
    write_humaneval,
    write_mbpp,
    write_words,
)

from harness.core.chat import ChatAnswer, ChatRequest
from harness.core.errors import SpecError
from harness.tasks.suites.sandbox import protection

pytestmark = pytest.mark.skipif(protection().refusal is not None, reason=str(protection().refusal))
RIGHT = {
    write_apps: "def solution(x):\n    return 2 * x",
    write_mbpp: "def double(x):\n    return 2 * x",
    write_bigcodebench: "def task_func(x):\n    return 2 * x",
    write_ds1000: "result = np.int64(2) * 2",
}


@pytest.mark.parametrize("write", list(RIGHT), ids=lambda write: write.__name__.removeprefix("write_"))
def test_scorers_of_code_benchmarks_work_in_ours(write: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    def one_of_two(request: ChatRequest) -> ChatAnswer:
        code = (
            RIGHT[write] if "number 11" in text_of(request) else RIGHT[write].replace("2 ", "3 ").replace("(2)", "(3)")
        )
        return ChatAnswer(content=f"```python\n{code}\n```")

    it = component(tmp_path, **write(tmp_path))
    with asked(one_of_two) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    assert {name: row["value"] for name, row in rows(outcome).items()} == {"11": 1.0, "12": 0.0}, outcome.measurement
    assert (outcome.measurement.status, outcome.n_open) == ("ok", 0)


UNITTESTS = "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(f(), 1)\n"


@pytest.mark.parametrize(
    "end",
    ['if __name__ == "__main__":\n    unittest.main(verbosity=2)\n', "if __name__ == '__main__':\n    unittest.main()"],
)
def test_the_result_of_unittest_is_that_of_its_tests(end: str) -> None:
    from harness.components.inspect.sandbox import ProgramSandbox

    async def passes(value: int) -> bool:
        return (
            await ProgramSandbox().exec(["python", "-c", f"def f():\n    return {value}\n{UNITTESTS}{end}"])
        ).success

    assert [asyncio.run(passes(value)) for value in (1, 2)] == [True, False]


def test_a_file_that_a_program_cannot_have_is_the_sandboxs_failure() -> None:
    from harness.components.inspect.sandbox import NotOfThisSandboxError, ProgramSandbox

    async def run(name: str) -> bool:
        sandbox = ProgramSandbox()
        await sandbox.write_file(name, "x = 1")
        await sandbox.write_file("/code/run.py", "from given import x")
        return (await sandbox.exec(["python", "/code/run.py"])).success

    assert asyncio.run(run("given.py"))
    with pytest.raises(NotOfThisSandboxError, match="no file at /data/given"):
        asyncio.run(run("/data/given.py"))


def test_a_library_of_the_image_that_is_not_here_is_the_sandboxs_failure_and_said_by_doctor(tmp_path: Path) -> None:
    """As far as the libraries are installed beside the harness; one that there is nowhere is the program's own mistake."""
    absent = [name for name in ("no_such_library", "wikipedia") if find_spec(name) is None]
    it = component(tmp_path, **write_bigcodebench(tmp_path))
    (said,) = [check for check in it.checks() if check.name.endswith("libraries")]
    assert said.ok is None and "wikipedia" in said.words and "pip install them, or sandbox: docker" in said.words

    def imports(request: ChatRequest) -> ChatAnswer:
        name = absent["number 12" in text_of(request)]
        return ChatAnswer(content=f"```python\ndef task_func(x):\n    import {name}\n    return 4\n```")

    with asked(imports) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    row = rows(outcome)
    assert (row["11"]["value"], row["12"]["value"], row["12"]["cause"]) == (0.0, None, "sandbox")
    assert "the program needs wikipedia, not installed here" in row["12"]["reason"] and outcome.n_open == 1


def test_a_part_that_an_installed_library_never_had_is_the_programs_own_mistake(tmp_path: Path) -> None:
    it = component(tmp_path, **write_ds1000(tmp_path))
    assert it.built.card is not None and "numpy" in it.built.card.libraries()
    with asked(lambda _: ChatAnswer(content="```python\nimport numpy.no_such_part\n```")) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    assert {row["value"] for row in rows(outcome).values()} == {0.0}, rows(outcome)


BAD = {
    "a socket": "import socket; socket.create_connection(('127.0.0.1', 9))",
    "a process": "import subprocess; subprocess.run(['true'])",
    "a file elsewhere": "open('{outside}/x', 'w').write('x')",
    "its own end": "raise SystemExit(0)",
    "memory": "x = bytearray(2**33)",
}


@pytest.mark.parametrize("what", list(BAD))
def test_what_reaches_out_does_not_pass(what: str, tmp_path: Path) -> None:
    code = BAD[what].replace("{outside}", str(tmp_path))
    it = component(tmp_path, **write_humaneval(tmp_path, 1))
    with asked(lambda _: ChatAnswer(content=f"    {code}\n    return x")) as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    assert outcome.measurement.raw == 0.0 and not (tmp_path / "x").exists()


def test_what_ours_cannot_do_is_the_sandboxs_failure_and_no_score(tmp_path: Path) -> None:
    path = write_words(tmp_path)
    path.write_text(
        path.read_text() + "\n\nfrom inspect_ai.util import sandbox\n\n\n@scorer(metrics=[accuracy()])\ndef shell():\n"
        "    async def score(state, target):\n        done = await sandbox().exec(['bash', '-c', 'true'])\n"
        "        return Score(value='C' if done.success else 'I')\n    return score\n\n\n"
        "@task\ndef shells():\n    return Task(dataset=samples()[:2], scorer=shell(), sandbox='docker')\n"
    )
    it = component(tmp_path, task="words.py@shells", sandbox="harness", allow_code_execution=True)
    with asked() as (subject, _):
        outcome = measured(it, subject, tmp_path / "s")
    assert outcome.measurement.raw is None and outcome.n_open == 2
    assert outcome.measurement.detail["causes"] == {"sandbox": 2}
    assert "runs Python programs alone" in str(outcome.measurement.reason)


def test_programs_find_the_samples_files(tmp_path: Path) -> None:
    path = write_words(tmp_path)
    path.write_text(
        path.read_text() + "\n\nfrom inspect_ai.util import sandbox\n\n\n@scorer(metrics=[accuracy()])\ndef reads():\n"
        "    async def score(state, target):\n"
        "        done = await sandbox().exec(['python', '-c', 'print(open(\"in/data.txt\").read()); assert 1'], timeout=5)\n"
        "        return Score(value='C' if done.success and 'seven' in done.stdout else 'I')\n    return score\n\n\n"
        "@task\ndef filed():\n    one = Sample(id=1, input='shelf 1?', files={'in/data.txt': 'seven'})\n"
        "    return Task(dataset=[one], scorer=reads(), sandbox='docker')\n"
    )
    it = component(tmp_path, task="words.py@filed", sandbox="harness", allow_code_execution=True)
    with asked() as (subject, _):
        assert measured(it, subject, tmp_path / "s").measurement.raw == 1.0


def test_a_tasks_own_local_sandbox_needs_permission_and_none_takes_it_away(tmp_path: Path) -> None:
    path = write_words(tmp_path)
    path.write_text(path.read_text().replace("scorer=includes())", "scorer=includes(), sandbox='local')", 1))
    with pytest.raises(SpecError, match="sandbox local runs programs"):
        component(tmp_path, task="words.py@words")
    assert component(tmp_path, task="words.py@words", allow_code_execution=True).built.task.sandbox is not None
    it = component(tmp_path, task="words.py@words", sandbox="none")
    with asked() as (subject, _):
        assert measured(it, subject, tmp_path / "s").measurement.raw == 0.5
    assert it.built.task.sandbox is None


def test_what_a_program_prints_is_kept(tmp_path: Path) -> None:
    from harness.tasks.suites.sandbox import run_program

    ran = run_program("import sys\nprint('out', __name__)\nprint('err', file=sys.stderr)", as_main=True)
    assert ran.passed and ran.output == "out __main__\nerr\n"
    assert run_program("assert __name__ != '__main__'\nprint(1)").output == ""
