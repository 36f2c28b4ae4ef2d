"""The next checkpoint's weights in host memory, read by a thread while the current one is scored.

For a GPU the memory is pinned, so that copies from it are asynchronous, and kept from checkpoint to checkpoint, because pinning is
slow. Weights are used only if their files did not change since before they were read: the checkpoint is identified in between, so the
weights are those that were identified. Errors are not raised here: without staged weights the usual load follows, and raises them.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.core.file_identity import Identities, identities
from harness.core.safetensors_header import Header, read_header
from harness.engines.models.load import free_memory
from harness.engines.models.weights import DTYPES, read_whole

SHARE = 0.5
"""Share of the host's free memory that may be taken."""
PIECE = 2**26
"""Bytes read at a time; cancellation is checked after each piece."""
ALIGNMENT = 256
"""Bytes. Where a file's tensors may begin."""
CGROUP = Path("/sys/fs/cgroup")

Weights = list[tuple[str, torch.Tensor]]
"""Name and tensor, in the files' own element types."""


@dataclass(slots=True)
class _Reading:
    """Files that are being read into memory by a thread."""

    files: tuple[Path, ...]
    stop: threading.Event
    thread: threading.Thread | None = None
    identities: Identities | None = None
    weights: Weights | None = None

    def end(self) -> None:
        """Cancel the read and join the thread."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join()


class Staging:
    """At most one checkpoint's weights, for a model on `device`. Used by one thread besides its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._reading: _Reading | None = None
        self._copied: torch.cuda.Event | None = None
        """Recorded after the copies from the memory that were started last."""

    def expect(self, files: Sequence[Path]) -> None:
        """Start to read these files, discarding what was read before."""
        self._drop()
        reading = _Reading(tuple(files), threading.Event())
        reading.thread = threading.Thread(target=self._read, args=(reading,), name="staging", daemon=True)
        self._reading = reading
        # A thread that is inside torch while the interpreter shuts down crashes the process.
        atexit.register(reading.end)
        reading.thread.start()

    @contextlib.contextmanager
    def taken(self, files: Sequence[Path]) -> Iterator[Weights | None]:
        """Within the block the weights of these files (waits until they are read), to be copied; None if other files, or older
        versions of these, were read.
        """
        reading = self._reading
        if reading is None or reading.files != tuple(files):
            self._drop()
            yield None
            return
        if reading.thread is not None:
            reading.thread.join()
        same = reading.weights is not None and reading.identities == identities(reading.files)
        try:
            yield reading.weights if same else None
        finally:
            self._drop()
            if same and self._device.type == "cuda":
                self._copied = torch.cuda.current_stream(self._device).record_event()

    def clear(self) -> None:
        """Free the memory."""
        self._drop()
        self._memory = torch.empty(0, dtype=torch.uint8)

    def _drop(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.end()
            atexit.unregister(reading.end)

    def _read(self, reading: _Reading) -> None:
        with contextlib.suppress(Exception):
            found = identities(reading.files)
            headers = [read_header(path) for path in reading.files]
            if self._reserve(sum(-(-header.n_bytes // ALIGNMENT) * ALIGNMENT for header in headers)):
                reading.weights = self._fill(reading, headers)
                reading.identities = found

    def _reserve(self, size: int) -> bool:
        """Whether there is memory for `size` bytes. Waits until a GPU has finished copying from it."""
        if self._copied is not None:
            self._copied.synchronize()
        if self._memory.numel() >= size:
            return True
        self._memory = torch.empty(0, dtype=torch.uint8)
        pin = self._device.type == "cuda"
        # torch pins memory in powers of two.
        if (2 ** (size - 1).bit_length() if pin else size) > SHARE * free_host_memory():
            return False
        self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=pin)
        return True

    def _fill(self, reading: _Reading, headers: Sequence[Header]) -> Weights:
        weights: Weights = []
        offset = 0
        for path, header in zip(reading.files, headers, strict=True):
            part = self._memory[offset : offset + header.n_bytes]
            numbers: Any = part.numpy()
            view = memoryview(numbers)
            with path.open("rb", buffering=0) as stream:
                stream.seek(header.start)
                for start in range(0, header.n_bytes, PIECE):
                    if reading.stop.is_set():
                        raise InterruptedError("cancelled")
                    read_whole(stream, view[start : start + PIECE])
            for entry in header.entries:
                dtype = DTYPES[entry.dtype]
                weights.append((entry.name, part[entry.begin : entry.stop].view(dtype).view(entry.shape)))
            offset += -(-header.n_bytes // ALIGNMENT) * ALIGNMENT
        return weights


def free_host_memory() -> int:
    """Bytes that this process may still allocate: the machine's free memory, within the limit of its cgroup."""
    free = free_memory(torch.device("cpu"))
    with contextlib.suppress(OSError, ValueError, KeyError):
        limit = int((CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        counts = dict(line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        free = min(free, limit - used + int(counts["inactive_file"]))
    return free
