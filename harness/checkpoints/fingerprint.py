"""The identity of a checkpoint's weights, independent of its path: a digest over tensors by name, and over the configuration.

Reads safetensors files without torch, and checks that they are complete. A model has the same fingerprint saved in one file, in
ten shards, or in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.checkpoints.foreign import foreign_format
from harness.core.digest import digest_bytes, digest_json
from harness.core.errors import CheckpointError
from harness.core.safetensors_header import TensorEntry, read_header

TensorLine = tuple[str, str, list[int], str]
"""Name, safetensors dtype, shape, sha256 of the bytes."""

PIECE = 2**24
"""Bytes of a tensor that are read at a time: never mapped, so a file that shrinks is an error, not a signal."""
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
TOKENIZER_PATTERNS = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    *("*.model", "*.spm", "*.tiktoken", "*.codes", "*.tokenizer", "*.vocab"),
    *("tekken.json", "dict.txt", "emoji.json", "normalizer.json", "entity_vocab.json"),
)
"""Every file that a tokenizer of transformers may be loaded from, those of slow ones included."""

VOLATILE_CONFIG = {
    "_name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "architectures",
    "use_cache",
    "_commit_hash",
}
FLOATING = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""torch's names of the types that a model is loaded in -> safetensors' names."""
VOLATILE_ADAPTER = {
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "auto_mapping",
    "peft_version",
    "task_type",
}


def full_fingerprint(folder: Path, *, allow_pickle: bool = False, code: bool = False) -> str:
    """Fingerprint of a full model folder; with `code`, also over model code in the folder that its configuration names (auto_map).

    Raises CheckpointError for missing, truncated or corrupt files.
    """
    files = weight_files(folder)
    for path in files:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise CheckpointError(f"{path} is no file; copy the weights again")
    if not files:
        pickles = sorted(path for name in PICKLES if (path := folder / name).exists())
        if pickles and allow_pickle:
            files = sorted(folder.glob("pytorch_model*.bin"))
            content: list[TensorLine] = [(path.name, "", [], digest_bytes(path.read_bytes())) for path in files]
            return combine(content, _config(folder, code))
        if pickles:
            raise only_pickled(folder, pickles[0])
        hint = foreign_format(folder) or "is the checkpoint still being written?"
        raise CheckpointError(f"no weights in {folder} (expected {SINGLE} or {INDEX}); {hint}")
    lines = [line for path in files for line in read_tensors(path)]
    return combine(lines, _config(folder, code))


def only_pickled(folder: Path, file: Path) -> CheckpointError:
    """The error for pickled weights that are not allowed."""
    return CheckpointError(
        f"{folder} holds only pickled weights ({file.name}), which can run code when loaded; "
        "convert them to safetensors, or pass --allow-pickle if you trust them"
    )


def adapter_fingerprint(folder: Path, base: str) -> str:
    """Fingerprint of an adapter over the base whose fingerprint is `base`. Raises CheckpointError."""
    path = folder / ADAPTER
    if not path.exists():
        raise CheckpointError(f"no {ADAPTER} in {folder}; adapters are read from safetensors only, save it again")
    return combine_adapter(read_tensors(path), read_json(folder / "adapter_config.json"), base)


def live_fingerprint(model: Any) -> str:
    """Fingerprint of a model in memory: that of the folder it would be saved to.

    A PEFT model with one active adapter has that of its adapter folder over its base's. Raises EngineError.
    """
    from harness.engines.models.live import adapter_state, saved_config, saved_tensors, tuner_state

    state = adapter_state(model)
    if state is None:
        return combine(saved_tensors(model), {**saved_config(model), **tuner_state(model)})
    return combine_adapter(state.tensors, state.config, combine(state.base_tensors, state.base_config))


def combine(tensors: Iterable[TensorLine], config: Mapping[str, Any]) -> str:
    """The fingerprint of weights under a configuration; keys that do not change a score are left out.

    The configuration's dtype is left out unless some weights are saved in another: those are converted when they are loaded.
    """
    lines = sorted(map(list, tensors))
    meaning = _without(config, VOLATILE_CONFIG)
    named = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    held = {dtype for _, dtype, _, _ in lines if dtype in FLOATING.values()}
    if held and named in FLOATING and held != {FLOATING[named]}:
        meaning["loaded as"] = named
    return digest_json([lines, meaning])


def combine_adapter(tensors: Iterable[TensorLine], config: Mapping[str, Any], base: str) -> str:
    """The fingerprint of an adapter's weights under its configuration, over a base."""
    meaning = _without(config, VOLATILE_ADAPTER)
    for key in ("target_modules", "modules_to_save"):
        if isinstance(meaning.get(key), list):
            meaning[key] = sorted(meaning[key])
    for key in ("rank_pattern", "alpha_pattern"):  # their order counts: peft takes the first pattern that matches
        if isinstance(meaning.get(key), dict) and len(meaning[key]) > 1:
            meaning[key] = [[pattern, value] for pattern, value in meaning[key].items()]
    return digest_json([sorted(map(list, tensors)), meaning, base])


def _without(config: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    """A configuration without some keys and without None, at every level."""
    return {
        key: _without(value, keys) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in keys and value is not None
    }


def _config(folder: Path, code: bool) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if code and "auto_map" in config:
        files = code_files(folder)
        config["remote code"] = [[str(path.relative_to(folder)), digest_bytes(path.read_bytes())] for path in files]
    return config


def code_files(folder: Path) -> list[Path]:
    """The code that comes with a model or a tokenizer."""
    return sorted(folder.rglob("*.py"))


def code_digest(files: Iterable[Path]) -> str:
    """Digest of code files. Raises CheckpointError."""
    try:
        return digest_json([[path.name, digest_bytes(path.read_bytes())] for path in files])
    except OSError as error:
        raise CheckpointError(f"cannot read the code {error.filename}: {error.strerror or error}") from error


def content_files(folder: Path) -> list[Path]:
    """Every file of a model's or adapter's folder that decides what is scored, those of its tokenizer included."""
    names = ("config.json", "generation_config.json", "adapter_config.json", ADAPTER, SINGLE, INDEX)
    patterns = ("*.safetensors", "pytorch_model*.bin", "pytorch_model.bin.index.json")
    weights = [path for pattern in patterns for path in folder.glob(pattern)]
    return sorted({*(folder / name for name in names), *weights, *code_files(folder), *tokenizer_files(folder)})


def tokenizer_files(folder: Path) -> list[Path]:
    """The files that a tokenizer is loaded from."""
    return sorted({path for pattern in TOKENIZER_PATTERNS for path in folder.glob(pattern) if path.is_file()})


def tokenizer_files_digest(folder: Path) -> str:
    """Digest of the tokenizer's files by name and content. Raises CheckpointError."""
    try:
        return digest_json([[path.name, digest_bytes(path.read_bytes())] for path in tokenizer_files(folder)])
    except OSError as error:
        raise CheckpointError(f"cannot read the tokenizer in {folder}: {error.strerror or error}") from error


def model_type(folder: Path) -> str | None:
    """`model_type` of a folder's configuration; None where it has none that can be read."""
    try:
        value = read_json(folder / "config.json").get("model_type")
    except CheckpointError:
        return None
    return value if isinstance(value, str) else None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers would read: the single one, else the shards of the index.

    Raises CheckpointError for a missing shard.
    """
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if not (folder / INDEX).exists():
        return []
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"{folder / INDEX} is corrupt: it has no weight_map of names; copy it again")
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if not (folder / shard).exists():
            raise CheckpointError(f"{folder} lacks the shard {shard} that {INDEX} names; copy it again")
    return [folder / shard for shard in shards]


def read_tensors(path: Path) -> list[TensorLine]:
    """Identity of every tensor of a safetensors file. Raises CheckpointError if the file is not whole."""
    header = read_header(path)
    if not header.entries:
        return []
    try:
        with path.open("rb") as stream:

            def digest(entry: TensorEntry) -> TensorLine:
                found = hashlib.sha256()
                for start in range(entry.begin, entry.stop, PIECE):
                    size = min(PIECE, entry.stop - start)
                    piece = os.pread(stream.fileno(), size, header.start + start)
                    if len(piece) < size:
                        raise CheckpointError(f"{path} became shorter while it was read; wait until it is written")
                    found.update(piece)
                return entry.name, entry.dtype, entry.shape, found.hexdigest()

            with ThreadPoolExecutor(max_workers=4) as pool:
                return list(pool.map(digest, header.entries))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint folder. Raises CheckpointError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_special_float)
    except FileNotFoundError as error:
        raise CheckpointError(f"no {path.name} in {path.parent}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return value


def _special_float(name: str) -> dict[str, str]:
    """`Infinity` and `NaN`, which older configurations hold bare, as transformers writes them today."""
    return {"__float__": name}
