"""lm-eval's result folders as sides of a comparison: a real run, and files as other versions and hands leave them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import yaml

from harness.core.errors import DataError
from harness.feed.compare import compare
from harness.lm_eval.samples import read_models
from harness.reward_models.component_comparison import ComponentComparison
from harness.reward_models.items import Items, NoItems
from harness.reward_models.side import Coordinate

METRICS = [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")]
N = {"red": 20, "blue": 10, "green": 15}


def tasks(folder: Path) -> None:
    """Three multiple-choice tasks, two of them in a group, and a generating one with two filters and a corpus metric."""
    for name, n in N.items():
        rows = [{"q": f"{name} {i}?", "choices": ["yes it is", "no", "maybe"], "a": i % 3} for i in range(n)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        task: dict[str, Any] = {
            "task": f"tiny_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{q}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "a",
            "metric_list": METRICS,
            "metadata": {"version": 1.0},
        }
        (folder / f"tiny_{name}.yaml").write_text(yaml.safe_dump(task))
    group = {
        "group": "tiny",
        "task": ["tiny_red", "tiny_blue"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
        "metadata": {"version": 1.0},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(group))
    first = {"function": "take_first"}
    generating = {
        **yaml.safe_load((folder / "tiny_green.yaml").read_text()),
        "task": "tiny_gen",
        "output_type": "generate_until",
        "doc_to_target": "{{choices[a]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 5},
        "metric_list": [METRICS[0] | {"metric": "exact_match"}, {"metric": "bleu", "aggregation": "bleu"}],
        "filter_list": [
            {"name": "strict", "filter": [{"function": "regex", "regex_pattern": "(\\w+)"}, first]},
            {"name": "flexible", "filter": [first]},
        ],
    }
    del generating["doc_to_choice"]
    (folder / "tiny_gen.yaml").write_text(yaml.safe_dump(generating))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """lm-eval's own command line, twice, with the model that answers at random."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "tasks").mkdir()
    tasks(folder / "tasks")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    for seed in ("1", "2"):
        command = [
            sys.executable,
            "-m",
            "lm_eval",
            "run",
            "--model",
            "dummy",
            "--include_path",
            "tasks",
            "--seed",
            seed,
        ]
        command += ["--tasks", "tiny,tiny_green,tiny_gen", "--output_path", f"out/{seed}", "--log_samples"]
        done = forked.run(command, cwd=folder, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
    yield folder / "out"


def test_every_metric_and_filter_of_a_real_run_is_a_component_and_a_groups_members_are_in_it(ran: Path) -> None:
    (model,) = read_models(ran / "1")
    assert set(model.coordinates) == {
        *("tiny/acc", "tiny_red/acc_norm", "tiny_blue/acc_norm", "tiny_green/acc", "tiny_green/acc_norm"),
        *(
            "tiny_gen/exact_match,strict",
            "tiny_gen/exact_match,flexible",
            "tiny_gen/bleu,strict",
            "tiny_gen/bleu,flexible",
        ),
    }
    (path,) = (ran / "1").rglob("results_*.json")
    results = json.loads(path.read_text())["results"]
    for name, one in model.coordinates.items():
        task, _, key = name.partition("/")
        key = key if "," in key else f"{key},none"
        assert one.measurement.raw == results[task][key]
        assert one.measurement.n_scored == (30 if task == "tiny" else N.get(task.removeprefix("tiny_"), N["green"]))
        if "bleu" in name:
            assert one.items == NoItems("bleu is no number per question")
        else:
            assert isinstance(one.items, Items) and one.items.mean == pytest.approx(results[task][key])
    group = model.coordinates["tiny/acc"].items
    assert isinstance(group, Items) and group.layout.weights.tolist() == pytest.approx([2 / 3, 1 / 3])


def test_two_real_runs_are_compared_question_by_question(ran: Path) -> None:
    (found,) = compare(str(ran / "1"), [str(ran / "2")])
    rows = {row.name: row for row in found.components}
    green = rows["tiny_green/acc"]
    (paths) = [next((ran / seed).rglob("samples_tiny_green_*.jsonl")) for seed in ("1", "2")]
    before, after = ([json.loads(line)["acc"] for line in path.read_text().splitlines()] for path in paths)
    assert green.status == "paired" and green.n_paired == 15 and green.flips is not None
    assert set(green.flips.to_right) == {f"tiny_green/{i}" for i in range(15) if after[i] > before[i]}
    assert set(green.flips.to_wrong) == {f"tiny_green/{i}" for i in range(15) if after[i] < before[i]}
    assert green.flips.to_right and green.flips.to_wrong
    assert rows["tiny/acc"].n_paired == 30
    bleu = rows["tiny_gen/bleu,strict"]
    assert (bleu.status, bleu.reason) == ("unpaired", "bleu is no number per question")
    assert found.scalar.reason == "no component has a weight"


def write(folder: Path, values: dict[str, list[float | None]], **changes: Any) -> Path:
    """A result folder with these tasks' acc by question."""
    path = folder / "m"
    path.mkdir(parents=True, exist_ok=True)
    date = changes.pop("day", "2026-01-02T03-04-05.678")
    hashes = changes.pop("hashes", "h")
    scored = {task: [one for one in answers if one is not None] for task, answers in values.items()}
    document = {
        "results": {t: {"alias": t, "acc,none": sum(a) / len(a), "acc_stderr,none": 0.1} for t, a in scored.items()},
        "versions": dict.fromkeys(values, 1.0),
        "n-shot": dict.fromkeys(values, 0),
        "higher_is_better": {t: {"acc": True} for t in values},
        "n-samples": {t: {"original": len(a), "effective": len(a)} for t, a in values.items()},
        "config": {"model": "hf", "model_args": {"pretrained": "m"}},
        "model_name": "m",
        "date": 1.0,
        **changes,
    }
    (path / f"results_{date}.json").write_text(json.dumps(document))
    for task, answers in values.items():
        lines = [
            {"doc_id": i, "filter": "none", "metrics": ["acc"], "acc": a, "doc_hash": f"{hashes}{i}"}
            for i, a in enumerate(answers)
        ]
        (path / f"samples_{task}_{date}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def only(folder: Path) -> Coordinate:
    (model,) = read_models(folder)
    (one,) = model.coordinates.values()
    return one


def row(a: Path, b: Path) -> ComponentComparison:
    (found,) = compare(str(a), [str(b)])
    (made,) = found.components
    return made


def test_samples_are_those_of_their_results_file_and_the_later_measurement_counts(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"arc": [1, 0, 0, 0]}, date=2.0, day="2026-01-09T00-00-00.1")
    write(folder, {"arc": [1, 1, 0, 0]}, date=1.0, day="2026-02-02T00-00-00.1")
    one = only(folder)
    assert one.measurement.raw == 0.25
    assert isinstance(one.items, Items) and one.items.values.tolist() == [1, 0, 0, 0]


def test_a_task_whose_name_begins_like_anothers_keeps_its_own_samples(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"arc": [1, 0], "arc_easy": [1, 1, 0, 1]})
    for path in folder.rglob("samples_*"):  # renamed by hand, so that dates do not tell
        path.rename(path.with_name(path.name.partition("_2026")[0] + ".jsonl"))
    (model,) = read_models(folder)
    made = {name: one.items for name, one in model.coordinates.items()}
    assert [len(items.values) for items in made.values() if isinstance(items, Items)] == [2, 4]


def test_without_samples_the_comparison_is_unpaired_and_says_how_to_log_them(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", {"arc": [1, 0, 1, 0]}), write(tmp_path / "b", {"arc": [1, 1, 1, 0]})
    next(b.rglob("samples_*")).unlink()
    made = row(a, b)
    assert (made.status, made.change) == ("unpaired", 0.25)
    assert made.reason == "no samples of arc beside the results; run lm_eval with --log_samples"
    assert made.stderr == pytest.approx(((1 / 3 / 4) + 0.01) ** 0.5)


def test_questions_without_a_value_are_not_scored_and_never_0(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", {"arc": [1, 0, None, 1]}), write(tmp_path / "b", {"arc": [1, 1, 1, None]})
    made = row(a, b)
    assert made.before is not None and (made.before.n_scored, made.before.n_items) == (3, 4)
    assert (made.n_paired, made.change) == (2, 0.5)
    assert made.before.status == "partial" and made.n_unscored == 1


def test_samples_that_do_not_explain_the_value_are_not_used(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"arc": [1, 0, 1, 0]})
    (path,) = a.rglob("results_*.json")
    path.write_text(path.read_text().replace('"acc,none": 0.5', '"acc,none": 0.75'))
    assert only(a).items == NoItems("its value is no mean of its items' values")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"versions": {"arc": 2.0}}, "another definition: version 1.0 and 2.0"),
        ({"n-shot": {"arc": 5}}, "another definition: num_fewshot 0 and 5"),
        ({"configs": {"arc": {"doc_to_text": "Q: {{q}}"}}}, 'doc_to_text "{{q}}" and "Q: {{q}}"'),
        ({"hashes": "g"}, "other questions under the same ids"),
        ({"higher_is_better": {"arc": {"acc": False}}}, "another direction"),
    ],
)
def test_another_task_under_the_same_name_is_refused_by_what_differs(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    plain = {"configs": {"arc": {"doc_to_text": "{{q}}", "dataset_path": "/here"}}}
    a, b = (
        write(tmp_path / "a", {"arc": [1, 0]}, **plain),
        write(tmp_path / "b", {"arc": [1, 0]}, **{**plain, **changes}),
    )
    made = row(a, b)
    assert (made.status, made.change) == ("refused", None)
    assert words in str(made.reason) and f"{a} and {b}" in str(made.reason)


def test_where_the_data_lies_and_functions_addresses_are_no_difference(tmp_path: Path) -> None:
    configs = [
        {
            "arc": {
                "doc_to_text": f"<function f at 0x7f{i}>",
                "dataset_path": f"/data/{i}",
                "metadata": {"pretrained": i},
            }
        }
        for i in range(2)
    ]
    a, b = (write(tmp_path / name, {"arc": [1, 0]}, configs=c) for name, c in zip("ab", configs, strict=True))
    assert row(a, b).status == "paired"


def test_other_chat_templates_are_remarked_on(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"arc": [1, 0]}, chat_template_sha="x")
    b = write(tmp_path / "b", {"arc": [1, 0]}, chat_template_sha="y")
    (found,) = compare(str(a), [str(b)])
    assert "chat_template_sha differs: x before, y after" in found.remarks


def test_where_lower_is_better_and_the_file_does_not_say(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"wiki": [1, 0]}, higher_is_better={})
    (path,) = a.rglob("results_*.json")
    path.write_text(
        path.read_text().replace("acc,none", "word_perplexity,none").replace("acc_stderr", "word_perplexity_stderr")
    )
    assert only(a).measurement.higher_is_better is False


def test_several_models_in_a_folder_are_told_apart_and_seeds_are_one_side(tmp_path: Path) -> None:
    def model(name: str, answers: list[float | None]) -> None:
        write(tmp_path / "all" / name, {"arc": answers}, config={"model_args": {"pretrained": name}}, model_name=name)

    base = write(tmp_path / "base", {"arc": [1, 0, 0, 0]})
    model("x-seed1", [1, 1, 0, 0])
    model("x-seed2", [1, 1, 1, 0])
    model("y", [1, 0, 0, 0])
    found = compare(str(base), [str(tmp_path / "all")])
    assert [one.after for one in found] == [
        (f"{tmp_path}/all:x-seed1", f"{tmp_path}/all:x-seed2"),
        (f"{tmp_path}/all:y",),
    ]
    after = found[0].components[0].after
    assert after is not None and after.raw == 0.625 and after.seeds.n == 2
    (one,) = compare(f"{tmp_path}/all:y", [f"{tmp_path}/all:x-seed1"])
    assert one.components[0].change == 0.25


@pytest.mark.parametrize("line", ["{torn", "[]", '{"acc": 1}'])
def test_samples_that_cannot_be_read_are_refused_by_file_and_line(line: str, tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"arc": [1, 0]})
    (path,) = a.rglob("samples_*")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"samples_arc_.*jsonl line 3: "):
        read_models(a)


def test_results_without_any_value_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"arc": [1, 0]})
    (path,) = a.rglob("results_*.json")
    path.write_text(json.dumps({"results": {"arc": {"alias": "arc", "acc,none": "N/A"}}}))
    with pytest.raises(DataError, match="has no value of any task"):
        read_models(a)
