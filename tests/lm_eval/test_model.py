"""`--model harness` gives what lm-eval's `hf` gives with logits_cache=False: values, greedy flags, order, truncation."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import random
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForSeq2SeqLM, T5Config

import harness
from harness import HarnessLM
from harness.cli import run
from harness.cli.lm_eval import include_paths
from harness.core.errors import EXIT_OK, EXIT_USAGE, CheckpointError, DataError, SpecError
from harness.core.pair import Pair
from harness.tasks.reward_env.encode import encode

ROOT = Path(__file__).parents[2]
Texts = tuple[str, str]
DEFECT = [("b = (_e + alpha)", " / _e"), ("b = (_e", " + alpha) / _e")]
"""One text, split at two places: lm-eval's default cache gives one of them the other's row."""
ADVERSARIAL: list[Texts] = [
    *DEFECT,
    ("Question: What is the capital of France?\nAnswer:", " Paris"),
    ("Question: What is the capital of France?\nAnswer:", " Rome"),
    ("Question: What is the capital of France?\nAnswer:", " Paris, of course."),
    ("Question: What is the capital of France?\nAnswer:", " Paris"),
    ("Question: What is the capital of France?\nAnswer: Paris", ", of course."),
    ("Question: What", " is the capital of France?\nAnswer: Paris"),
    *[
        ("é🙂 / _e Answer: Paris 日本語 b = (_e + alpha)\nThe" + tail, rest)
        for tail in ("", " quick")
        for rest in (" fox", "n")
    ],
    ("", "The quick brown fox"),
    ("", "T"),
    ("<s>", "The quick brown fox"),
    ("<s>The quick", " brown"),
    ("The quick \n  ", "brown fox"),
    ("héllo", " 日本語 🙂"),
    ("The quick brown fox jumps over the lazy dog. " * 9, "The"),
    ("The quick brown fox jumps over the lazy dog. " * 9, "The quick brown fox jumps over the lazy dog. " * 3),
]
LONGEST = 60
"""The context that the models here are given: some requests exceed it."""


def requests(texts: Sequence[Any], kind: str = "loglikelihood") -> list[Instance]:
    return [Instance(kind, {}, item if isinstance(item, tuple) else (item,), i) for i, item in enumerate(texts)]


class Both:
    """One model under our class and under lm-eval's, at batch size 1 and without its cache."""

    def __init__(self, name: str, *, bos: bool = True, **changes: Any) -> None:
        tokenizer = tiny.tokenizer(bos=bos)
        self.model = tiny.family(name, **changes)
        self.ours: Any = HarnessLM(self.model, tokenizer=tokenizer, max_length=LONGEST)
        self.theirs: Any = HFLM(self.model, tokenizer=tokenizer, max_length=LONGEST, logits_cache=False)

    def agree(self, texts: Sequence[Texts]) -> list[tuple[float, bool]]:
        """Ours, after comparison: within 1e-5 per token, and the same flags."""
        ours = self.ours.loglikelihood(requests(texts), disable_tqdm=True)
        theirs = self.theirs.loglikelihood(requests(texts), disable_tqdm=True)
        assert len(ours) == len(texts)
        for item, (value, greedy), (expected, flag) in zip(texts, ours, theirs, strict=True):
            assert abs(value - expected) <= 1e-5 * self.n_tokens(item), item
            assert greedy == flag, item
        return list(ours)

    def n_tokens(self, item: Texts) -> int:
        context, continuation = item
        return len(
            self.theirs._encode_pair(context, continuation)[1] if context else self.theirs.tok_encode(continuation)
        )


@pytest.fixture(scope="module", params=["llama", "gpt_neox", "qwen2"])
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param, bos=request.param != "qwen2")


def test_adversarial_requests_have_the_values_and_flags_of_hf(both: Both) -> None:
    both.agree(ADVERSARIAL)


PIECES = [
    "The quick",
    " brown",
    " fox",
    "\n",
    " ",
    "  ",
    "(_e",
    " + alpha)",
    " / _e",
    "é",
    "🙂",
    "<s>",
    "a",
    "Answer:",
    " Paris",
]
PIECE = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
PREAMBLE = "é🙂 / _e Answer: Paris 日本語 b = (_e + alpha)\n"
"""Longer than what the engine bothers to share."""
CONTEXT = st.builds("".join, st.tuples(st.sampled_from(["", PREAMBLE]), PIECE))


@settings(max_examples=25)
@given(drawn=st.lists(st.tuples(CONTEXT, PIECE.filter(bool)), min_size=1, max_size=8))
def test_any_requests_have_the_values_and_flags_of_hf(both: Both, drawn: list[Texts]) -> None:
    both.agree([item for item in drawn if defined(both.theirs, item)])


def defined(theirs: Any, item: Texts) -> bool:
    """Whether hf can score it: it asserts that both sides have tokens, and that the continuation fits."""
    context, continuation = item
    if not context:
        ids = theirs.tok_encode(continuation, add_special_tokens=False)
        return len(ids) > 1 or ids[0] != theirs.prefix_token_id
    if not context.strip() and theirs.tokenizer.bos_token_id is None:
        return False
    head, tail = theirs._encode_pair(context, continuation)
    return bool(head) and 0 < len(tail) <= LONGEST


def test_a_greedy_continuation_is_flagged_and_no_other(both: Both) -> None:
    """With the model's own next tokens as continuation, as ids: text need not come back as the same tokens."""
    asked: list[Any] = []
    for context in ("The quick brown fox", "def add(a, b):\n    return", "Answer: Paris, of"):
        ids = torch.tensor([both.ours.tok_encode(context)])
        for _ in range(3):
            ids = torch.cat([ids, both.model(ids).logits[:, -1:].argmax(-1)], dim=1)
        *before, a, b, c = ids[0].tolist()
        asked += [(None, before, said) for said in ([a, b, c], [a, b], [a], [a, b, c - 1], [a - 1, b, c])]
    answers = [model._loglikelihood_tokens(asked, disable_tqdm=True) for model in (both.ours, both.theirs)]
    flags = [[greedy for _, greedy in some] for some in answers]
    assert flags[0] == flags[1] == [True, True, True, False, False] * 3


def test_the_requests_that_lm_evals_cache_confuses_are_scored_right(both: Both) -> None:
    first, second = ([*context, *rest] for context, rest in (both.theirs._encode_pair(*item) for item in DEFECT))
    assert first == second
    together = both.agree(DEFECT)
    alone = [both.theirs.loglikelihood(requests([item]), disable_tqdm=True)[0] for item in DEFECT]
    assert [value for value, _ in together] == pytest.approx([value for value, _ in alone], abs=3e-5)


def test_the_order_of_requests_and_the_budget_do_not_matter(both: Both) -> None:
    answers = both.ours.loglikelihood(requests(ADVERSARIAL), disable_tqdm=True)
    order = list(range(len(ADVERSARIAL)))
    random.Random(0).shuffle(order)
    small = HarnessLM(both.model, tokenizer=both.ours.tokenizer, max_length=LONGEST, batch_tokens=8)
    for model in (both.ours, small):
        again = model.loglikelihood(requests([ADVERSARIAL[i] for i in order]), disable_tqdm=True)
        for i, (value, greedy) in zip(order, again, strict=True):
            assert value == pytest.approx(answers[i][0], abs=1e-5 * both.n_tokens(ADVERSARIAL[i]))
            assert greedy == answers[i][1]


def test_a_rolling_text_has_the_value_of_hf(both: Both) -> None:
    texts = ["The quick brown fox. " * 30, "", "a", "<s>def add(a, b):\n    return a + b", "日本語 🙂 " * 20, "a"]
    ours = both.ours.loglikelihood_rolling(requests(texts, "loglikelihood_rolling"), disable_tqdm=True)
    theirs = both.theirs.loglikelihood_rolling(requests(texts, "loglikelihood_rolling"), disable_tqdm=True)
    for text, value, expected in zip(texts, ours, theirs, strict=True):
        assert abs(value - expected) <= 1e-5 * (len(both.ours.tok_encode(text)) + 1), text
    assert ours[2] == ours[5]


def test_generation_is_hfs_and_unchanged_by_scoring(both: Both) -> None:
    both.ours.loglikelihood(requests(DEFECT), disable_tqdm=True)
    prompts = [
        ("The quick brown", {"until": ["\n\n"], "max_gen_toks": 8}),
        ("def", {"until": ["("], "max_gen_toks": 5}),
    ]
    generate = [model.generate_until(requests(prompts, "generate_until"), True) for model in (both.ours, both.theirs)]
    assert generate[0] == generate[1]


class Messages(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


def test_a_request_that_is_too_long_loses_its_beginning_with_hfs_warning() -> None:
    both = Both("llama")
    handler = Messages()
    logger = logging.getLogger("lm_eval")
    logger.addHandler(handler)
    try:
        text = "The quick brown fox jumps over the lazy dog. "
        context, continuation = both.ours._encode_pair(text * 9, "Dog")
        both.agree([(text * 9, "Dog")])
    finally:
        logger.removeHandler(handler)
    excess = len(context) + len(continuation) - LONGEST - 1
    assert f"Truncating {excess} tokens from the left" in handler.seen[0]
    assert handler.seen[0].partition(" Truncating")[0] == handler.seen[1].partition(" Truncating")[0]


class Partial:
    """A cache hook that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any, Any]] = []

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        self.told.append((attr, req, res))


def test_the_cache_hook_is_told_what_hf_tells_it() -> None:
    both = Both("llama")
    hooks = Partial(), Partial()
    for model, hook in zip((both.ours, both.theirs), hooks, strict=True):
        model.set_cache_hook(hook)
        model.loglikelihood(requests(DEFECT), disable_tqdm=True)
        model.loglikelihood_rolling(requests(["The quick"], "loglikelihood_rolling"), disable_tqdm=True)
    ours, theirs = (sorted(hook.told, key=str) for hook in hooks)
    assert [(attr, req) for attr, req, _ in ours] == [(attr, req) for attr, req, _ in theirs]
    assert len(ours) == 3 and all(
        type(res) is type(res2) for (_, _, res), (_, _, res2) in zip(ours, theirs, strict=True)
    )


def test_a_number_that_is_not_finite_is_returned_as_hf_returns_it() -> None:
    both = Both("llama", seed=3)
    broken = both.ours.tok_encode("🙂", add_special_tokens=False)[0]
    with torch.no_grad():
        both.model.model.embed_tokens.weight[broken] = math.nan
    texts = [("The quick", " brown fox"), ("The quick 🙂", " brown fox"), ("The quick", " 🙂 fox")]
    ours, theirs = (m.loglikelihood(requests(texts), disable_tqdm=True) for m in (both.ours, both.theirs))
    assert [math.isnan(value) for value, _ in ours] == [math.isnan(value) for value, _ in theirs]
    assert [math.isnan(value) for value, _ in ours] == [False, True, True]


def test_where_hf_asserts_the_tokens_are_those_of_harness_score() -> None:
    """A merge that swallows the continuation; a context of white space for a tokenizer that adds no BOS."""
    for bos in (True, False):
        both = Both("llama", bos=bos)
        items = [("Th", "e"), (" ", "The quick"), ("The quick ", "brown")]
        if bos:
            with pytest.raises(AssertionError):
                both.theirs.loglikelihood(requests(items[:1]), disable_tqdm=True)
        pairs = encode(both.ours.tokenizer, [Pair(id=str(i), q=q, r=r) for i, (q, r) in enumerate(items)]).pairs
        for item, pair in zip(items, pairs, strict=True):
            context, continuation = both.ours._encode_pair(*item)
            assert context + continuation == pair.ids.tolist() and len(context) == pair.n_context
        assert all(value < 0 for value, _ in both.ours.loglikelihood(requests(items), disable_tqdm=True))


@pytest.mark.parametrize(("item", "n"), [(("The quick", ""), 0), (("a", "The quick brown fox. " * 50), "")])
def test_what_cannot_be_scored_is_named_before_anything_is(item: Texts, n: int | str) -> None:
    both = Both("llama")
    with pytest.raises(DataError, match=f"request 1 .* the continuation has {n}"):
        both.ours.loglikelihood(requests([("The", " quick"), item]), disable_tqdm=True)


def test_no_text_at_all_is_named_too() -> None:
    with pytest.raises(DataError, match=r"request 1 \('', ''\): there is nothing to score"):
        Both("llama").ours.loglikelihood(requests([("The", " quick"), ("", "")]), disable_tqdm=True)


def test_prompt_tuning_and_weights_that_are_not_in_memory_are_refused_at_load() -> None:
    from peft import PromptTuningConfig, TaskType, get_peft_model

    tuned = get_peft_model(tiny.llama(), PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4))
    with pytest.raises(SpecError, match="is prompt tuning"):
        HarnessLM(tuned, tokenizer=tiny.tokenizer())
    with pytest.raises(SpecError, match="left on disk"):
        HarnessLM(tiny.llama().to("meta"), tokenizer=tiny.tokenizer())


def test_a_model_that_is_not_there_is_named_and_is_no_failed_output(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for folder in (tmp_path, missing):
        with pytest.raises(CheckpointError, match=f"cannot load pretrained={folder}: .*; it has to be a model folder"):
            HarnessLM(str(folder))
    command = ["lm-eval", "run", "--tasks", "stdlib_code", "--model_args", f"pretrained={missing}", "--model"]
    assert run([*command, "harness"]) == CheckpointError.exit_code
    with pytest.raises(OSError, match=missing.name):  # hf's own error, as lm_eval shows it
        run([*command, "hf"])


def test_what_this_model_does_not_do_is_refused_by_name() -> None:
    tokenizer = tiny.tokenizer()
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 404}
    with pytest.raises(SpecError, match="causal language models"):
        HarnessLM(AutoModelForSeq2SeqLM.from_config(T5Config(**sizes, decoder_start_token_id=0)), tokenizer=tokenizer)
    for name, value in {"tp_plan": "auto", "mixed_precision_dtype": "bfloat16"}.items():
        with pytest.raises(SpecError, match=f"does not take {name}"):
            HarnessLM(tiny.llama(), tokenizer=tokenizer, **{name: value})
    with pytest.raises(SpecError, match="batch_tokens is 0"):
        HarnessLM(tiny.llama(), tokenizer=tokenizer, batch_tokens=0)


def test_an_adapter_and_a_dtype_are_loaded_as_hf_loads_them(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama()), base)
    plain: Any = HarnessLM(str(base), dtype="float32", device="cpu")
    options: dict[str, Any] = {"peft": str(adapter), "dtype": "float64", "device": "cpu", "max_length": LONGEST}
    ours, theirs = HarnessLM(str(base), **options), HFLM(str(base), **options, logits_cache=False)
    values = [
        [value for value, _ in m.loglikelihood(requests(ADVERSARIAL[:8]), disable_tqdm=True)] for m in (ours, theirs)
    ]
    assert ours.model.dtype == torch.float64 and values[0] == pytest.approx(values[1], abs=1e-9)
    without = [value for value, _ in plain.loglikelihood(requests(ADVERSARIAL[:8]), disable_tqdm=True)]
    assert values[0] != pytest.approx(without, abs=1e-2)


# Through lm-eval's evaluator and its command line.


def write_choices(folder: Path) -> Path:
    """A stock-style multiple-choice task over a local file; the folder of its YAML."""
    folder.mkdir()
    places = [("France", "Paris"), ("Japan", "Tokyo"), ("Perú", "Lima"), ("Egypt", "Cairo"), ("Chile", "Santiago")] * 4
    rows = [
        {"question": f"{i}. The capital of {a}?", "choices": ["Rome, of course.", b, "fox", ""][:3], "label": i % 3}
        for i, (a, b) in enumerate(places)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {
        "task": "tiny_choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "num_fewshot": 2,
        "fewshot_split": "test",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    (folder / "tiny_choice.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return folder


def test_a_stock_multiple_choice_task_has_the_results_of_hf(tmp_path: Path) -> None:
    manager = TaskManager(include_path=str(write_choices(tmp_path / "tasks")), include_defaults=False)
    found = []
    for kind in (HarnessLM, HFLM):
        options = {} if kind is HarnessLM else {"logits_cache": False}
        model = kind(tiny.llama(), tokenizer=tiny.tokenizer(), **options)
        found.append(simple_evaluate(model=model, tasks=["tiny_choice"], task_manager=manager, bootstrap_iters=0))
    ours, theirs = (outcome["results"]["tiny_choice"] for outcome in found)
    assert ours["acc,none"] == theirs["acc,none"] and ours["acc_norm,none"] == theirs["acc_norm,none"]
    for a, b in zip(*(outcome["samples"]["tiny_choice"] for outcome in found), strict=True):
        assert a["doc"] == b["doc"] and a["arguments"] == b["arguments"]
        for (value, greedy), (expected, flag) in zip(a["filtered_resps"], b["filtered_resps"], strict=True):
            assert value == pytest.approx(expected, abs=1e-4) and greedy == flag


def test_the_wrapper_runs_our_tasks_and_the_users_together(tmp_path: Path) -> None:
    tiny.save(tmp_path / "model")
    write_choices(tmp_path / "mine")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", "from harness.cli import main; main()", "lm-eval", "run", "--model", "harness"]
    command += ["--model_args", "pretrained=model,dtype=float32", "--tasks", "tiny_choice,reward_env_stdlib"]
    command += ["--include_path", "mine", "--output_path", "out", "--limit", "6", "--batch_size", "4"]
    done = forked.run(command, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("batch_size holds for generation") == 1
    (path,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(path.read_text())["results"]
    assert {"tiny_choice", "stdlib_code", "stdlib_prose", "reward_env_stdlib"} <= results.keys()
    assert "acc_norm,none" in results["tiny_choice"] and results["stdlib_code"]["logprob_per_token,none"] < 0


def test_the_users_folder_comes_after_ours_and_from_a_config_file_too(tmp_path: Path) -> None:
    ours = str(Path(harness.__file__).parent.joinpath("tasks").resolve())
    config = tmp_path / "run.yaml"
    config.write_text("include_path: there\n")
    assert include_paths(argparse.Namespace(include_path=None)) == [ours]
    assert include_paths(argparse.Namespace(include_path="mine", config=str(config))) == [ours, "mine"]
    assert include_paths(argparse.Namespace(include_path=None, config=str(config))) == [ours, "there"]
    assert include_paths(argparse.Namespace(include_path=ours, config=None)) == [ours]


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["--help"], EXIT_OK, "usage: lm-eval [-h] COMMAND"),
        (["run", "--help"], EXIT_OK, "usage: lm-eval run --model"),
        ([], EXIT_OK, "usage: lm-eval [-h] COMMAND"),
        (["run", "--nonsense"], EXIT_USAGE, "unrecognized arguments: --nonsense"),
    ],
)
def test_lm_evals_help_and_exit_codes_pass_through(
    arguments: list[str], code: int, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = list(sys.argv)
    assert run(["lm-eval", *arguments]) == code
    captured = capsys.readouterr()
    assert shown in captured.out + captured.err
    assert sys.argv == before


def test_without_lm_eval_the_wrapper_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['lm_eval'] = None; from harness.cli import run; sys.exit(run(['lm-eval', 'run']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == SpecError.exit_code
    assert "pip install 'lm_eval[hf]==0.4.13'" in done.stderr


def test_the_entry_point_for_newer_lm_eval_names_the_class() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lm_eval.models"]
    module, _, name = declared["harness"].partition(":")
    assert getattr(sys.modules[module], name) is HarnessLM
