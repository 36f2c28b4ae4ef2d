"""Equal definitions give comparable numbers: everything that changes a value is in it, and nothing of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inspect_tasks import asked, component, measured, write_arc, write_humaneval, write_task, write_words

from harness.components.inspect.component import InspectComponent
from harness.components.inspect.config import InspectConfig
from harness.core.defaults import Defaults
from harness.core.digest import digest_json
from harness.core.serving import ServeSettings


def identity(folder: Path, **keys: Any) -> str:
    return digest_json(component(folder, **{"task": "words.py@words", **keys}).definition)


@pytest.mark.parametrize(
    "keys",
    [
        {"task": "words.py@tools"},
        {"task": "words.py@fussily"},
        {"args": {"prefix": "x"}},
        {"limit": 3},
        {"sample_ids": ["w1"]},
        {"epochs": 2},
        {"epochs": 2, "reducer": "max"},
        {"metric": "stderr"},
        {"scorer": "includes"},
        {"higher_is_better": False},
        {"cluster": "group"},
        {"generate": {"temperature": 0.5}},
        {"message_limit": 5},
        {"token_limit": 5},
        {"time_limit": 5},
        {"roles": {"user": {"model": "checkpoint"}}},
        {"roles": {"user": {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:1/v1"}}},
        {"roles": {"user": {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:1/v1", "args": {"seed": 1}}}},
        {"sandbox": "local", "allow_code_execution": True},
    ],
)
def test_what_changes_a_value_changes_the_definition(keys: dict[str, Any], tmp_path: Path) -> None:
    write_words(tmp_path)
    assert identity(tmp_path, **keys) != identity(tmp_path)


@pytest.mark.parametrize(
    "keys",
    [
        {"max_concurrency": 3},
        {"attempts": 2},
        {"request_timeout_s": 9},
        {"allow_code_execution": True},
        {"fetch": True},
    ],
)
def test_what_changes_no_value_does_not(keys: dict[str, Any], tmp_path: Path) -> None:
    write_words(tmp_path)
    assert identity(tmp_path, **keys) == identity(tmp_path)


def test_the_content_of_files_counts_and_not_their_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_words(tmp_path / name)
    first = identity(tmp_path / "a")
    assert identity(tmp_path / "b") == first
    text = (tmp_path / "b" / "words.jsonl").read_text()
    (tmp_path / "b" / "words.jsonl").write_text(text.replace("word7", "word8"))
    assert identity(tmp_path / "b") != first
    (tmp_path / "b" / "words.jsonl").write_text(text)
    assert identity(tmp_path / "b") == first


def test_code_of_the_task_counts_with_what_it_imports_from_beside_it(tmp_path: Path) -> None:
    """In processes of their own, because a module that was imported stays."""
    write_words(tmp_path)
    path = tmp_path / "words.py"
    path.write_text(path.read_text().replace("import json\n", "import json\nimport beside\n", 1))
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\nfrom pathlib import Path\n"
        f"from test_identity_of import identity\nprint(identity(Path({str(tmp_path)!r})))"
    ).replace(
        "from test_identity_of import identity",
        "from inspect_tasks import component\n"
        "from harness.core.digest import digest_json\n"
        "identity = lambda folder: digest_json(component(folder, task='words.py@words').definition)",
    )

    def of(beside: str, unrelated: str = "x = 1\n") -> str:
        (tmp_path / "beside.py").write_text(beside)
        (tmp_path / "unrelated.py").write_text(unrelated)
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        return done.stdout.strip()

    first = of("VALUE = 1\n")
    assert of("VALUE = 22\n") != first
    assert of("VALUE = 1\n", "x = 2\n") == first
    path.write_text(path.read_text() + "\n# another word\n")
    assert of("VALUE = 1\n") != first


def test_settings_of_the_server_count(tmp_path: Path) -> None:
    write_words(tmp_path)
    config = InspectConfig.model_validate({"name": "it", "kind": "inspect", "task": str(tmp_path / "words.py@words")})
    plain = InspectComponent.load(config, Defaults())
    short = InspectComponent.load(config, Defaults(serve=ServeSettings(max_model_len=512)))
    assert plain.definition != short.definition


def test_definitions_are_the_same_in_another_process_and_hold_no_path(tmp_path: Path) -> None:
    for keys in (write_arc(tmp_path), write_humaneval(tmp_path), {"task": "words.py@tools"}):
        write_words(tmp_path)
        mine = component(tmp_path, **keys).definition
        assert str(tmp_path) not in json.dumps(mine) and "0x" not in json.dumps(mine)
        code = (
            f"import sys, json; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\nfrom pathlib import Path\n"
            "from inspect_tasks import component\n"
            f"keys = json.loads({json.dumps(json.dumps(keys))})\n"
            f"print(json.dumps(component(Path({str(tmp_path)!r}), **keys).definition))"
        )
        environment = {**os.environ, "PYTHONHASHSEED": "77"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert json.loads(done.stdout.splitlines()[-1]) == mine


def test_a_checkpoints_answers_are_never_those_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may ask Inspect to keep answers, by the model's name and address."""
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "kept"))
    path = write_words(tmp_path)
    path.write_text(
        path.read_text().replace(
            "solver=generate(), scorer=includes())", "solver=generate(cache=True), scorer=includes())"
        )
    )
    it = component(tmp_path, task="words.py@words")
    for name, texts in (("one", "word1"), ("two", "word2")):
        from harness.core.chat import ChatAnswer

        with asked(lambda _, said=texts: ChatAnswer(content=said)) as (subject, server):
            outcome = measured(it, subject, tmp_path / name)
        assert server.requests == 8 and outcome.items["answer"] == [texts] * 8
    assert any((tmp_path / "kept").rglob("*")), "answers were kept"


def test_a_key_is_in_no_file_whatever_the_endpoint_says(tmp_path: Path) -> None:
    from harness.core.chat import ChatAnswer

    key = "sk-0123456789-of-the-served"
    write_words(tmp_path)
    it = component(tmp_path, task="words.py@words")
    with asked(lambda _: ChatAnswer(content=f"your key is {key}"), key=key) as (subject, _):
        measured(it, subject, tmp_path / "s")
    files = [path for path in (tmp_path / "s").rglob("*") if path.is_file()]
    assert len(files) >= 2
    from inspect_ai.log import read_eval_log

    for path in files:
        text = path.read_text() if path.suffix == ".jsonl" else ""
        if path.suffix == ".eval":
            text = read_eval_log(str(path)).model_dump_json()
        assert key not in text, path


def test_a_task_that_shuffles_without_a_seed_takes_the_same_samples_every_time(tmp_path: Path) -> None:
    import random

    path = write_words(tmp_path, 40)
    path.write_text(
        path.read_text()
        + "\n\nimport random\nfrom inspect_ai.dataset import MemoryDataset\n\n\n@task\ndef shuffled():\n"
        "    found = samples()\n    for one in found:\n        one.choices = ['a', 'b', 'c', 'd']\n        one.target = 'A'\n"
        "    data = MemoryDataset(found)\n    data.shuffle()\n    data.shuffle_choices()\n"
        "    return Task(dataset=data, scorer=includes())\n"
    )
    state = random.getstate()
    taken = [component(tmp_path, task="words.py@shuffled", limit=5) for _ in range(3)]
    assert len({digest_json(one.definition) for one in taken}) == 1
    ids = [sample.id for sample in taken[0].built.samples]
    assert ids != [f"w{i}" for i in range(5)] and len({str(sample.choices) for sample in taken[0].built.samples}) > 1
    assert random.getstate() == state and type(random.Random()).__name__ == "Random"


def test_a_definition_does_not_depend_on_what_was_read_before(tmp_path: Path) -> None:
    """Modules that were imported stay in a process; a file's own are read anew with it."""
    names = ("one", "two")
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "of_the_folder.py").write_text(f"VALUE = {number}\n")
        code = (
            "import of_the_folder\n\n\n@task\ndef t():\n"
            "    return Task(dataset=[Sample(input=f'v{of_the_folder.VALUE}', target='x')], scorer=includes())\n"
        )
        write_task(tmp_path / name, code)
    first = [component(tmp_path / name, task="t.py@t") for name in names]
    again = [component(tmp_path / name, task="t.py@t") for name in reversed(names)]
    assert [one.built.samples[0].input for one in first] == ["v0", "v1"]
    assert [one.definition for one in first] == [one.definition for one in reversed(again)]
    (tmp_path / "one" / "of_the_folder.py").write_text("VALUE = 22\n")
    edited = component(tmp_path / "one", task="t.py@t")
    assert edited.built.samples[0].input == "v22" and edited.definition["code"] != first[0].definition["code"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("numpy.int64(1)", "numpy.int64(2)"),
        ("numpy.array([1, 2])", "numpy.array([1, 3])"),
        ("decimal.Decimal(1)", "decimal.Decimal(2)"),
        ("P(1)", "P(2)"),
        ("E.A", "E.B"),
        ("pathlib.Path('a')", "pathlib.Path('b')"),
        ("range(3)", "range(4)"),
        ("1j", "2j"),
        ("datetime.timedelta(1)", "datetime.timedelta(2)"),
    ],
)
def test_samples_metadata_counts_whatever_it_is_made_of(one: str, other: str, tmp_path: Path) -> None:
    head = (
        "import dataclasses, datetime, decimal, enum, pathlib\nimport numpy\n\n\n@dataclasses.dataclass\nclass P:\n    x: int\n\n\n"
        "class E(enum.Enum):\n    A = 1\n    B = 2\n\n\n"
    )
    found = []
    for value in (one, other, one):
        code = f"{head}@task\ndef t():\n    return Task(dataset=[Sample(input='x', metadata={{'n': {value}}})], scorer=includes())\n"
        found.append(component(tmp_path, **write_task(tmp_path, code)).definition["samples"])
    assert found[0] == found[2] != found[1]


def test_an_image_counts_by_its_content_and_not_its_place(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom inspect_ai.model import ChatMessageUser, ContentImage\n\n\n@task\ndef t():\n"
        "    said = ChatMessageUser(content=[ContentImage(image=str(Path(__file__).parent / 'i.png'))])\n"
        "    return Task(dataset=[Sample(input=[said], target='x')], scorer=includes())\n"
    )
    found = []
    for number, content in enumerate((b"red", b"green", b"red")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "i.png").write_bytes(content)
        found.append(component(folder, **write_task(folder, code)).definition)
    assert found[0] == found[2] and found[0]["samples"] != found[1]["samples"]
