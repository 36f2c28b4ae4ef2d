"""Small real checkpoints for tests: a byte-level BPE tokenizer and randomly initialised models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = [
    "The quick brown fox jumps over the lazy dog. " * 3,
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(add(i, 1))\n" * 3,
    "Question: What is the capital of France?\nAnswer: Paris, of course.\n" * 3,
    'user assistant system tool {"name": "lookup", "arguments": {"id": 12}} héllo wörld ñ 日本語 🙂',
]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(*, bos: bool = True, chat_template: str | None = CHAT_TEMPLATE, vocab_size: int = 400) -> Any:
    """A byte-level BPE tokenizer trained on a few lines; adds BOS by itself unless told not to."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXT, trainer)
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>" if bos else None,
        eos_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=chat_template,
    )


def llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A randomly initialised LLaMA-structure model of a few thousand parameters, weights large enough to differ."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": 404,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()


_SIZES: dict[str, Any] = {
    "vocab_size": 404,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
_GEMMA = {**_SIZES, "head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}
_EXPERTS = {"num_experts_per_tok": 2, "head_dim": 8, "router_aux_loss_coef": 0.0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _SIZES),
    "llama tied": ("llama", {**_SIZES, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", _SIZES),
    "qwen2 tied": ("qwen2", {**_SIZES, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**_SIZES, "head_dim": 8}),
    "mistral": ("mistral", {**_SIZES, "head_dim": 8, "sliding_window": 16}),
    "gemma": ("gemma", {**_SIZES, "head_dim": 8}),
    "gemma2": ("gemma2", {**_GEMMA, "final_logit_softcapping": 5.0}),
    "gemma3": ("gemma3_text", _GEMMA),
    "gpt_neox": ("gpt_neox", {key: value for key, value in _SIZES.items() if key != "num_key_value_heads"}),
    "olmo": ("olmo", _SIZES),
    "olmo2": ("olmo2", _SIZES),
    "phi": ("phi", _SIZES),
    "phi3": ("phi3", _SIZES),
    "gpt2": (
        "gpt2",
        {"vocab_size": 404, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
        | {"bos_token_id": 0, "eos_token_id": 1},
    ),
    "opt": (
        "opt",
        {"vocab_size": 404, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"max_position_embeddings": 1024, "word_embed_proj_dim": 16, "init_std": 0.2}
        | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
    ),
    "bloom": (
        "bloom",
        {"vocab_size": 404, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
        | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None},
    ),
    "mpt": ("mpt", {"vocab_size": 404, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 1024}),
    "mamba": ("mamba", {"vocab_size": 404, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "mixtral": ("mixtral", {**_SIZES, **_EXPERTS, "num_local_experts": 4}),
}
"""Architecture -> (model type, sizes): one of each way to tie, cap, name and place weights."""


def family(name: str, seed: int = 0, **changes: Any) -> Any:
    """A tiny random model of the architecture `name` of FAMILIES."""
    model_type, sizes = FAMILIES[name]
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**sizes, **changes})).eval()


def lora(model: Any, seed: int = 0, **changes: Any) -> Any:
    """The model under a LoRA adapter that changes what it says."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"r": 4, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **{**settings, **changes})).eval()


def save(folder: Path, model: Any = None, tok: Any = None) -> Path:
    """Write a checkpoint folder in Hugging Face format."""
    (model if model is not None else llama()).save_pretrained(folder)
    (tok if tok is not None else tokenizer()).save_pretrained(folder)
    return folder


def save_adapter(folder: Path, model: Any, base: Path) -> Path:
    """Write a LoRA model's adapter folder, which names the folder of its base."""
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    return folder


def save_sweep(folder: Path) -> Path:
    """Two trajectories of full checkpoints, mix-a and mix-b, with a common first one; the last of mix-b is broken."""
    first = save(folder / "mix-a" / "checkpoint-0", llama(9))
    shutil.copytree(first, folder / "mix-b" / "checkpoint-0")
    for seed, name in enumerate(("mix-a", "mix-b")):
        for step in (1, 2):
            save(folder / name / f"checkpoint-{step}", llama(10 * seed + step))
    broken = save(folder / "mix-b" / "checkpoint-3", llama(5)) / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-9])
    return folder


def workers_of(out: Path) -> list[int]:
    """The processes that measure for a run folder, by number."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"harness.run.executors.worker" in words and str(out).encode() in words:
            found.append(int(path.parent.name))
    return found
