"""Whether a checkpoint's files are all there and whole, and how large it is. Reads headers and names, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.checkpoints.fingerprint import ADAPTER, PICKLES, only_pickled, read_json, weight_files
from harness.checkpoints.foreign import foreign_format
from harness.core.checkpoint import Checkpoint
from harness.core.errors import CheckpointError
from harness.core.safetensors_header import read_header


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Numbers and bytes of the weights on disk; of an adapter, its own."""

    n_parameters: int
    n_bytes: int


def check_whole(checkpoint: Checkpoint, *, allow_pickle: bool = True) -> Size:
    """The size of a complete checkpoint. Raises CheckpointError saying what is missing, cut off or not allowed."""
    if checkpoint.problem:
        raise CheckpointError(checkpoint.problem)
    folder = checkpoint.folder
    if checkpoint.kind == "lora":
        read_json(folder / "adapter_config.json")
        files = [folder / ADAPTER]
        if not files[0].exists():
            raise CheckpointError(f"no {ADAPTER} in {folder}; is it still being written?")
    else:
        read_json(folder / "config.json")
        files = weight_files(folder)
        if not files:
            return _pickled(folder, allow_pickle=allow_pickle)
    headers = [read_header(path) for path in files]
    return Size(
        n_parameters=sum(header.n_parameters for header in headers), n_bytes=sum(header.n_bytes for header in headers)
    )


def _pickled(folder: Path, *, allow_pickle: bool) -> Size:
    """The size of pickled weights, which have no readable header: assumes 2 bytes per parameter."""
    files = sorted(path for pattern in PICKLES for path in folder.glob(pattern.replace(".bin", "*.bin")))
    if not files:
        raise CheckpointError(
            f"no weights in {folder}; {foreign_format(folder) or 'is the checkpoint still being written?'}"
        )
    if not allow_pickle:
        raise only_pickled(folder, files[0])
    n_bytes = sum(path.stat().st_size for path in set(files))
    return Size(n_parameters=n_bytes // 2, n_bytes=n_bytes)
