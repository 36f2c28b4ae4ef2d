"""The value of a checkpoint never depends on what was measured before it: every ordered pair, bit for bit."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoints.open import Opener
from harness.core.checkpoint import Checkpoint
from harness.core.component import SilentProgress
from harness.core.errors import EngineError
from harness.core.opening import OpenOptions
from harness.core.tokens import TokenPair
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.score import score

RNG = np.random.default_rng(0)
PAIRS = [
    TokenPair(id=str(n), ids=RNG.integers(2, 400, 30 + n).astype(np.int32), n_context=9, n_bytes=1, cluster=str(n))
    for n in range(3)
]
WEIGHTS = "model.safetensors"


class Found(NamedTuple):
    """What a checkpoint scored: the values, or why there are none."""

    values: tuple[float, ...]
    failure: str | None = None


def measured(opener: Opener, checkpoint: Checkpoint) -> Found:
    with opener.open(checkpoint) as subject, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            scores = score(subject.model(), PackPlan(PAIRS), progress=SilentProgress())
        except EngineError as error:
            return Found((), str(error))
    return Found(tuple(np.nan_to_num(scores.logprob, nan=7.0).tolist()))


def opener() -> Opener:
    return Opener(OpenOptions(dtype="auto", device="cpu"))


def every_ordered_pair(count: int) -> Iterator[int]:
    """Indices in which each of `count` follows each other, and itself, exactly once: a De Bruijn sequence, closed."""
    for first in range(count):
        yield first
        for second in range(first + 1, count):
            yield first
            yield second
    yield 0


def test_every_pair_is_there() -> None:
    pairs = list(itertools.pairwise(every_ordered_pair(7)))
    assert sorted(pairs) == list(itertools.product(range(7), repeat=2))


def check_every_order(checkpoints: Sequence[Checkpoint]) -> None:
    alone = [measured(opener(), checkpoint) for checkpoint in checkpoints]
    assert len({found for found in alone if not found.failure}) >= len(alone) - 2, "the checkpoints must differ"
    swept = opener()
    before = "nothing"
    for index in every_ordered_pair(len(checkpoints)):
        found = measured(swept, checkpoints[index])
        assert found == alone[index], f"{checkpoints[index].label} after {before}"
        before = checkpoints[index].label


def full(folder: Path, change: Callable[[Path], object] | None = None, **settings: Any) -> Checkpoint:
    tiny.save(folder, tiny.llama(settings.pop("seed", 1), **settings))
    if change is not None:
        change(folder)
    return Checkpoint(label=folder.name, folder=folder, kind="full", trajectory="t", step=None)


def rewritten(**changes: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """Some tensors of a folder, by the end of their names, written anew."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        for name in list(tensors):
            for end, function in changes.items():
                if name.removesuffix(".weight").endswith(end):
                    tensors[name] = function(tensors[name])
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return change


def with_own_head(folder: Path) -> None:
    """A head of its own in the file, although the configuration ties it."""
    tensors = load_file(folder / WEIGHTS)
    generator = torch.Generator().manual_seed(5)
    tensors["lm_head.weight"] = torch.randn(tensors["model.embed_tokens.weight"].shape, generator=generator) * 0.2
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def without_dtype(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype", None)
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(config))


def in_bfloat16(folder: Path) -> None:
    without_dtype(folder)
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def nan(tensor: torch.Tensor) -> torch.Tensor:
    return torch.full_like(tensor, float("nan"))


@pytest.mark.parametrize("tied", [False, True])
def test_full_models_in_any_order_score_as_alone(tmp_path: Path, tied: bool) -> None:
    made = [
        full(tmp_path / "one", tie_word_embeddings=tied),
        full(tmp_path / "two", seed=2, tie_word_embeddings=tied),
        full(tmp_path / "other-tying", seed=3, tie_word_embeddings=not tied),
        full(tmp_path / "own-head", with_own_head, seed=4, tie_word_embeddings=True),
        full(tmp_path / "no-dtype", without_dtype, seed=5, tie_word_embeddings=tied),
        full(tmp_path / "bfloat16", in_bfloat16, seed=6, tie_word_embeddings=tied),
        full(tmp_path / "fresh", seed=7, tie_word_embeddings=tied, initializer_range=0.02),
        full(tmp_path / "nan", rewritten(q_proj=nan), seed=8, tie_word_embeddings=tied),
    ]
    if not tied:
        made.append(full(tmp_path / "zero-head", rewritten(lm_head=torch.zeros_like), seed=9))
    check_every_order(made)


LINEAR = ["q_proj", "v_proj"]
LORA: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain again": {"init_lora_weights": "gaussian"},
    "all biases": {"bias": "all"},
    "own biases": {"bias": "lora_only"},
    "rank stabilised": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa again": {"init_lora_weights": "pissa_niter_2"},
    "olora": {"init_lora_weights": "olora"},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    "saved head": {"modules_to_save": ["lm_head"]},
    "trainable tokens": {"trainable_token_indices": {"embed_tokens": [3, 5, 9]}},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "other places": {"target_modules": ["o_proj", "up_proj"]},
    "one layer": {"layers_to_transform": [1]},
    "lora bias": {"lora_bias": True},
    "repeated layers": {"layer_replication": [[0, 2], [1, 2]]},
}
OTHERS: dict[str, Any] = {
    "ia3": peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"],
        init_ia3_weights=False,
    ),
    "vera": peft.VeraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=8, init_weights=False),
    "loha": peft.LoHaConfig(task_type="CAUSAL_LM", target_modules=LINEAR, init_weights=False),
    "lokr": peft.LoKrConfig(task_type="CAUSAL_LM", target_modules=LINEAR, init_weights=False),
    "oft": peft.OFTConfig(
        task_type="CAUSAL_LM", target_modules=LINEAR, oft_block_size=4, r=0, init_weights=False
    ),
    "adalora": peft.AdaLoraConfig(task_type="CAUSAL_LM", target_modules=LINEAR, total_step=10, init_r=4),
    "norms": peft.LNTuningConfig(task_type="CAUSAL_LM", target_modules=["input_layernorm"]),
}  # fmt: skip


def adapter(folder: Path, base: Path, config: Any, seed: int) -> Checkpoint:
    """An adapter over the saved base whose own weights all differ from their beginnings."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = peft.get_peft_model(tiny.llama(), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape) * 0.05)
        tiny.save_adapter(folder, model, base)
    return Checkpoint(label=folder.name, folder=folder, kind="lora", trajectory="t", step=None, base=str(base))


@pytest.mark.slow
def test_adapters_of_every_kind_in_any_order_score_as_alone(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.llama())
    made = [
        adapter(
            tmp_path / name.replace(" ", "-"),
            base,
            peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "target_modules": LINEAR, **changes}),
            seed,
        )
        for seed, (name, changes) in enumerate(LORA.items())
    ]
    made += [adapter(tmp_path / name, base, config, 50 + n) for n, (name, config) in enumerate(OTHERS.items())]
    made.append(Checkpoint(label="base", folder=base, kind="full", trajectory="t", step=None))
    check_every_order(made)


def test_patterns_of_an_adapter_count_in_their_order(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.llama())
    patterns = {"q_proj": 64, r"layers\.0\.self_attn\.q_proj": 1}
    made = []
    for name, pattern in (("one", patterns), ("other", dict(reversed(patterns.items())))):
        config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=LINEAR, init_lora_weights=False)
        made.append(adapter(tmp_path / name, base, config, seed=1))
        path = tmp_path / name / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "alpha_pattern": pattern}))
    first, second = made
    assert measured(opener(), first) != measured(opener(), second)
    swept = opener()
    measured(swept, first)
    assert measured(swept, second) == measured(opener(), second)
    assert opener().identifier.identify(first).fingerprint != opener().identifier.identify(second).fingerprint


def test_the_type_that_the_files_begin_with_is_each_checkpoints_own(tmp_path: Path) -> None:
    """Without a type in the configuration, transformers takes the first that it meets."""
    made = []
    for name, low_first in (("low", True), ("high", False)):
        made.append(full(tmp_path / name, without_dtype))
        tensors = load_file(tmp_path / name / WEIGHTS)
        (tmp_path / name / WEIGHTS).unlink()
        low = {key: tensor.bfloat16() for key, tensor in tensors.items() if "embed" in key or "lm_head" in key}
        high = {key: tensor for key, tensor in tensors.items() if key not in low}
        weight_map = {}
        for number, part in enumerate((low, high) if low_first else (high, low), start=1):
            file = f"model-0000{number}-of-00002.safetensors"
            save_file(part, tmp_path / name / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": weight_map}
        (tmp_path / name / "model.safetensors.index.json").write_text(json.dumps(index))
    check_every_order(made)


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own-llama"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = out.logits * FACTOR
        return out
"""
CLASSES = {"AutoConfig": "code.OwnConfig", "AutoModelForCausalLM": "code.OwnForCausalLM"}


def test_each_checkpoint_runs_its_own_code(tmp_path: Path) -> None:
    made = []
    for name, factor in (("one", "1.0"), ("two", "2.0")):
        made.append(full(tmp_path / name))
        config = json.loads((tmp_path / name / "config.json").read_text())
        config |= {"model_type": "own-llama", "auto_map": CLASSES}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "code.py").write_text(CODE.replace("FACTOR", factor))
    first, second = made
    alone = measured(Opener(OpenOptions(dtype="auto", device="cpu", trust_remote_code=True)), second)
    swept = Opener(OpenOptions(dtype="auto", device="cpu", trust_remote_code=True))
    assert measured(swept, first) != alone
    assert measured(swept, second) == alone
