"""Twenty checkpoints of a 1M-parameter model over the standard library's two fields, through the pipeline, in process."""

from __future__ import annotations

import contextlib
import cProfile
import os
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.checkpoints.find import find_checkpoints
from harness.run.observer import Observer
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import default_spec, override
from harness.tasks.reward_env.stdlib_field import load_stdlib_field

TASKS = Path(__file__).resolve().parent.parent / "tasks"
LOAD, FORWARD = ("checkpoints/open.py", "load_model"), ("scoring/score.py", "score")
"""File and name of the functions whose CPU time counts as load and as forward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """CPU seconds. Shares are from a second sweep under cProfile, whose own cost falls mostly on Python code."""

    n_checkpoints: int
    n_parameters: int
    prepare_s: float
    """Reading the fields, once."""
    first_s: float
    """The first checkpoint: tokenising, packing, imports, trying the model."""
    each_s: float
    """Every further one: median."""
    profiled: dict[str, float]
    """Seconds under the profiler for the checkpoints after the first: total, load, forward, then the largest others."""
    lm_eval_s: float | None
    """One lm-eval process on one checkpoint over the same fields, children included."""

    @property
    def share(self) -> float:
        """Of CPU time inside load and forward, after the first checkpoint."""
        return (self.profiled["load"] + self.profiled["forward"]) / self.profiled["total"]

    @property
    def speedup(self) -> float | None:
        """Over as many lm-eval processes as there are checkpoints: one was timed and multiplied."""
        if self.lm_eval_s is None:
            return None
        ours = self.prepare_s + self.first_s + (self.n_checkpoints - 1) * self.each_s
        return self.lm_eval_s * self.n_checkpoints / ours

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share, "speedup": self.speedup}


class _Stopwatch(Observer):
    """CPU seconds at the end of every checkpoint; may start a profiler after the first."""

    def __init__(self, profile: cProfile.Profile | None = None) -> None:
        self.at = [time.process_time()]
        self._profile = profile

    def finished(self, vector: Any, *, new: bool) -> None:
        if [c.status for c in vector.components] != ["ok"] * len(vector.components):
            raise RuntimeError(f"the sweep could not score {vector.checkpoint.path}: {vector.components[0].reason}")
        self.at.append(time.process_time())
        if self._profile is not None and len(self.at) == 2:
            self._profile.enable()


def measure_sweep(*, n_checkpoints: int, with_lm_eval: bool) -> Sweep:
    """Make the checkpoints in a temporary folder, score them twice (plain and profiled), then one by lm-eval."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        n_parameters = make_checkpoints(folder / "run", n_checkpoints)
        start = time.process_time()
        prepared = prepare(override(default_spec(), device="cpu"))
        prepare_s = time.process_time() - start
        watch = _Stopwatch()
        run(prepared, find_checkpoints([str(folder / "run")]), out=folder / "out", observer=watch)
        each = [b - a for a, b in zip(watch.at[:-1], watch.at[1:], strict=True)]

        prepared = prepare(override(default_spec(), device="cpu"))
        profile = cProfile.Profile(time.process_time, builtins=False)
        with contextlib.closing(_Ended(profile)):
            run(
                prepared,
                find_checkpoints([str(folder / "run")]),
                out=folder / "again",
                observer=_Stopwatch(profile),
            )
        seconds = _by_part(profile)
        lm_eval_s = time_lm_eval(folder / "run" / "checkpoint-1") if with_lm_eval else None
    return Sweep(
        n_checkpoints=n_checkpoints,
        n_parameters=n_parameters,
        prepare_s=prepare_s,
        first_s=each[0],
        each_s=statistics.median(each[1:]),
        profiled=seconds,
        lm_eval_s=lm_eval_s,
    )


class _Ended:
    def __init__(self, profile: cProfile.Profile) -> None:
        self._profile = profile

    def close(self) -> None:
        self._profile.disable()


def _by_part(profile: cProfile.Profile) -> dict[str, float]:
    stats: dict[tuple[str, int, str], Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    found = {
        ("/".join(Path(file).parts[-2:]), name): (own, cumulative)
        for (file, _, name), (_, _, own, cumulative, _) in stats.items()
    }
    parts = {
        "total": sum(entry[2] for entry in stats.values()),
        "load": found.get(LOAD, (0.0, 0.0))[1],
        "forward": found.get(FORWARD, (0.0, 0.0))[1],
    }
    outside = {
        "fingerprint": ("checkpoints/open.py", "identify"),
        "tokenizer files": ("checkpoints/open.py", "load_tokenizer"),
        "token ids": ("logprob/component.py", "_tokens"),
        "proof": ("scoring/proof.py", "prove"),
        "statistics": ("reward_models/logprob.py", "measure_logprob"),
        "ledger": ("run/ledger.py", "put"),
        "vector": ("run/vectors.py", "assemble"),
        "closing": ("checkpoints/open.py", "close"),
    }
    return parts | {name: found.get(key, (0.0, 0.0))[1] for name, key in outside.items()}


def make_checkpoints(
    folder: Path, n: int, *, context: int = 512, tied: bool = True, chat_template: str | None = None
) -> int:
    """`n` checkpoints of one random 1M-parameter model, each with other weights; returns the number of parameters."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    text = [pair.q + pair.r for domain in ("code", "prose") for pair in load_stdlib_field(domain, name=domain).content]
    core.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=2048,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=context,
        chat_template=chat_template,
    )
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
    )
    with _quiet():
        for step in range(1, n + 1):
            torch.manual_seed(step)
            model = LlamaForCausalLM(config)
            model.save_pretrained(folder / f"checkpoint-{step}")
            tokenizer.save_pretrained(folder / f"checkpoint-{step}")
    return sum(p.numel() for p in model.parameters())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield


def time_lm_eval(checkpoint: Path) -> float:
    """CPU seconds of one `lm_eval run` process over the same two fields, one thread, its best batch size."""
    arguments = [
        "run",
        *("--model", "hf", "--model_args", f"pretrained={checkpoint},dtype=float32,logits_cache=False"),
        *("--include_path", str(TASKS), "--tasks", "reward_env_stdlib", "--device", "cpu", "--batch_size", "1"),
    ]
    before = _children_s()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"lm_eval {' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return _children_s() - before


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
