"""What weights a checkpoint holds, whatever its path: a digest over tensors by name, and over the configuration.

Reads safetensors files without torch; checks on the way that they are whole. One model saved in one file or in ten
shards has one fingerprint, and so has a live model that would be saved to them.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.core.digest import digest_bytes, digest_json
from harness.core.errors import CheckpointError

TensorLine = tuple[str, str, list[int], str]
"""Name, safetensors dtype, shape, sha256 of the bytes."""

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
TOKENIZER_PATTERNS = (
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.jinja",
    "spiece.model",
)

VOLATILE_CONFIG = {
    "_name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "architectures",
    "use_cache",
    "_commit_hash",
}
VOLATILE_ADAPTER = {
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "auto_mapping",
    "peft_version",
    "task_type",
}


def full_fingerprint(folder: Path, *, allow_pickle: bool = False) -> str:
    """Fingerprint of a full model folder. Raises CheckpointError for missing, truncated or corrupt files."""
    files = weight_files(folder)
    if not files:
        pickles = sorted(path for name in PICKLES if (path := folder / name).exists())
        if pickles and allow_pickle:
            return digest_json(
                [[p.name, digest_bytes(p.read_bytes())] for p in sorted(folder.glob("pytorch_model*.bin"))]
            )
        if pickles:
            raise CheckpointError(
                f"{folder} holds only pickled weights ({pickles[0].name}), which can run code when loaded; "
                "convert them to safetensors, or pass --allow-pickle if you trust them"
            )
        raise CheckpointError(
            f"no weights in {folder} (expected {SINGLE} or {INDEX}); is the checkpoint still being written?"
        )
    lines = [line for path in files for line in read_tensors(path)]
    return combine(lines, read_json(folder / "config.json"))


def adapter_fingerprint(folder: Path, base: str) -> str:
    """Fingerprint of an adapter over the base whose fingerprint is `base`. Raises CheckpointError."""
    path = folder / ADAPTER
    if not path.exists():
        raise CheckpointError(f"no {ADAPTER} in {folder}; adapters are read from safetensors only, save it again")
    config = {
        k: v
        for k, v in read_json(folder / "adapter_config.json").items()
        if k not in VOLATILE_ADAPTER and v is not None
    }
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    return digest_json([sorted(map(list, read_tensors(path))), config, base])


def combine(tensors: Iterable[TensorLine], config: Mapping[str, Any]) -> str:
    """The fingerprint of weights under a configuration; keys that do not change a score are left out."""
    meaning = {key: value for key, value in config.items() if key not in VOLATILE_CONFIG and value is not None}
    return digest_json([sorted(map(list, tensors)), meaning])


def tokenizer_files_digest(folder: Path) -> str:
    """Digest of the tokenizer's files, to notice that one was replaced beside the same weights."""
    paths = sorted({path for pattern in TOKENIZER_PATTERNS for path in folder.glob(pattern) if path.is_file()})
    return digest_json([[path.name, digest_bytes(path.read_bytes())] for path in paths])


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a full model, shards by the index. Raises CheckpointError for a missing shard."""
    if (folder / INDEX).exists():
        shards = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
        for shard in shards:
            if not (folder / shard).exists():
                raise CheckpointError(f"{folder} lacks the shard {shard} that {INDEX} names; copy it again")
        return [folder / shard for shard in shards]
    return [folder / SINGLE] if (folder / SINGLE).exists() else []


def read_tensors(path: Path) -> list[TensorLine]:
    """Identity of every tensor of a safetensors file. Raises CheckpointError if the file is not whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
            if 8 + length > size:
                raise CheckpointError(
                    f"{path} is truncated or corrupt ({size} bytes hold no whole header); copy it again"
                )
            try:
                header = json.loads(stream.read(length))
                entries = [
                    (name, str(v["dtype"]), list(v["shape"]), *v["data_offsets"])
                    for name, v in header.items()
                    if name != "__metadata__"
                ]
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise CheckpointError(
                    f"{path} is corrupt: its header is not that of a safetensors file; copy it again"
                ) from error
            end = 8 + length + max((entry[4] for entry in entries), default=0)
            if size != end:
                state = "truncated" if size < end else "longer than its header says"
                raise CheckpointError(f"{path} is {state}: {size} bytes, expected {end}; copy it again")
            if not entries:
                return []
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:

                def digest(entry: tuple[str, str, list[int], int, int]) -> TensorLine:
                    name, dtype, shape, begin, stop = entry
                    with view[8 + length + begin : 8 + length + stop] as part:
                        return name, dtype, shape, hashlib.sha256(part).hexdigest()

                with ThreadPoolExecutor(max_workers=4) as pool:
                    return list(pool.map(digest, entries))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint folder. Raises CheckpointError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"no {path.name} in {path.parent}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return value
