"""What a component names and its task cannot have is said when the spec is read, not after every sample was asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from inspect_tasks import component, write_task

from harness.core.errors import SpecError

PLAIN = (
    "@task\ndef t():\n    return Task(dataset=samples(), scorer=includes(), epochs=Epochs(4, ['mean', 'pass_at_2']))\n"
)
MAPPED = (
    "@scorer(metrics={'a': [mean()], 'b': [mean()]})\ndef both():\n    async def score(state, target):\n"
    "        return Score(value={'a': 1, 'b': 2})\n    return score\n\n\n"
    "@task\ndef t():\n    return Task(dataset=samples(), scorer=both())\n"
)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"metric": "acuracy"}, "no metric 'acuracy'; it has accuracy, stderr; did you mean 'accuracy'"),
        ({"metric": "includes/mean"}, "no metric 'mean'"),
        ({"metric": "match/accuracy"}, "no scorer 'match'; it has includes"),
        ({"scorer": "include"}, "no scorer 'include'; it has includes; did you mean 'includes'"),
        ({"cluster": "grp"}, "cluster 'grp': 8 of 8 samples have no such metadata .*; keys are group"),
        ({"epochs": 1}, "'pass_at_2' requires 2 epochs"),
        ({"epochs": 3, "reducer": "pass_at_5"}, "'pass_at_5' requires 5 epochs"),
        ({"epochs": 3, "reducer": "medium"}, "no reducer 'medium'; it has mean, median"),
    ],
)
def test_a_name_that_the_task_does_not_have_is_refused(keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        component(tmp_path, **write_task(tmp_path, PLAIN), **keys)


@pytest.mark.parametrize(
    ("code", "keys"),
    [
        (PLAIN, {"metric": "stderr"}),
        (PLAIN, {"epochs": 3, "reducer": "median"}),
        (PLAIN, {"cluster": "group"}),
        (MAPPED, {"scorer": "b"}),
        (MAPPED, {"metric": "b/mean"}),
    ],
)
def test_what_it_may_have_is_not(code: str, keys: dict[str, Any], tmp_path: Path) -> None:
    component(tmp_path, **write_task(tmp_path, code), **keys)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ", scorer=includes(), model='mockllm/model'",
            "sets a model of its own",
        ),  # Inspect asks that one, and the checkpoint never
        ("", "has no scorer, so that no answer would have a value"),
        (", scorer=includes(), cost_limit=1.0", "has a limit of costs.*token_limit"),
        (
            ", scorer=includes(), early_stopping=object()",
            "which samples it asks .early_stopping.*could not be compared",
        ),
    ],
)
def test_a_task_that_could_not_be_measured_is_refused(more: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        component(tmp_path, **write_task(tmp_path, f"@task\ndef t():\n    return Task(dataset=samples(){more})\n"))


@pytest.mark.parametrize(
    ("model", "words"),
    [("openai-api/other/m", "OTHER_API_KEY"), ("nobody/m", "nobody"), ("openai/m", "OPENAI_API_KEY|API key")],
)
def test_what_a_providers_model_lacks_is_said_when_the_spec_is_read(
    model: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SpecError, match=f"role grader: {model} cannot be asked: .*({words})"):
        component(tmp_path, **write_task(tmp_path, PLAIN), roles={"grader": {"model": model}})


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)\n\n\n@task\ndef t(): ...\n", "SystemExit: 3"),
        ("def (\n", r"SyntaxError: .*t\.py, line"),
        ("@task\ndef t():\n    raise SystemExit(3)\n", "SystemExit: 3"),
        ("@task\ndef t():\n    return None\n", "it returns no Task"),
    ],
)
def test_a_file_that_ends_the_process_or_does_not_parse_is_named(code: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        component(tmp_path, **write_task(tmp_path, code))


def test_a_task_of_a_file_is_never_that_of_another_file(tmp_path: Path) -> None:
    """Inspect keeps tasks of files by their plain names, and takes a file that does not parse for one without tasks."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    component(tmp_path / "one", **write_task(tmp_path / "one", PLAIN))
    for code in ("def (\n", "@task\ndef other():\n    return Task(dataset=samples(), scorer=includes())\n"):
        with pytest.raises(SpecError, match=r"two/t\.py@t cannot be built"):
            component(tmp_path / "two", **write_task(tmp_path / "two", code))


def test_a_folder_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "me@home.py.d"
    folder.mkdir()
    keys = write_task(folder, PLAIN)
    assert component(folder, **keys).n_items == component(folder, task="t.py").n_items == 8


ASKS = """
from inspect_ai.model import get_model


@solver
def talking(role="user"):
    async def solve(state, generate):
        await get_model(role="user"{more}).generate("Hello.")
        return await generate(state)

    return solve


@scorer(metrics=[mean()])
def judged():
    async def score(state, target):
        said = await get_model(role="judge").generate("Is it right?")
        return Score(value=float("yes" in said.completion))

    return score


@task
def t():
    return Task(dataset=samples(), solver=[{solver}], scorer={scorer})
"""


@pytest.mark.parametrize(
    ("solver", "scorer", "more", "missing"),
    [
        ("talking()", "includes()", "", "user"),
        ("generate()", "judged()", "", "judge"),
        ("talking()", "judged()", "", "judge, user"),
        ("talking()", "includes()", ", default='mockllm/model'", None),
        ("generate()", "includes()", "", None),
    ],
)
def test_a_role_that_nobody_plays_is_not_played_by_the_checkpoint_unawares(
    solver: str, scorer: str, more: str, missing: str | None, tmp_path: Path
) -> None:
    keys = write_task(tmp_path, ASKS.format(solver=solver, scorer=scorer, more=more))
    if missing is None:
        component(tmp_path, **keys)
        return
    with pytest.raises(SpecError, match=f"asks other models as {missing}, .*model: checkpoint where that is meant"):
        component(tmp_path, **keys)
    component(tmp_path, **keys, roles={role: {"model": "checkpoint"} for role in missing.split(", ")})


def test_a_task_of_an_installed_package_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the entry point that such a package declares for Inspect; what it sets when it is imported is there each time."""
    site = tmp_path / "site-packages"
    for name in ("shelves_of_a_test", "broken_of_a_test"):
        (site / name).mkdir(parents=True)
        (about := site / f"{name}-2.1.dist-info").mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
        (about / "entry_points.txt").write_text(f"[inspect_ai]\n{name} = {name}\n")
    write_task(site / "shelves_of_a_test", f"import os\n\nos.environ['SHELVES'] = '8'\n\n\n{PLAIN}", name="tasks.py")
    (site / "shelves_of_a_test" / "__init__.py").write_text("from shelves_of_a_test.tasks import t\n")
    (site / "broken_of_a_test" / "__init__.py").write_text("raise RuntimeError('half installed')\n")
    monkeypatch.syspath_prepend(str(site))
    for _ in range(2):
        it = component(tmp_path, task="shelves_of_a_test/t")
        assert (it.n_items, it.task["source"], it.built.environment) == (8, "shelves_of_a_test 2.1", {"SHELVES": "8"})
        assert [path.name for path in it.built.sources] == ["__init__.py", "tasks.py"]
    assert "SHELVES" not in os.environ
    with pytest.raises(SpecError, match="no task 'shelves_of_a_test/u' is registered"):
        component(tmp_path, task="shelves_of_a_test/u")
    with pytest.raises(SpecError, match=r"broken_of_a_test does not load \(RuntimeError: half installed"):
        component(tmp_path, task="broken_of_a_test/t")
