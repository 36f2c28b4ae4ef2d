"""Reads weights from safetensors files, never mapping them: a file that shrinks is an error, and does not kill the process.

Every tensor begins at a multiple of ALIGNMENT, because the vector instructions of a product, and with them its last place, may
depend on the alignment of its operands.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness.core.safetensors_header import TensorEntry, read_header
from harness.engines.models.live import DTYPE_CODES

ALIGNMENT = 64
"""Bytes: what torch's own allocator gives on a CPU."""
DTYPES = {code: dtype for dtype, code in DTYPE_CODES.items()}
"""safetensors' names of element types."""


class Layout(NamedTuple):
    """Names, types and shapes of tensors: equal layouts under equal configurations load in the same way."""

    tensors: frozenset[tuple[str, str, tuple[int, ...]]]
    """Name, element type, shape."""

    @property
    def names(self) -> set[str]:
        """Names of the tensors."""
        return {name for name, _, _ in self.tensors}


class Weights:
    """The tensors of some safetensors files, read when they are asked for. Raises CheckpointError for a file that is not whole."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._headers = [read_header(path) for path in files]
        entries = [entry for header in self._headers for entry in header.entries]
        self.layout = Layout(frozenset((entry.name, entry.dtype, tuple(entry.shape)) for entry in entries))
        self.unique = len(self.layout.names) == len(entries)
        """Whether no name is in two files."""

    def read_into(self, targets: dict[str, torch.Tensor]) -> None:
        """Fill each tensor's target, of the same shape, converting where its type is another. Raises EOFError or OSError."""
        for path, header in zip(self.files, self._headers, strict=True):
            with path.open("rb", buffering=0) as stream:
                for entry in header.entries:
                    _fill(stream.fileno(), header.start + entry.begin, entry, targets[entry.name])


def _fill(descriptor: int, offset: int, entry: TensorEntry, target: torch.Tensor) -> None:
    dtype = DTYPES[entry.dtype]
    direct = target.device.type == "cpu" and target.dtype == dtype and target.is_contiguous()
    held = target if direct else torch.empty(entry.shape, dtype=dtype)
    if held.numel():
        numbers: Any = held.view(-1).view(torch.uint8).numpy()
        _read_at(descriptor, offset, memoryview(numbers))
    if not direct:
        target.copy_(held)


def _read_at(descriptor: int, offset: int, view: memoryview) -> None:
    while len(view):
        n = os.preadv(descriptor, [view], offset)
        if not n:
            raise EOFError("the file ends before its tensors do")
        view, offset = view[n:], offset + n


def read_whole(stream: Any, view: memoryview) -> None:
    """Fill the view from the stream. Raises EOFError."""
    while len(view):
        n = stream.readinto(view)
        if not n:
            raise EOFError("the file ends before its tensors do")
        view = view[n:]


def own_memory(model: torch.nn.Module, *, every: bool = False) -> None:
    """Copy weights and buffers on the CPU whose memory is not aligned; with `every` all of them, since memory of a mapped file may be
    aligned too.
    """
    for tensor in _tensors(model):
        if tensor.device.type == "cpu" and (every or tensor.data_ptr() % ALIGNMENT):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()
