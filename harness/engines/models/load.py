"""Loads a transformers model and its tokenizer, refusing anything that would be scored with other weights than those saved.

Paths in, module out. Knows nothing of trajectories, fields or scores.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from harness.core.errors import CheckpointError, EngineError, SpecError
from harness.core.opening import OpenOptions
from harness.engines.models.pickled import held_in_memory
from harness.engines.models.places import check_places
from harness.engines.models.weights import Weights, own_memory

CONTEXT_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")
DEFAULT_CONTEXT = 2048
NO_LIMIT = 10**9
"""Limit from which a tokenizer's `model_max_length` means that it has none: such tokenizers report about 1e30."""


def choose_device(device: str) -> torch.device:
    """`auto` is the first GPU if there is one. Raises SpecError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise SpecError(
            f"device {device!r} is not available here ({_first_line(error)}); use {'cpu, cuda or auto' if torch.cuda.is_available() else 'cpu or auto'}"
        ) from error
    return chosen


def count_gpus() -> int:
    """CUDA devices that this process sees."""
    return torch.cuda.device_count()


@contextlib.contextmanager
def off_the_gpu(model: torch.nn.Module) -> Iterator[None]:
    """Moves the model to host memory for the block, and back to its GPU afterwards; does nothing for a model on the CPU."""
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


def load_model(folder: Path, options: OpenOptions, *, device: torch.device) -> Any:
    """A causal LM in evaluation mode on `device`; every weight must come from the folder. On `meta` none is read.

    Raises CheckpointError, or EngineError where the model does not fit in the device's memory.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    # A file that is mapped and shrinks ends the process with a signal.
    reading: dict[str, Any] = {"disable_mmap": True} if _takes_disable_mmap() else {}
    if device.type == "meta":  # names and shapes alone
        reading = {"device_map": {"": "meta"}}
    if _reads_by_an_encoder(folder, options.trust_remote_code):
        raise CheckpointError(
            f"{folder} is an encoder-decoder, whose texts have no log-probability of their own; a causal language model is needed"
        )
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        pickled = options.allow_pickle and not any(folder.glob("*.safetensors"))
        with warnings.catch_warnings(), held_in_memory(folder) if pickled else contextlib.nullcontext(folder) as held:
            warnings.simplefilter("ignore")
            model, report = AutoModelForCausalLM.from_pretrained(
                held,
                dtype=options.dtype if options.dtype == "auto" else getattr(torch, options.dtype),
                trust_remote_code=options.trust_remote_code,
                use_safetensors=None if options.allow_pickle else True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
                **reading,
            )
    except Exception as error:
        raise CheckpointError(f"cannot load the model in {folder}: {explain(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    model.config.name_or_path = str(folder)
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
    check_places(
        folder,
        map(str, report.get("unexpected_keys") or ()),
        getattr(model.config, "text_config", None) or model.config,
    )
    try:
        model = model.eval().to(device)
        # Weights may still point into mapped pages of the file; give them memory of their own.
        own_memory(model, every=options.allow_pickle)
        return model
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"the model in {folder} does not fit in the memory of {device}; free some or choose --device cpu"
        ) from error


def _reads_by_an_encoder(folder: Path, trust_remote_code: bool) -> bool:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception:  # noqa: BLE001 - loading the model reports it
        return False
    return bool(getattr(config, "is_encoder_decoder", False))


def _takes_disable_mmap() -> bool:
    from transformers import PreTrainedModel

    return "disable_mmap" in inspect.signature(PreTrainedModel.from_pretrained).parameters


def load_adapter(base: Any, folder: Path) -> Any:
    """Put a LoRA adapter on a loaded base, for inference. Raises CheckpointError.

    Over a base in half precision its weights are float32, as peft trains them and lm-eval loads them.
    """
    from peft import PeftConfig, PeftModel

    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
    except Exception as error:
        raise CheckpointError(f"cannot load the adapter in {folder}: {explain(error)}") from error
    if config.is_prompt_learning:
        raise CheckpointError(
            f"the adapter in {folder} is of the kind {config.peft_type.value}, virtual tokens before every text, and scores of texts "
            "behind them are not supported; train a LoRA, or another adapter that changes weights"
        )
    _fit_vocabulary(base, folder)
    try:
        # peft maps the file, and one that shrinks meanwhile would end the process: it gets a copy.
        with (
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=[]),
            tempfile.TemporaryDirectory(prefix="harness-") as copied,
        ):
            warnings.simplefilter("ignore")
            for path in folder.glob("adapter_*"):
                shutil.copyfile(path, Path(copied) / path.name)
            torch.manual_seed(0)  # for initialisations that subtract random weights from the base
            model = PeftModel.from_pretrained(base, copied)
            # `from_pretrained` does not report skipped keys; `load_adapter` returns them.
            report = model.load_adapter(copied, model.active_adapter)
            own_memory(model)
            missing = _not_shared(model, report.missing_keys)
            unexpected = _not_copies(Path(copied) / "adapter_model.safetensors", report.unexpected_keys)
    except Exception as error:
        raise CheckpointError(f"cannot load the adapter in {folder} on its base: {explain(error)}") from error
    check_adapter(missing, unexpected, folder)
    return model.eval()


def _fit_vocabulary(base: Any, folder: Path) -> None:
    """Resize the base's embeddings to those in the adapter, which peft leaves to its caller. Raises CheckpointError."""
    file = folder / "adapter_model.safetensors"
    if not file.exists():
        return
    rows: dict[str, int] = {}
    for name, _, shape in Weights([file]).layout.tensors:
        for part, module in (("input", base.get_input_embeddings()), ("output", base.get_output_embeddings())):
            own = next((key for key, found in base.named_modules() if found is module), None)
            if (
                own
                and len(shape) == 2
                and re.search(
                    rf"(^|\.){re.escape(own)}(\.token_adapter)?(\.base_layer|\.modules_to_save)?\.weight$", name
                )
            ):
                rows[part] = shape[0]
    before = base.get_input_embeddings().weight.shape[0]
    wanted = set(rows.values()) - {before}
    if not wanted:
        return
    tied = bool(getattr(base.config, "tie_word_embeddings", False))
    if len(set(rows.values())) > 1 or not (len(rows) == 2 or (tied and rows)):
        raise CheckpointError(
            f"the adapter in {folder} was trained with a vocabulary of {max(wanted)} rows over a base of {before}, and holds only "
            f"its {' and '.join(rows)} embeddings; save it with save_embedding_layers=True, or merge it into its base"
        )
    with torch.random.fork_rng(devices=[]):
        base.resize_token_embeddings(wanted.pop(), mean_resizing=False)


def _not_shared(model: Any, names: Iterable[str]) -> list[str]:
    """The names without aliases of weights that were loaded: some kinds of layers share a weight."""
    state = dict(model.named_parameters(remove_duplicate=False))
    absent = set(names)
    there = {tensor.data_ptr() for name, tensor in state.items() if name not in absent}
    return [name for name in absent if name not in state or state[name].data_ptr() not in there]


TOKEN_CHANGES = ".token_adapter.trainable_tokens_delta"
"""Suffix of the names of an adapter's changes to single tokens' embeddings."""


def _not_copies(file: Path, names: Iterable[str]) -> list[str]:
    """The names without second copies that peft writes: of embeddings saved whole with a resized vocabulary, and of changes to
    single tokens, which are saved for each of two tied embeddings.
    """
    from safetensors import safe_open

    left = [str(name) for name in names]
    if not left or not file.exists():
        return left
    with safe_open(file, framework="pt") as stream:
        here = set(stream.keys())
        for name in list(left):
            others = {name.replace(".modules_to_save.", ".")}
            if name.endswith(TOKEN_CHANGES):
                others = {key for key in here if key.endswith(TOKEN_CHANGES)}
            kept = others & here - {name}
            if name in here and any(stream.get_tensor(name).equal(stream.get_tensor(other)) for other in kept):
                left.remove(name)
    return left


def check_adapter(missing: Iterable[str], unexpected: Iterable[str], folder: Path) -> None:
    """Raises CheckpointError for an adapter that peft loaded only in part: names of weights `missing` from it, or `unexpected`."""
    for keys, label in (
        (list(missing), "lacks weights that its adapter_config.json asks for"),
        (list(unexpected), "holds weights that have no place in the base"),
    ):
        if keys:
            raise CheckpointError(f"the adapter in {folder} {label} ({min(keys)}); is the base model the right one?")


def load_tokenizer(folder: Path, *, config: Path | None = None, trust_remote_code: bool = False) -> Any:
    """The tokenizer saved in a folder. `config`: folder of the model configuration that decides its class, for an adapter's folder,
    which has none; default: the folder itself. Raises CheckpointError.
    """
    from transformers import AutoConfig, AutoTokenizer

    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise CheckpointError(
            f"no tokenizer in {folder} (none of {', '.join(TOKENIZER_FILES[:3])}); "
            "save the tokenizer beside the weights: tokenizer.save_pretrained(folder)"
        )
    try:
        given: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
        if config is not None and config != folder and not (folder / "config.json").exists():
            given["config"] = AutoConfig.from_pretrained(config, trust_remote_code=trust_remote_code)
        return AutoTokenizer.from_pretrained(folder, **given)
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


def first_non_finite(model: Any) -> str | None:
    """Name of the first weight that holds NaN or infinity."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            return str(name)
    return None


def release() -> None:
    """Free the memory of dropped models."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def dtype_name(model: Any) -> str:
    """`float32`, `bfloat16`, ... of the model's weights."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def explain(error: BaseException) -> str:
    """Another library's error as one line, with the remedy where it is known."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return "it needs code of its own; if you trust its author, pass --trust-remote-code"
    if "safetensors" in text and "no file named" in text:
        return "no safetensors weights; convert them, or pass --allow-pickle if you trust the .bin file"
    return f"{type(error).__name__}: {text[:300]}"


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
