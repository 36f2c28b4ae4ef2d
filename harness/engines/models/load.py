"""Opening a transformers model and its tokenizer, refusing anything that would score with other weights than saved.

Paths in, module out. Knows nothing of trajectories, fields or scores.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from harness.core.digest import digest_bytes
from harness.core.errors import CheckpointError, EngineError, SpecError

CONTEXT_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")
DEFAULT_CONTEXT = 2048
NO_LIMIT = 10**9
"""Tokenizers without a limit of their own report an astronomically large one."""


def choose_device(device: str) -> torch.device:
    """`auto` is the first GPU if there is one. Raises SpecError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise SpecError(
            f"device {device!r} is not available here ({_first_line(error)}); use cpu, cuda or auto"
        ) from error
    return chosen


@contextlib.contextmanager
def off_the_gpu(model: torch.nn.Module) -> Iterator[None]:
    """The model in host memory while the block runs, and back on its GPU after it; nothing where it is on the CPU."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        yield
        return
    model.to("cpu")
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        model.to(device)


def free_memory(device: torch.device) -> int:
    """Bytes that are free where models are held: on the GPU, or in this machine's memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def load_model(
    folder: Path, *, dtype: str, device: torch.device, trust_remote_code: bool = False, allow_pickle: bool = False
) -> Any:
    """A causal LM in evaluation mode on `device`; every weight must come from the folder. Raises CheckpointError."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, report = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                trust_remote_code=trust_remote_code,
                use_safetensors=None if allow_pickle else True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
    except Exception as error:
        raise CheckpointError(f"cannot load the model in {folder}: {explain(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    problems = [
        f"{label}: {', '.join(sorted(map(str, report[key]))[:3])}{' ...' if len(report[key]) > 3 else ''}"
        for key, label in (
            ("missing_keys", "weights missing from the files, which would be random"),
            ("mismatched_keys", "weights of another shape than the configuration says"),
        )
        if report.get(key)
    ]
    if problems:
        raise CheckpointError(f"{folder} does not hold the whole model: {'; '.join(problems)}; save it again")
    try:
        return model.eval().to(device)
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"the model in {folder} does not fit in the memory of {device}; free some or choose --device cpu"
        ) from error


def load_adapter(base: Any, folder: Path) -> Any:
    """Put a LoRA adapter on a loaded base, for inference. Raises CheckpointError.

    Over a base in half precision its weights are float32, as peft trains them and lm-eval loads them.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(base, str(folder))
            # The first call tells nobody which weights it passed over, the second one does.
            report = model.load_adapter(str(folder), model.active_adapter)
    except Exception as error:
        raise CheckpointError(f"cannot load the adapter in {folder} on its base: {explain(error)}") from error
    check_adapter(report, folder)
    return model.eval()


def check_adapter(report: Any, folder: Path) -> None:
    """Refuse an adapter that was loaded in part: `report` is what peft's load_adapter returns. Raises CheckpointError."""
    for keys, label in (
        (report.missing_keys, "lacks weights that its adapter_config.json asks for"),
        (report.unexpected_keys, "holds weights that have no place in the base"),
    ):
        if keys:
            raise CheckpointError(f"the adapter in {folder} {label} ({min(keys)}); is the base model the right one?")


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer saved in a folder. Raises CheckpointError."""
    from transformers import AutoTokenizer

    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise CheckpointError(
            f"no tokenizer in {folder} (none of {', '.join(TOKENIZER_FILES[:3])}); "
            "save the tokenizer beside the weights: tokenizer.save_pretrained(folder)"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:
        raise CheckpointError(f"cannot load the tokenizer in {folder}: {explain(error)}") from error


TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)


def context_length(model: Any, tokenizer: Any) -> int:
    """Most tokens the model reads at once, as lm-eval resolves it: configuration, then tokenizer, then 2048."""
    config = getattr(model.config, "text_config", None) or model.config
    for key in CONTEXT_KEYS:
        value = getattr(config, key, None)
        if value is not None:
            return int(value)
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit is not None and limit < NO_LIMIT else DEFAULT_CONTEXT


def tokenizer_digest(tokenizer: Any) -> str:
    """Identity of a tokenizer by what it does: vocabulary, merges, special tokens and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # Padding and truncation are call options that a fast tokenizer happens to remember.
        state = json.loads(backend.to_str())
        state.update(padding=None, truncation=None)
        core = json.dumps(state, sort_keys=True)
    else:
        core = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = {key: str(value) for key, value in sorted(tokenizer.special_tokens_map.items())}
    return digest_bytes(json.dumps([core, special, tokenizer.chat_template], sort_keys=True).encode())


def first_non_finite(model: Any) -> str | None:
    """Name of the first weight that holds NaN or infinity."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            return str(name)
    return None


def release() -> None:
    """Give the memory of dropped models back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def dtype_name(model: Any) -> str:
    """`float32`, `bfloat16`, ... of the model's weights."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def explain(error: BaseException) -> str:
    """A foreign error as one line, with the remedy where we know it."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return "it needs code of its own; if you trust its author, pass --trust-remote-code"
    if "safetensors" in text and "no file named" in text:
        return "no safetensors weights; convert them, or pass --allow-pickle if you trust the .bin file"
    return f"{type(error).__name__}: {text[:300]}"


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
