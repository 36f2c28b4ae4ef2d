"""Where benchmarks' data comes from, and the tasks of ours that lm-eval finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import suite_samples as samples

from harness.core.errors import DataError, SpecError
from harness.tasks.suites.build import Built, Wanted, build
from harness.tasks.suites.catalog import suites
from harness.tasks.suites.data_source import DataSource, problems
from harness.tasks.suites.identity import definition, source
from harness.tasks.suites.index import TESTED, task_manager
from harness.tasks.suites.logiqa import parse
from harness.tasks.suites.sandbox import RULES


def built(task: str, folder: Path, data: dict[str, Any], **changes: Any) -> Built:
    """A task over other data, paths relative to `folder`."""
    sources = {name: DataSource.model_validate(value).resolved(folder) for name, value in data.items()}
    settings: dict[str, Any] = {"num_fewshot": None, "limit": None, "gen_kwargs": {}, "seed": 1234, "include": ()}
    return build(Wanted(task=task, data=sources, allow_code_execution=True, **{**settings, **changes}))


def test_every_benchmark_of_the_table_is_a_task_of_lm_eval_with_its_metric() -> None:
    index = task_manager(()).task_index
    for benchmarks in suites().values():
        for benchmark in benchmarks:
            assert benchmark.task in index
            for name in benchmark.also:
                assert name in index, "the name it has in other people's results"


def test_our_tasks_take_no_name_of_lm_evals() -> None:
    from lm_eval.tasks import TaskManager

    from harness.tasks.suites import index

    ours = set(TaskManager(include_defaults=False, include_path=str(Path(index.__file__).parent)).task_index)
    assert ours == {
        *("harness_general", "harness_math", "harness_code"),
        *("harness_logiqa", "harness_humaneval", "harness_mbpp"),
    }
    assert not ours & set(index._default_index())


def test_the_stored_index_is_lm_evals_own() -> None:
    from lm_eval.tasks._index import TaskIndex

    from harness.tasks.suites import index

    root = Path(index._default_index()["piqa"].yaml_path).parents[1]
    theirs = TaskIndex.build([root / "mmlu", root / "piqa", root / "arc"])
    again = index._default_index()  # from the cache
    for name, entry in theirs.items():
        assert (again[name].kind, again[name].yaml_path) == (entry.kind, entry.yaml_path)
    assert again["mmlu_stem_tasks"].tags == theirs["mmlu_stem_tasks"].tags


def test_groups_of_ours_load_with_the_papers_examples(tmp_path: Path) -> None:
    """As `lm_eval --include_path` loads them."""
    data = samples.all_data(tmp_path)
    made = built("harness_code", tmp_path, {name: data[name] for name in ("harness_humaneval", "harness_mbpp")})
    assert {name: task.config.num_fewshot for name, task in made.tasks.items()} == {
        "harness_humaneval": 0,
        "harness_mbpp": 3,
    }
    assert definition(made, 0)["sandbox"] == RULES, "programs pass by its rules"
    names = [name.removeprefix("mmlu_") for name in built_names()]
    data |= {"mmlu": samples.mmlu_files(tmp_path / "mmlu", names)}
    general = {benchmark.task: data[benchmark.task] for benchmark in suites()["general"]}
    loaded = built("harness_general", tmp_path, general)
    assert len(loaded.tasks) == 57 + 7 and "sandbox" not in definition(loaded, 0)
    assert all(t.config.num_fewshot == (5 if "mmlu" in name else 0) for name, t in loaded.tasks.items())

    index = task_manager(()).task_index
    from lm_eval.tasks._yaml_loader import load_yaml

    listed = {}
    for group in ("harness_general", "harness_math"):
        for member in load_yaml(index[group].yaml_path)["task"]:
            listed[member.get("group") or member["task"]] = member["num_fewshot"]
    table = {b.task: b.num_fewshot for suite in ("general", "math") for b in suites()[suite]}
    assert listed == table


# LogiQA.


def test_logiqas_text_files_become_the_records_lm_eval_had(tmp_path: Path) -> None:
    (record,) = parse("\nb\nAll men die.Socrates is one.\nWhat follows?\nA.Nothing.\nB.He dies.So it is.\nC.x\nD.y\n")
    assert record == {
        "label": "b",
        "context": "All men die. Socrates is one.",
        "question": "What follows?",
        "options": ["Nothing.", "He dies. So it is.", "x", "y"],
    }


def test_logiqa_asks_what_lm_evals_own_definition_asks(tmp_path: Path) -> None:
    """From text files, and from records: the same questions, by lm-eval's prompt."""
    import importlib.util

    import lm_eval.tasks

    text = built("harness_logiqa", tmp_path, {"harness_logiqa": samples.logiqa_files(tmp_path / "text")})
    rows = parse(samples.logiqa_text())
    records = built(
        "harness_logiqa",
        tmp_path,
        {"harness_logiqa": samples.splits(tmp_path / "rows", rows, "train", "validation", "test")},
    )
    assert definition(text, 0) == definition(records, 0)
    where = Path(lm_eval.tasks.__file__).parent / "logiqa" / "utils_logiqa.py"
    spec = importlib.util.spec_from_file_location("utils_logiqa", where)
    assert spec is not None and spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    (task,) = text.tasks.values()
    for doc in task.task_docs:
        assert task.doc_to_text(doc) == theirs.doc_to_text(doc)
        assert task.doc_to_target(doc) == theirs.doc_to_target(doc)
        assert task.doc_to_choice(doc) == doc["options"]


def test_code_benchmarks_ask_what_lm_evals_own_definitions_ask() -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    index = task_manager(()).task_index
    for name in ("humaneval", "mbpp"):
        ours, theirs = (load_yaml(index[n].yaml_path, resolve_func=False) for n in (f"harness_{name}", name))
        functions = {"metric_list", "filter_list", "fewshot_config", "task"}
        assert {k: v for k, v in ours.items() if k not in functions} == {
            k: v for k, v in theirs.items() if k not in functions
        }


# Sources.


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    rows = samples.piqa()
    loaded = datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split in ("train", "validation")})
    loaded.save_to_disk(tmp_path / "saved")
    for split in ("train", "validation"):
        samples.write(tmp_path / f"repository/data/{split}.jsonl", rows)
        loaded[split].to_parquet(tmp_path / f"parquet/{split}-00000.parquet")
    files = [{"split": s, "path": f"data/{s}.jsonl"} for s in ("train", "validation")]
    card = {"configs": [{"config_name": "default", "data_files": files}]}
    (tmp_path / "repository/README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    yield tmp_path


@pytest.mark.parametrize(
    "given",
    [
        {"path": "saved"},
        {"path": "repository"},
        {"files": {split: f"parquet/{split}-*.parquet" for split in ("train", "validation")}},
        {"files": {split: [f"repository/data/{split}.jsonl"] for split in ("train", "validation")}},
    ],
    ids=["saved by datasets", "copy of the repository", "parquet, by pattern", "jsonl"],
)
def test_every_form_of_local_data_gives_the_same_questions(folders: Path, given: dict[str, Any]) -> None:
    made = built("piqa", folders, {"piqa": given})
    (task,) = made.tasks.values()
    assert [doc["goal"] for doc in task.task_docs] == [row["goal"] for row in samples.piqa()]
    plain = built("piqa", folders, {"piqa": samples.splits(folders / "plain", samples.piqa(), "train", "validation")})
    assert definition(made, 0) == definition(plain, 0)
    assert made.data_used == {"piqa"} and source(task)["path"]


def test_a_group_takes_one_source_for_all_and_another_for_one(tmp_path: Path) -> None:
    names = [name.removeprefix("mmlu_") for name in sorted(built_names())]
    every = samples.mmlu_files(tmp_path / "mmlu", names)
    other = samples.splits(tmp_path / "other", samples.mmlu("anatomy", "x", 6), "dev", "test")
    made = built("mmlu", tmp_path, {"mmlu": every, "mmlu_anatomy": other}, num_fewshot=5)
    assert len(made.tasks["mmlu_anatomy"].task_docs) == 6
    assert made.data_used == {"mmlu", "mmlu_anatomy"} and made.num_fewshot == 5 and made.version == "2"


def built_names() -> list[str]:
    from harness.tasks.suites.build import _leaves

    return [name for name, _ in _leaves(task_manager(()).task_index, "mmlu", ())]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give path, files, name or revision"),
        ({"files": {"test": "a.jsonl"}, "path": "x"}, "`files` stands alone"),
        ({"files": {"test": "a.jsonl", "dev": "b.parquet"}}, "files must be of one kind"),
        ({"files": {"test": "a.doc"}}, "files must be of one kind"),
        ({"path": "{subject}"}, r"may hold \{name\} and \{task\}"),
    ],
)
def test_a_source_that_means_nothing_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        built("piqa", tmp_path, {"piqa": given})


def test_a_file_that_does_not_have_the_columns_is_named_with_its_task(tmp_path: Path) -> None:
    source = samples.splits(tmp_path, [{"goal": "x"}], "train", "validation")
    with pytest.raises(DataError, match=r"task piqa does not load: .*docs/suites.md"):
        built("piqa", tmp_path, {"piqa": source})


def test_problems_are_found_without_loading_anything(tmp_path: Path) -> None:
    assert list(problems({"dataset_path": str(tmp_path)})) == []
    assert list(problems({"dataset_path": "/no/such"})) == ["no folder /no/such"]
    assert "not on this machine" in next(problems({"dataset_path": "org/name"}))
    (tmp_path / "a.jsonl").touch()
    config = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"a": str(tmp_path / "*.jsonl"), "b": "no.jsonl"}},
    }
    assert list(problems(config)) == ["no file no.jsonl (split b)"]


def test_a_revision_goes_to_the_hub() -> None:
    changes = DataSource(revision="abc").overrides({"dataset_path": "org/name", "dataset_kwargs": {"x": 1}})
    assert changes == {"dataset_kwargs": {"x": 1, "revision": "abc"}}
    assert DataSource(path="mirror/piqa", name="full").overrides({})["dataset_path"] == "mirror/piqa"
    assert TESTED == "0.4.13"
