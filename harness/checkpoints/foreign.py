"""Checkpoints in formats that are not Hugging Face's: recognised by their files, so that the converter can be named."""

from __future__ import annotations

from pathlib import Path

FORMATS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("*.distcp", "*/*.distcp"),
        "shards of FSDP (torch.distributed.checkpoint)",
        "`accelerate merge-weights FOLDER OUT`",
    ),
    (
        (
            "zero_to_fp32.py",
            "*/zero_pp_rank_*",
            "zero_pp_rank_*",
            "*/mp_rank_*_model_states.pt",
            "mp_rank_*_model_states.pt",
        ),
        "shards of DeepSpeed",
        "`python zero_to_fp32.py . OUT --safe_serialization` in that folder",
    ),
    (
        ("mp_rank_*/model_optim_rng.pt", "*/mp_rank_*/model_optim_rng.pt"),
        "a checkpoint of Megatron-LM",
        "Megatron-Bridge's export to Hugging Face",
    ),
    (("model_and_optim", "*/model_and_optim"), "a checkpoint of OLMo-core", "its `convert_checkpoint_to_hf.py`"),
    (("lit_model.pth",), "a checkpoint of LitGPT", "`litgpt convert_from_litgpt FOLDER OUT`"),
    (
        ("model_world_size_*_rank_*.pt", "*/model_world_size_*_rank_*.pt"),
        "shards of verl",
        "`python -m verl.model_merger merge --backend fsdp --local_dir FOLDER --target_dir OUT`",
    ),
    (
        ("*.gguf",),
        "a GGUF file of llama.cpp",
        "the model that it was converted from, or transformers' `gguf_file=` and `save_pretrained`",
    ),
    (("*.nemo",), "a checkpoint of NeMo", "NeMo's export to Hugging Face"),
    (("*.ckpt",), "a checkpoint of Lightning", "`save_pretrained` on the model inside it"),
    (
        ("_CHECKPOINT_METADATA", "*/_CHECKPOINT_METADATA"),
        "a checkpoint of Orbax (JAX)",
        "its framework's export to Hugging Face",
    ),
)
"""Patterns of files, what they are, and what converts them to a Hugging Face folder."""


def foreign_format(folder: Path) -> str | None:
    """A message on what a folder (or a file) that is no Hugging Face model holds, and what converts it; None for an unknown format."""
    for patterns, what, converter in FORMATS:
        found = folder.suffix == patterns[0][1:] if folder.is_file() else any(any(folder.glob(one)) for one in patterns)
        if found:
            return f"it holds {what}; convert it with {converter}"
    return None
