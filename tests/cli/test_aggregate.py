"""harness aggregate: lm-eval's own result files to the paper's averages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import run
from harness.core.errors import DataError
from harness.core.measurement import Measurement
from harness.lm_eval.results import read_results
from harness.tasks.suites.catalog import suites

PAPER = {
    **{"MMLU": 34.5, "HellaSwag": 64.5, "OpenBookQA": 37.0, "WinoGrande": 61.56, "ARC-Challenge": 36.69, "PIQA": 75.84},
    **{"SciQ": 84.2, "LogiQA": 28.11, "GSM8K": 2.55, "Minerva": 4.1, "MATH": 4.22, "MathQA": 24.52},
}


def document(values: dict[str, float], *, model: str = "base", date: float = 1.0, **changes: Any) -> dict[str, Any]:
    """What lm-eval writes, with these benchmarks (percent) in it."""
    every = {b.name: b for benchmarks in suites().values() for b in benchmarks}
    results, shots, samples = {}, {}, {}
    for name, value in values.items():
        benchmark = every[name]
        metric, _, filter_name = benchmark.metric.partition(",")
        task = benchmark.tasks[-1]
        results[task] = {"alias": task, benchmark.metric: value / 100, f"{metric}_stderr,{filter_name}": 0.01}
        shots[task] = benchmark.num_fewshot
        samples[task] = {"original": 100, "effective": 100}
    return {
        "results": results,
        "versions": dict.fromkeys(results, 1.0),
        "n-shot": shots,
        "n-samples": samples,
        "config": {"model": "hf", "model_args": {"pretrained": model}, "limit": None},
        "date": date,
        "model_name": model,
        **changes,
    }


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def half(first: bool) -> dict[str, float]:
    return {name: value for index, (name, value) in enumerate(PAPER.items()) if (index < 6) is first}


def test_the_papers_row_from_files_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "run/base/results_1.json", document(half(True)))
    write(tmp_path / "run/base/results_2.json", document(half(False)))
    assert run(["aggregate", str(tmp_path / "run"), "--json", str(tmp_path / "out.json")]) == 0
    rows = {line.split("  ")[0].strip(): line.split()[-3:] for line in capsys.readouterr().out.splitlines()}
    assert rows["general (8)"][0] == "52.80" and rows["math (4)"][0] == "8.85" and rows["overall (12)"][0] == "38.15"
    assert rows["MMLU"] == ["34.50", "±", "1.00"]
    assert rows["overall (12)"][2] == f"{1 / 12**0.5:.2f}"
    (model,) = json.loads((tmp_path / "out.json").read_text())["models"]
    assert [component["name"] for component in model["components"]] == list(PAPER)
    for component in model["components"]:
        fields = {key: value for key, value in component.items() if key in Measurement.model_fields}
        assert Measurement.model_validate(fields).raw == pytest.approx(PAPER[component["name"]] / 100)
    assert model["averages"]["overall"]["value"] == pytest.approx(0.3815, abs=5e-5)
    assert model["averages"]["overall"]["missing"] == []


def test_a_missing_benchmark_is_named_and_its_averages_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a/results_1.json", document({k: v for k, v in PAPER.items() if k != "SciQ"}, model="a"))
    write(tmp_path / "b/results_1.json", document({**PAPER, "HumanEval": 10.0, "MBPP": 20.0}, model="b"))
    assert run(["aggregate", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 0
    said = capsys.readouterr()
    general = next(line for line in said.out.splitlines() if line.startswith("general"))
    assert "missing" in general and "52.80" in general
    assert "a: missing: SciQ, HumanEval, MBPP" in said.err
    a, b = json.loads((tmp_path / "out.json").read_text())["models"]
    assert a["averages"]["general"]["value"] is None and a["averages"]["general"]["missing"] == ["SciQ"]
    assert a["averages"]["overall"]["value"] is None, "what one model has, every model is asked for"
    assert b["averages"]["overall"]["n"] == 14 and b["averages"]["code"]["value"] == pytest.approx(0.15)
    assert run(["aggregate", str(tmp_path), "--suite", "math"]) == 0
    assert "missing" not in capsys.readouterr().out


def test_what_is_odd_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = document({"MMLU": 30.0}, date=1.0)
    new = document({"MMLU": 34.5, "GSM8K": 2.0}, date=2.0)
    new["n-shot"]["mmlu"] = 0
    new["config"]["limit"] = 10
    del new["results"]["gsm8k"]["exact_match,strict-match"]
    files = [write(tmp_path / "z/results_1.json", new), write(tmp_path / "a/results_2.json", old)]
    (model,) = read_results(files)
    assert model.measurements["MMLU"].raw == 0.345
    assert run(["aggregate", *map(str, files)]) == 0
    said = capsys.readouterr().err
    for words in (
        "MMLU: measured more than once",
        "MMLU: 0 examples in",
        "limit 10",
        "GSM8K: ",
        "without exact_match,strict-match",
    ):
        assert words in said


def test_a_groups_examples_and_questions_are_those_of_its_tasks(tmp_path: Path) -> None:
    value = document({"MMLU": 30.0})
    value["n-shot"] = {"mmlu_anatomy": 5, "mmlu_virology": 5}
    value["n-samples"] = {leaf: {"original": 9, "effective": 7} for leaf in value["n-shot"]}
    value["group_subtasks"] = {"mmlu": ["mmlu_stem", "mmlu_virology"], "mmlu_stem": ["mmlu_anatomy"]}
    (model,) = read_results([write(tmp_path / "results_1.json", value)])
    made = model.measurements["MMLU"]
    assert (made.detail["num_fewshot"], made.n_scored) == (5, 14) and not model.remarks


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read"),
        ("[]", "is no result file of lm-eval"),
        ('{"results": 3}', "is no result file of lm-eval"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "results_1.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_results([path])


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results_"):
        read_results([tmp_path])
    with pytest.raises(DataError, match="no results at"):
        read_results([tmp_path / "nothing.json"])
    path = write(tmp_path / "results_1.json", document({}, results={"boolq": {"acc,none": 0.5}}))
    assert run(["aggregate", str(path)]) == 4
    assert run(["aggregate", str(path), "--suite", "maths"]) == 3


ADAPTERS: list[tuple[Any, Any]] = [
    ({"peft": "runs/A"}, {"peft": "runs/B"}),
    ({}, {"peft": "runs/B"}),
    ({"delta": "d1"}, {"delta": "d2"}),
    ({"revision": "step1"}, {"revision": "step2"}),
    ({}, {"revision": "step2"}),
    ({"subfolder": "a"}, {"subfolder": "b"}),
    ({"dtype": "float32"}, {"dtype": "bfloat16"}),
    ({"load_in_4bit": True}, {"load_in_8bit": True}),
    ({"autogptq": "a.safetensors"}, {}),
    ({"gguf_file": "q4.gguf"}, {"gguf_file": "q8.gguf"}),
    ({"tokenizer": "other"}, {}),
    ({"add_bos_token": True}, {}),
    ({"max_length": 2048}, {"max_length": 4096}),
    ({"enable_thinking": False}, {}),
    ({"chat_template_args": {"thinking": True}}, {"chat_template_args": {"thinking": False}}),
    ({"a_new_argument": 1}, {"a_new_argument": 2}),
]


def as_text(arguments: dict[str, Any]) -> str:
    return ",".join(f"{k}={json.dumps(v) if isinstance(v, dict) else v}" for k, v in arguments.items())


def two_files(tmp_path: Path, one: Any, other: Any) -> list[str]:
    for name, arguments, values in (("a", one, {"PIQA": 10.0}), ("b", other, {"SciQ": 90.0})):
        value = document(values, model="the name")
        value["config"]["model_args"] = arguments
        write(tmp_path / name / "results_1.json", value)
    return [model.label for model in read_results([tmp_path])]


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(("one", "other"), ADAPTERS)
def test_whatever_model_args_tell_apart_is_another_column(tmp_path: Path, one: Any, other: Any, text: bool) -> None:
    both = [{"pretrained": "base", **arguments} for arguments in (one, other)]
    labels = two_files(tmp_path, *(as_text(arguments) if text else arguments for arguments in both))
    assert len(set(labels)) == 2
    for label, arguments in zip(labels, (one, other), strict=True):
        assert label.startswith("base") and all(f", {key}=" in label for key in arguments)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"peft": "A", "dtype": "float32", "load_in_4bit": True}, "peft=A,load_in_4bit=True,dtype=torch.float32"),
        ({}, "revision=main,dtype=auto,subfolder=,peft=None,load_in_8bit=False,tokenizer=base"),
        ({"batch_size": 1, "device": "cuda:0"}, {"batch_size": "auto", "device": "cpu", "parallelize": True}),
        ({"torch_dtype": "bfloat16"}, {"dtype": "bfloat16"}),
        ({"chat_template_args": {"b": 1, "a": 2}}, 'chat_template_args={"a": 2, "b": 1}'),
        ({"token": "secret", "openai_api_key": "secret"}, {}),
        ({"max_length": 2048}, '{"pretrained": "base", "max_length": 2048}'),
        ({"dtype": "half"}, "dtype=float16"),
        ({"peft": "A"}, ["pretrained=base", "peft=A"]),
    ],
)
def test_one_model_is_one_column_however_its_arguments_are_written(tmp_path: Path, one: Any, other: Any) -> None:
    if isinstance(other, str) and not other.startswith("{"):
        other = f"pretrained=base,{other}"
    elif isinstance(other, dict):
        other = {"pretrained": "base", **other}
    (label,) = two_files(tmp_path, {"pretrained": "base", **one}, other)
    assert label == ("base, peft=A" if "peft" in one else "base")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["pretrained=base,peft=A"], ["pretrained=base,peft=B"]),
        ("pretrained=base,system_instruction=Hello, sun", "pretrained=base,system_instruction=Hello, moon"),
        ('{"pretrained": "base", "peft": A}', '{"pretrained": "base", "peft": B}'),
    ],
)
def test_models_are_told_apart_in_every_spelling(tmp_path: Path, one: Any, other: Any) -> None:
    assert len(set(two_files(tmp_path, one, other))) == 2


def test_a_file_without_model_args_is_named_as_lm_eval_names_it(tmp_path: Path) -> None:
    assert two_files(tmp_path, None, "") == ["the name"]


@pytest.mark.parametrize(
    ("value", "stderr", "impossible"),
    [
        (0.345, 0, True),
        (0.345, 0.0, True),
        (0.345, float("nan"), True),
        (0.345, float("inf"), True),
        (0.345, -0.01, True),
        (0.345, 0.7, True),
        (0.345, 0.06, True),  # of 100 questions it is 0.048 at most
        (0.0, 0.02, True),
        (1.0, 0.02, True),
        (0.345, 0.048, False),
        (0.345, "0.01?", True),
        (0.345, True, True),
        (0.0, 0.0, False),
        (1.0, 0.0, False),
        (0.345, "N/A", False),
        (0.345, None, False),
        (0.345, 0.01, False),
    ],
)
def test_a_standard_error_that_cannot_be_is_remarked_and_not_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, stderr: Any, impossible: bool
) -> None:
    made = document({"PIQA": 10.0, "SciQ": 20.0})
    (task,) = [name for name in made["results"] if "piqa" in name]
    metric = next(key for key in made["results"][task] if "," in key and "_stderr" not in key)
    made["results"][task] |= {metric: value, metric.replace(",", "_stderr,"): stderr}
    path = write(tmp_path / "results_1.json", made)
    (model,) = read_results([path])
    measured = model.measurements["PIQA"]
    assert measured.raw == value
    known = isinstance(stderr, float) and not impossible
    assert measured.stderr == (stderr if known else None)
    assert any("PIQA: the standard error" in remark and str(path) in remark for remark in model.remarks) is impossible
    assert run(["aggregate", str(path), "--suite", "general"]) == 0
    assert ("cannot be" in capsys.readouterr().err) is impossible


def test_a_standard_error_of_0_is_not_certainty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = document({**PAPER, "GSM8K": 0.0})
    value["results"]["gsm8k"]["exact_match_stderr,strict-match"] = 0.0
    write(tmp_path / "m/results_1.json", value)
    assert run(["aggregate", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 0
    rows = {line.split("  ")[0].strip(): line.split()[-3:] for line in capsys.readouterr().out.splitlines()}
    assert rows["GSM8K"] == ["0.00", "±", "1.00"], "as if one of its 100 questions had come out otherwise"
    assert rows["math (4)"][2] == f"{4**0.5 / 4:.2f}"
    (model,) = json.loads((tmp_path / "out.json").read_text())["models"]
    gsm8k = next(component for component in model["components"] if component["name"] == "GSM8K")
    assert gsm8k["stderr"] == 0.0, "as lm-eval wrote it"
