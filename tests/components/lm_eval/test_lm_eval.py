"""Benchmarks as components: the numbers of lm-eval's own command line, shared answers, what cannot be had, and why."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import forked
import pyarrow.parquet as pq
import pytest
import suite_samples as samples
import tiny
import torch
import yaml
from served import ServedSubject, served

from harness.checkpoints.find import find_checkpoints
from harness.components.lm_eval.component import LmEvalComponent
from harness.components.lm_eval.evaluation import Evaluation
from harness.core.component import Outcome, SilentProgress
from harness.core.errors import DataError, HarnessError, SpecError
from harness.engines.chat.transformers_completer import TransformersCompleter
from harness.engines.scripted.server import TextAnswer
from harness.lm_eval.results import read_results
from harness.reward_models.completed import completed
from harness.reward_models.items import Items, scored_items
from harness.reward_models.logprob import measure_logprob
from harness.run.live import RewardEnvironment
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec
from harness.tasks.suites.build import _leaves
from harness.tasks.suites.catalog import suites
from harness.tasks.suites.index import task_manager

LIKELIHOODS = {"piqa": "acc_norm", "arc_challenge": "acc_norm", "winogrande": "acc", "mmlu": "acc"}


class Ran(NamedTuple):
    """One run of lm-eval's command line, and the same model and data for ours."""

    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]
    folder: Path
    data: dict[str, Any]

    def model(self) -> Any:
        return tiny.llama()


def subjects() -> list[str]:
    return [name.removeprefix("mmlu_") for name, _ in _leaves(task_manager(()).task_index, "mmlu", ())]


def overriding(folder: Path, data: dict[str, Any]) -> None:
    """For lm-eval's command line: a task of the same name with the same definition, which reads local files."""
    index = task_manager(()).task_index
    for name, source in data.items():
        for task, _ in _leaves(index, name, ()):
            subject = task.removeprefix("mmlu_")
            files = {split: one.replace("{name}", subject) for split, one in source["files"].items()}
            definition = {
                "include": str(index[task].yaml_path),
                "task": task,
                "dataset_path": "json",
                "dataset_name": None,
                "dataset_kwargs": {"data_files": files},
                "num_fewshot": 5 if name in ("mmlu", "gsm8k") else 0,
            }
            (folder / f"{task}.yaml").write_text(yaml.safe_dump(definition))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("suites")
    tiny.save(folder / "model", tiny.llama())
    every = samples.all_data(folder / "data")
    data = {name: every[name] for name in ("piqa", "arc_challenge", "winogrande", "gsm8k")}
    data["mmlu"] = samples.mmlu_files(folder / "data/mmlu", subjects())
    (folder / "tasks").mkdir()
    overriding(folder / "tasks", data)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", ",".join(data), "--device", "cpu"]
    command += ["--model_args", "pretrained=model,dtype=float32,logits_cache=False", "--include_path", "tasks"]
    command += ["--batch_size", "1", "--output_path", "out", "--log_samples"]
    done = forked.run(command, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (folder / "out").rglob("results_*.json")
    logged = {}
    for file in path.parent.glob("samples_*.jsonl"):
        task = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        logged[task] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    results = json.loads(path.read_text())["results"]
    yield Ran(results, logged, folder, data)


def load(**component: Any) -> LmEvalComponent:
    spec = {"components": [{"name": component.get("task") or component["suite"], "kind": "lm_eval", **component}]}
    (made,) = prepare(parse_spec(spec)).components
    assert isinstance(made, LmEvalComponent)
    return made


def local(model: Any = None, tokenizer: Any = None) -> ServedSubject:
    """A subject without a server."""
    return ServedSubject(model or tiny.llama(), tokenizer or tiny.tokenizer(), SpecError("no server here"))


def measure(component: LmEvalComponent, subject: Any, scratch: Path) -> Outcome:
    return component.measure(subject, SilentProgress(), scratch)


def shots(task: str) -> dict[str, Any]:
    return {"num_fewshot": 5} if task == "mmlu" else {}


# The numbers of lm-eval.


@pytest.mark.parametrize("task", LIKELIHOODS)
def test_values_and_standard_errors_are_those_of_lm_evals_command_line(ran: Ran, task: str, tmp_path: Path) -> None:
    made = measure(
        load(task=task, data={task: ran.data[task]}, **shots(task)), local(ran.model()), tmp_path
    ).measurement
    theirs, metric = ran.results[task], LIKELIHOODS[task]
    assert (made.status, made.metric) == ("ok", metric)
    assert made.raw == pytest.approx(theirs[f"{metric},none"], abs=1e-9)
    assert made.stderr == pytest.approx(theirs[f"{metric}_stderr,none"], abs=1e-9)
    if metric == "acc_norm":
        assert made.detail["metrics"] == pytest.approx(
            {"acc,none": theirs["acc,none"], "acc_stderr,none": theirs["acc_stderr,none"]}, abs=1e-9
        )


@pytest.mark.parametrize("task", ["piqa", "winogrande"])
def test_each_question_has_lm_evals_value_and_its_right_answers_likelihood(ran: Ran, task: str, tmp_path: Path) -> None:
    items = measure(load(task=task, data={task: ran.data[task]}), local(ran.model()), tmp_path).items
    for place, sample in enumerate(sorted(ran.samples[task], key=lambda sample: sample["doc_id"])):
        doc = sample["doc"]
        gold = doc["label"] if task == "piqa" else int(doc["answer"]) - 1
        assert items["id"][place] == f"{task}/{sample['doc_id']}"
        assert items["value"][place] == sample[LIKELIHOODS[task]]
        assert items["gold_logprob"][place] == pytest.approx(float(sample["resps"][gold][0][0]), abs=1e-4)
        continuation = sample["arguments"][f"gen_args_{gold}"]["arg_1"]
        assert items["gold_n_bytes"][place] == len(continuation.encode())


@pytest.mark.parametrize("task", LIKELIHOODS)
def test_the_choice_that_was_taken_is_the_right_one_exactly_where_lm_eval_says_so(
    ran: Ran, task: str, tmp_path: Path
) -> None:
    items = measure(load(task=task, data={task: ran.data[task]}, **shots(task)), local(ran.model()), tmp_path).items
    rows = zip(items["answer"], items["target"], items["value"], strict=True)
    assert all((answer == target) == (value == 1.0) for answer, target, value in rows)
    assert all(items["answer"]) and all(items["target"])
    if task in ran.samples:
        asked = {f"{task}/{one['doc_id']}": one["arguments"]["gen_args_0"]["arg_0"] for one in ran.samples[task]}
        for identity, prompt in zip(items["id"], items["prompt"], strict=True):
            assert asked[identity].endswith(prompt.removeprefix("… "))


def test_bits_per_byte_of_the_right_answers_is_what_a_logprob_field_of_them_has(ran: Ran, tmp_path: Path) -> None:
    from harness.core.pair import Pair
    from harness.core.tokens import fit_context
    from harness.engines.scoring.packs import PackPlan
    from harness.engines.scoring.score import score
    from harness.tasks.reward_env.encode import encode

    made = measure(load(task="piqa", data={"piqa": ran.data["piqa"]}), local(ran.model()), tmp_path).measurement
    pairs = [
        Pair(
            id=str(i), q=f"Question: {row['goal']}\nAnswer:", r=f" {row['sol1'] if row['label'] == 0 else row['sol2']}"
        )
        for i, row in enumerate(samples.piqa())
    ]
    fitted = fit_context(encode(tiny.tokenizer(), pairs).pairs, 1024, "fail").pairs
    nats = score(ran.model(), PackPlan(fitted), progress=SilentProgress()).logprob
    field = measure_logprob(fitted, nats, n_items=len(pairs))
    assert made.detail["bits_per_byte"] == pytest.approx(field.detail["bits_per_byte"], abs=1e-6)
    assert made.detail["gold_logprob_per_token"] == pytest.approx(field.raw, abs=1e-6)


def test_generation_through_a_server_gives_the_texts_and_values_of_lm_evals_hf(ran: Ran, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    component = load(task="gsm8k", data={"gsm8k": ran.data["gsm8k"]})
    assert component.served
    with served(TransformersCompleter(ran.model(), tokenizer), tokenizer) as (subject, server):
        outcome = measure(component, subject, tmp_path)
    theirs = [s for s in ran.samples["gsm8k"] if s["filter"] == "strict-match"]
    assert [s["resps"][0][0] for s in sorted(theirs, key=lambda s: s["doc_id"])] == outcome.items["answer"]
    asked = {one["doc_id"]: one["arguments"]["gen_args_0"]["arg_0"] for one in theirs}
    assert all(asked[doc].endswith(text.removeprefix("… ")) for doc, text in enumerate(outcome.items["prompt"]))
    assert outcome.items["target"] == [one["target"] for one in sorted(theirs, key=lambda s: s["doc_id"])]
    made = outcome.measurement
    assert made.raw == ran.results["gsm8k"]["exact_match,strict-match"]
    assert made.stderr == ran.results["gsm8k"]["exact_match_stderr,strict-match"]
    assert server.requests == made.n_scored == 8
    assert outcome.engine.name == "scripted"
    assert made.detail["filter"] == "strict-match" and made.detail["num_fewshot"] == 5


def test_a_number_in_the_text_is_what_each_filter_makes_of_it(ran: Ran, tmp_path: Path) -> None:
    """Three of eight right by the strict filter; the flexible one takes the last number of any answer."""
    right = [7 * i for i in range(8)]
    said = iter([f" so\n#### {n}" if i < 3 else f" it is {n}" if i < 6 else " none" for i, n in enumerate(right)])
    tokenizer = tiny.tokenizer()
    component = load(task="gsm8k", data={"gsm8k": ran.data["gsm8k"]})
    flexible = load(task="gsm8k", metric="exact_match,flexible-extract", data={"gsm8k": ran.data["gsm8k"]})
    with served(lambda _: TextAnswer(text=next(said)), tokenizer, parallel=1) as (subject, server):
        strict_made = measure(component, subject, tmp_path / "a").measurement
        flexible_made = measure(flexible, subject, tmp_path / "b").measurement
    assert strict_made.raw == pytest.approx(3 / 8)
    assert flexible_made.raw == pytest.approx(6 / 8)
    assert server.requests == 8, "two metrics of one evaluation ask once"


TEXTS = [{"text": "The quick brown fox jumps over the lazy dog. " * n, "end": " Paris"} for n in (1, 2, 40)]
KINDS: dict[str, dict[str, Any]] = {
    "loglikelihood_rolling": {"doc_to_target": "{{text}}", "doc_to_text": ""},
    "loglikelihood": {"doc_to_target": "{{end}}", "doc_to_text": "{{text}}"},
}
METRICS = {"loglikelihood_rolling": ("bits_per_byte", "bits_per_byte"), "loglikelihood": ("acc", "mean")}


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_of_ones_own_have_lm_evals_values(tmp_path: Path, kind: str) -> None:
    """A folder of YAML, and the kinds of request that no suite has."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    metric, aggregation = METRICS[kind]
    better = metric == "acc"
    task = {
        "task": "own_task",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": samples.write(tmp_path / "rows.jsonl", TEXTS)}},
        "test_split": "test",
        "output_type": kind,
        "target_delimiter": "",
        "metric_list": [{"metric": metric, "aggregation": aggregation, "higher_is_better": better}],
        **KINDS[kind],
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/own.yaml").write_text(yaml.safe_dump(task))
    component = load(task="own_task", include_path=[str(tmp_path / "tasks")])
    made = measure(component, local(), tmp_path / "work").measurement
    manager = TaskManager(include_defaults=False, include_path=str(tmp_path / "tasks"))
    theirs = simple_evaluate(
        model=HFLM(tiny.llama(), tokenizer=tiny.tokenizer(), logits_cache=False),
        tasks=["own_task"],
        task_manager=manager,
        bootstrap_iters=0,
    )
    assert theirs is not None
    assert made.raw == pytest.approx(theirs["results"]["own_task"][f"{metric},none"], rel=1e-5)
    assert (made.status, made.metric, made.higher_is_better, made.n_scored) == ("ok", metric, better, 3)
    if kind == "loglikelihood":
        assert made.detail["bits_per_byte"] is not None


def own_task(folder: Path, rows: list[dict[str, Any]], **keys: Any) -> LmEvalComponent:
    """A task of one's own over some rows."""
    task = {
        "task": "own_task",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": samples.write(folder / "rows.jsonl", rows)}},
        "test_split": "test",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
        **keys,
    }
    (folder / "tasks").mkdir()
    (folder / "tasks/own.yaml").write_text(yaml.safe_dump(task))
    return load(task="own_task", include_path=[str(folder / "tasks")])


def test_a_request_that_cannot_be_scored_costs_its_question_and_no_other(tmp_path: Path) -> None:
    rows = [
        {"text": "The quick", "end": " fox"},
        {"text": "The quick", "end": ""},
        {"text": "", "end": ""},
        {"text": "The", "end": " quick brown fox jumps over" * 300},
    ]
    keys = {"output_type": "loglikelihood", "doc_to_text": "{{text}}", "doc_to_target": "{{end}}"}
    outcome = measure(own_task(tmp_path, rows, **keys), local(), tmp_path / "work")
    made = outcome.measurement
    assert (made.status, made.n_items, made.n_scored) == ("partial", 4, 1) and made.raw is not None
    reasons = dict(zip(outcome.items["id"], outcome.items["reason"], strict=True))
    assert reasons["own_task/0"] is None
    assert "continuation has 0 tokens" in reasons["own_task/1"] and "nothing to score" in reasons["own_task/2"]
    assert "the model's context" in reasons["own_task/3"]


def test_a_question_without_choices_is_counted_with_its_cause(tmp_path: Path) -> None:
    rows = [{"q": "a", "choices": [" b", " c"], "a": 0}, {"q": "a", "choices": [], "a": 0}]
    keys = {"output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "choices", "doc_to_target": "a"}
    outcome = measure(own_task(tmp_path, rows, **keys), local(), tmp_path / "work")
    made = outcome.measurement
    assert (made.status, made.n_items, made.n_scored) == ("partial", 2, 1)
    assert "no choices" in (made.reason or "") and "no choices" in outcome.items["reason"][1]


def test_aggregate_reads_what_lm_eval_wrote(ran: Ran) -> None:
    (model,) = read_results([ran.folder / "out"])
    assert model.label == "model" and not model.remarks
    assert set(model.measurements) == {"PIQA", "ARC-Challenge", "WinoGrande", "MMLU", "GSM8K"}
    mmlu = model.measurements["MMLU"]
    assert (mmlu.raw, mmlu.stderr) == (ran.results["mmlu"]["acc,none"], ran.results["mmlu"]["acc_stderr,none"])
    assert (mmlu.detail["num_fewshot"], mmlu.n_items, mmlu.detail["version"]) == (5, 171, "2")


# Sweeps.


def test_components_that_ask_the_same_share_one_evaluation(ran: Ran, tmp_path: Path) -> None:
    data = {"piqa": ran.data["piqa"]}
    one, two = load(task="piqa", data=data), load(task="piqa", metric="acc", data=data)
    other = load(task="piqa", data=data, limit=3)
    assert one.evaluation is two.evaluation and one.evaluation is not other.evaluation
    subject = local(ran.model())
    assert one.evaluation.on(subject, SilentProgress(), tmp_path) is two.evaluation.on(
        subject, SilentProgress(), tmp_path
    )
    assert one.definition != two.definition != other.definition


def test_a_second_checkpoint_gets_its_own_answers(ran: Ran, tmp_path: Path) -> None:
    component = load(task="arc_challenge", data={"arc_challenge": ran.data["arc_challenge"]})
    models = [tiny.llama(seed=0), tiny.llama(seed=5)]
    golds = [measure(component, local(model), tmp_path).items["gold_logprob"] for model in models]
    assert golds[0] != golds[1]
    fresh = Evaluation(
        component.evaluation.built, component.evaluation.prompting, seed=1234, batch_tokens=None, timeout_s=9
    )
    assert (
        measure(LmEvalComponent(component.config, fresh, component.metrics), local(models[1]), tmp_path).items[
            "gold_logprob"
        ]
        == golds[1]
    )


def test_a_live_model_is_left_as_it_was(ran: Ran, tmp_path: Path) -> None:
    model, tokenizer = tiny.llama().train(), tiny.tokenizer()
    measure(load(task="piqa", data={"piqa": ran.data["piqa"]}), local(model, tokenizer), tmp_path)
    assert all(module.training for module in model.modules())
    assert tokenizer.pad_token is None


def test_a_training_loop_gets_likelihood_benchmarks_and_no_others(ran: Ran) -> None:
    def spec(task: str) -> Any:
        return parse_spec(
            {"components": [{"name": task, "kind": "lm_eval", "task": task, "data": {task: ran.data[task]}}]}
        )

    vector = RewardEnvironment(spec("piqa")).feedback(ran.model(), tiny.tokenizer(), step=1)
    assert vector.components[0].raw == pytest.approx(ran.results["piqa"]["acc_norm,none"], abs=1e-9)
    with pytest.raises(SpecError, match="gsm8k need a checkpoint on a server"):
        RewardEnvironment(spec("gsm8k"))


def test_a_run_keeps_what_it_measured_with_every_question(ran: Ran, tmp_path: Path) -> None:
    components = [
        {"name": "one", "kind": "lm_eval", "task": "piqa", "data": {"piqa": ran.data["piqa"]}},
        {"name": "two", "kind": "lm_eval", "task": "piqa", "metric": "acc", "data": {"piqa": ran.data["piqa"]}},
    ]
    prepared = prepare(parse_spec({"components": components}))
    checkpoints = find_checkpoints([str(ran.folder / "model")])
    first = run(prepared, checkpoints, out=tmp_path / "out")
    again = run(prepared, checkpoints, out=tmp_path / "out")
    assert (first.n_new, again.n_new) == (1, 0) and first.feed[0] == again.feed[0]
    one, two = first.feed[0].components
    assert [one.raw, two.raw] == [ran.results["piqa"][f"{metric},none"] for metric in ("acc_norm", "acc")]
    rows = pq.read_table(tmp_path / "out" / str(one.detail["items"])).to_pydict()
    assert len(rows["id"]) == 12 and set(rows["status"]) == {"ok"}
    assert first.feed[0].provenance.tasks["one"]["lm_eval"] == "0.4.13"


def test_the_definition_is_content_and_no_path(tmp_path: Path) -> None:
    def definition(folder: str, **changes: Any) -> Any:
        rows = samples.piqa(changes.pop("n", 12))
        source = samples.splits(tmp_path / folder, rows, "train", "validation")
        return load(task="piqa", data={"piqa": source}, **changes).definition

    assert definition("a") == definition("b")
    assert str(tmp_path) not in json.dumps(definition("a"))
    assert definition("a") != definition("c", n=11)
    assert definition("a") != definition("a", limit=4)
    assert definition("a") != definition("a", num_fewshot=2)
    assert definition("a", num_fewshot=2) != definition("a", num_fewshot=2, seed=7)
    assert definition("a", num_fewshot=2) == definition("a", num_fewshot=2, seed=1234)


# What cannot be had.


def test_a_lost_answer_is_a_failed_question_and_never_an_empty_one(ran: Ran, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    component = load(task="gsm8k", metric="exact_match,flexible-extract", data={"gsm8k": ran.data["gsm8k"]})

    def answer(request: Any) -> TextAnswer:
        asked = tokenizer.decode(request.prompt).rsplit("Question:", 1)[1]
        number = int(asked.split("?")[0].split()[-1])
        if number == 5:
            raise LookupError("no such model")
        return TextAnswer(text=f" it is {7 * number}")

    with served(answer, tokenizer) as (subject, _):
        outcome = measure(component, subject, tmp_path)
    made = outcome.measurement
    assert (made.status, made.raw, made.n_items, made.n_scored) == ("partial", 1.0, 8, 7)
    assert made.reason is not None and "1 of 8 questions have no answer" in made.reason and "404" in made.reason
    assert outcome.items["status"].count("failed") == 1
    assert outcome.items["answer"][5] is None


def test_a_server_that_cannot_be_had_is_a_failure_with_its_cause(ran: Ran, tmp_path: Path) -> None:
    component = load(task="gsm8k", data={"gsm8k": ran.data["gsm8k"]})
    with pytest.raises(
        SpecError, match="a benchmark that generates text needs the checkpoint on a server: no server here"
    ):
        measure(component, local(), tmp_path)


def test_a_broken_checkpoint_is_named_by_its_weight(ran: Ran, tmp_path: Path) -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    component = load(task="piqa", data={"piqa": ran.data["piqa"]})
    subject = local(model)
    for _ in range(2):  # the second time from memory
        with pytest.raises(
            HarnessError, match=r"none of 24 requests is finite; weight model.layers.1.mlp.up_proj.weight"
        ):
            measure(component, subject, tmp_path)


def test_data_that_is_not_here_is_said_before_anything_runs() -> None:
    with pytest.raises(DataError, match=r"Rowan/hellaswag is not on this machine.*`data: {hellaswag: {path: FOLDER}}`"):
        load(task="hellaswag")
    with pytest.raises(DataError, match=r"cais/mmlu is not on this machine.* and 54 more"):
        load(task="mmlu")
    with pytest.raises(DataError, match=r"no file nowhere/validation.jsonl \(split validation\)"):
        load(task="piqa", data={"piqa": {"files": {"validation": "nowhere/validation.jsonl"}}})
    with pytest.raises(DataError, match=r"data set with a script.*harness_logiqa"):
        load(task="logiqa")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"task": "piqq"}, "lm-eval has no task 'piqq'"),
        ({"task": "piqa", "metric": "f1"}, "no metric 'f1'; metric is one of acc,none, acc_norm,none"),
        ({"task": "piqa", "data": {"pica": {"path": "x"}}}, "data names pica"),
        ({"task": "gsm8k", "metric": "exact_match"}, "several filters; metric is one of exact_match,strict-match"),
        ({"task": "ai2_arc"}, "tag of 2 tasks"),
        ({"task": "piqa", "include_path": ["nowhere"]}, "include_path nowhere is not a folder"),
        ({"task": "harness_humaneval"}, "runs programs that the model wrote.*--allow-code-execution"),
        ({"suite": "code"}, "runs programs that the model wrote.*--allow-code-execution"),
        ({"task": "humaneval", "allow_code_execution": True}, "use harness_humaneval"),
        ({"task": "harness_humaneval", "num_fewshot": 3, "allow_code_execution": True}, "defined without examples"),
    ],
)
def test_what_cannot_be_measured_as_written_is_refused(ran: Ran, keys: dict[str, Any], message: str) -> None:
    every = {**samples.all_data(ran.folder / "data"), **ran.data}
    data = {key: value for key, value in every.items() if key == keys.get("task")}
    if keys.get("task") == "ai2_arc":
        data = {"ai2_arc": every["arc_challenge"]}
    with pytest.raises(SpecError, match=message):
        load(**{"data": data, **keys, **({"data": {**data, **keys["data"]}} if "data" in keys else {})})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "give either task or suite"),
        ({"task": "piqa", "suite": "general"}, "give either task or suite"),
        ({"suite": "general", "metric": "acc"}, "a suite has its own metrics"),
        ({"task": "piqa", "fewshot_as_multiturn": True}, "goes with apply_chat_template"),
        ({"suite": "generel"}, "suite"),
    ],
)
def test_keys_that_exclude_each_other(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec({"components": [{"name": "x", "kind": "lm_eval", **keys}]})


# Suites and code.


def code_data(ran: Ran) -> dict[str, Any]:
    every = samples.all_data(ran.folder / "data")
    return {name: every[name] for name in ("harness_humaneval", "harness_mbpp")}


def explained(outcome: Outcome) -> Items:
    """The items that the value is the mean of, whoever weighs them."""
    found = scored_items(outcome.items, outcome.measurement)
    assert isinstance(found, Items), found
    return found


def test_a_suite_is_the_plain_mean_of_its_benchmarks_with_each_in_the_breakdown(ran: Ran, tmp_path: Path) -> None:
    component = load(suite="code", data=code_data(ran), allow_code_execution=True)
    tokenizer = tiny.tokenizer()

    def answer(request: Any) -> TextAnswer:
        prompt = tokenizer.decode(request.prompt)
        if "[BEGIN]" in prompt:
            return TextAnswer(
                text="def add(a, b):\n    return a + b\n"
                if "Add." in prompt.rsplit("task:", 1)[1]
                else "def f(): pass\n"
            )
        return TextAnswer(text="    return a + b\n" if "def add" in prompt else "    return 2 * a\n")

    with served(answer, tokenizer, max_model_len=4096) as (subject, _):
        outcome = measure(component, subject, tmp_path)
    made = outcome.measurement
    assert explained(outcome).layout.weights.tolist() == [0.5, 0.5]
    breakdown: Any = made.detail["breakdown"]
    assert (breakdown["HumanEval"]["value"], breakdown["MBPP"]["value"]) == (1.0, 0.5)
    assert made.raw == pytest.approx(0.75) and made.status == "ok" and made.n_scored == 4
    assert made.stderr == pytest.approx((0.0 + breakdown["MBPP"]["stderr"] ** 2) ** 0.5 / 2)
    assert breakdown["MBPP"]["num_fewshot"] == 3 and breakdown["HumanEval"]["metric"] == "pass@1,create_test"


def test_the_general_suite_has_all_eight_with_their_bits_per_byte(ran: Ran, tmp_path: Path) -> None:
    every = {**samples.all_data(ran.folder / "data"), **ran.data}
    data = {name: every[name] for name in suite_tasks("general")}
    component = load(suite="general", data=data)
    assert not component.served
    outcome = measure(component, local(ran.model()), tmp_path)
    made = outcome.measurement
    assert len(explained(outcome).layout.weights) == 7 + 57, "MMLU is a group of 57"
    breakdown: Any = made.detail["breakdown"]
    assert list(breakdown) == [benchmark.name for benchmark in suites()["general"]]
    assert made.raw == pytest.approx(sum(row["value"] for row in breakdown.values()) / 8)
    assert made.stderr == pytest.approx(sum(row["stderr"] ** 2 for row in breakdown.values()) ** 0.5 / 8)
    assert made.status == "ok" and made.n_scored == sum(row["n_scored"] for row in breakdown.values())
    assert all(row["bits_per_byte"] > 0 for row in breakdown.values())
    assert {name: row["num_fewshot"] for name, row in breakdown.items() if row["num_fewshot"]} == {"MMLU": 5}
    for task in ("piqa", "mmlu"):
        (row,) = [row for row in breakdown.values() if row["task"] == task]
        assert row["value"] == pytest.approx(ran.results[task][f"{LIKELIHOODS[task]},none"], abs=1e-9)
    older = {name: {k: v for k, v in row.items() if k != "bits_per_byte_stderr"} for name, row in breakdown.items()}
    before = made.model_copy(update={"detail": {**made.detail, "breakdown": older}})
    assert before != made
    assert completed(before, outcome.items) == made, "what an earlier version left out is in the items"


def suite_tasks(suite: str) -> list[str]:
    return [benchmark.task for benchmark in suites()[suite]]


def test_the_math_suite_asks_for_likelihoods_and_for_texts(ran: Ran, tmp_path: Path) -> None:
    pytest.importorskip("math_verify", reason="Minerva needs math-verify: the extra suites")
    every = {**samples.all_data(ran.folder / "data"), **ran.data}
    component = load(suite="math", data={name: every[name] for name in suite_tasks("math")}, limit=2)
    assert component.served
    tokenizer = tiny.tokenizer()
    said = TextAnswer(text=" 0\nFinal Answer: The final answer is $0$. I hope it is correct.\n#### 0")
    with served(lambda _: said, tokenizer, model=ran.model(), max_model_len=8192) as (subject, _):
        outcome = measure(component, subject, tmp_path)
    made = outcome.measurement
    assert made.reason is None and made.status == "ok"
    assert explained(outcome).layout.n_items.sum() == made.n_scored
    breakdown: Any = made.detail["breakdown"]
    assert [breakdown[name]["value"] for name in ("GSM8K", "Minerva", "MATH")] == [0.5, 0.5, 0.5]
    assert breakdown["Minerva"]["num_fewshot"] == 4 and breakdown["MathQA"]["bits_per_byte"] > 0
    assert sorted(outcome.engine.name.split("+")) == ["scripted", "torch"]
    assert made.n_scored == 2 + 14 + 14 + 2


def test_a_package_that_is_missing_is_named(ran: Ran) -> None:
    if find_spec("math_verify"):
        pytest.skip("math-verify is installed")
    with pytest.raises(SpecError, match=r"task minerva_math needs a package.*math_verify.*pip install .*lm_eval"):
        load(task="minerva_math", data={"minerva_math": samples.all_data(ran.folder / "data")["minerva_math"]})


def test_a_suite_without_one_of_its_benchmarks_has_no_value(ran: Ran, tmp_path: Path) -> None:
    component = load(suite="code", data=code_data(ran), allow_code_execution=True)
    tokenizer = tiny.tokenizer()

    def answer(request: Any) -> TextAnswer:
        if "[BEGIN]" in tokenizer.decode(request.prompt):
            raise LookupError("gone")
        return TextAnswer(text="    return 2 * a\n")

    with served(answer, tokenizer, max_model_len=4096) as (subject, _):
        made = measure(component, subject, tmp_path).measurement
    assert made.raw is None and made.status == "failed"
    assert made.reason is not None and made.reason.startswith(
        "no value for MBPP (MBPP: 2 of 2 questions have no answer"
    )
    breakdown: Any = made.detail["breakdown"]
    assert breakdown["HumanEval"]["value"] == 0.5


def test_a_benchmark_whose_answers_do_not_fit_says_so_and_leaves_the_others(ran: Ran, tmp_path: Path) -> None:
    component = load(suite="code", data=code_data(ran), allow_code_execution=True)
    tokenizer = tiny.tokenizer()
    with served(lambda _: TextAnswer(text=""), tokenizer, max_model_len=1024) as (subject, server):
        made = measure(component, subject, tmp_path).measurement
    assert made.reason is not None
    assert "HumanEval: 2 of 2 questions have no answer: the task asks for up to 1024 new tokens" in made.reason
    breakdown: Any = made.detail["breakdown"]
    assert breakdown["MBPP"]["value"] == 0.0 and server.requests == 2


def test_prompts_of_a_chat_template_are_rendered_by_the_checkpoints_own(ran: Ran, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    component = load(
        task="gsm8k",
        data={"gsm8k": ran.data["gsm8k"]},
        apply_chat_template=True,
        system_instruction="Be brief.",
        limit=1,
    )
    seen: list[str] = []

    def answer(request: Any) -> TextAnswer:
        seen.append(tokenizer.decode(request.prompt))
        return TextAnswer(text="#### 0")

    with served(answer, tokenizer, max_model_len=4096) as (subject, _):
        assert measure(component, subject, tmp_path).measurement.raw == 1.0
    (prompt,) = seen
    assert prompt.startswith("<s><|im_start|>system\nBe brief.<|im_end|>")
    assert prompt.count("<s>") == 1, "BOS stands once"
    assert prompt.count("<|im_start|>assistant") == 6 and prompt.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("engine", ["vllm", "another"])
def test_a_special_token_ends_a_text_and_is_no_part_of_it(ran: Ran, tmp_path: Path, engine: str) -> None:
    """GSM8K stops at <|im_end|>, which vLLM sees only if it is told to keep special tokens; nobody else is told."""
    tokenizer = tiny.tokenizer()
    bodies: list[Any] = []

    def answer(request: Any) -> TextAnswer:
        bodies.append(request.body)
        return TextAnswer(text="<|im_start|> so\n#### 0<|im_end|> and more #### 9")

    with served(answer, tokenizer, engine=engine) as (subject, _):
        outcome = measure(load(task="gsm8k", data={"gsm8k": ran.data["gsm8k"]}, limit=1), subject, tmp_path)
    assert outcome.items["answer"] == [" so\n#### 0"] and outcome.measurement.raw == 1.0
    assert [body.get("skip_special_tokens") for body in bodies] == [False if engine == "vllm" else None]


def test_an_estimate_counts_requests_and_tokens(ran: Ran) -> None:
    subject = local()
    made = load(task="arc_challenge", data={"arc_challenge": ran.data["arc_challenge"]}).estimate(subject)
    assert made.requests == 40 and made.generated_tokens == 0
    assert made.prompt_tokens is not None and made.prompt_tokens > 40 * 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = load(task="gsm8k", data={"gsm8k": ran.data["gsm8k"]}, gen_kwargs={"max_gen_toks": 10}).estimate(
            subject
        )
    assert (written.requests, written.generated_tokens) == (8, 80)


def test_checks_say_what_is_there_and_what_programs_may_do(ran: Ran) -> None:
    (piqa,) = load(task="piqa", data={"piqa": ran.data["piqa"]}).checks()
    assert piqa.ok and piqa.words == "12 questions, version 1.0"
    data = {"harness_humaneval": samples.all_data(ran.folder / "data")["harness_humaneval"]}
    _, sandbox = load(task="harness_humaneval", data=data, allow_code_execution=True).checks()
    assert sandbox.ok and "without network" in sandbox.words


THINKS = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
OPENED{% endif %}{# <think> #}"""


@pytest.mark.parametrize(
    ("opened", "text", "raw"),
    [
        (False, "<think>#### 1\n\nQuestion: is it 2?</think>\n#### 0", 1.0),
        (False, "#### 0", 1.0),
        (False, "<think>#### 0", 0.0),
        (True, "#### 1, no.</think>\n#### 0", 1.0),
        (True, "#### 0", 0.0),
        (False, "The <think> mark is a word.\n#### 0", 1.0),
        (
            False,
            "<|channel|>analysis<|message|>#### 1, no.<|end|><|start|>assistant<|channel|>final<|message|>#### 0",
            1.0,
        ),
    ],
)
def test_what_a_model_thinks_is_not_scored_and_does_not_end_its_answer(
    ran: Ran, tmp_path: Path, opened: bool, text: str, raw: float
) -> None:
    """GSM8K ends a text at "Question:", which a thought may well hold."""
    template = THINKS.replace("OPENED", "<think>\n" if opened else "")
    if "<|channel|>" in text:
        template = template.replace("<think>", "<|channel|>")
    tokenizer = tiny.tokenizer(chat_template=template)
    component = load(task="gsm8k", data={"gsm8k": ran.data["gsm8k"]}, apply_chat_template=True, limit=1)
    bodies: list[Any] = []

    def answer(request: Any) -> TextAnswer:
        bodies.append(request.body)
        return TextAnswer(text=text)

    with served(answer, tokenizer, max_model_len=4096) as (subject, _):
        outcome = measure(component, subject, tmp_path)
    assert outcome.measurement.raw == raw
    assert [body["stop"] for body in bodies] == [["</s>"]], "the server ends it at EOS alone"
    assert "no." not in outcome.items["answer"][0] and "is it" not in outcome.items["answer"][0]


def test_without_a_chat_template_a_text_ends_where_the_task_says(ran: Ran, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(chat_template=THINKS)
    bodies: list[Any] = []

    def answer(request: Any) -> TextAnswer:
        bodies.append(request.body)
        return TextAnswer(text="#### 0")

    with served(answer, tokenizer, max_model_len=4096) as (subject, _):
        measure(load(task="gsm8k", data={"gsm8k": ran.data["gsm8k"]}, limit=1), subject, tmp_path)
    assert "Question:" in bodies[0]["stop"]
