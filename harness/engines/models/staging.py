"""The next checkpoint's weights in host memory, read by a thread while this one is scored; from there a GPU copies by itself.

For a GPU the memory is pinned and kept from checkpoint to checkpoint, because pinning is slow. Weights are handed out only
if their files are still what they were before they were read: a checkpoint is identified between the two, so what is
handed out is what was identified. Nothing fails here: without staged weights the usual load follows, and says what is wrong.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness.engines.models.live import DTYPE_CODES
from harness.engines.models.load import free_memory

SHARE = 0.5
"""Of the host's free memory that may be taken."""
PIECE = 2**26
"""Bytes read at a time; a thread that is no longer wanted ends after one."""
ALIGNMENT = 256
"""Bytes. Where a file's tensors may begin."""
DTYPES = {code: dtype for dtype, code in DTYPE_CODES.items()}
CGROUP = Path("/sys/fs/cgroup")

Weights = list[tuple[str, torch.Tensor]]
"""Every tensor of the files by name, as it stands there."""


class _Identity(NamedTuple):
    """Of a file's content, without reading it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(slots=True)
class _Reading:
    """Some files on their way into memory."""

    files: tuple[Path, ...]
    stop: threading.Event
    thread: threading.Thread | None = None
    identities: list[_Identity] | None = None
    weights: Weights | None = None

    def end(self) -> None:
        """Wait until the thread has seen that nobody wants these any more."""
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
        """When a GPU has copied what was handed out last."""

    def expect(self, files: Sequence[Path]) -> None:
        """These come next: read them, in place of whatever was here."""
        self._drop()
        reading = _Reading(tuple(files), threading.Event())
        reading.thread = threading.Thread(target=self._read, args=(reading,), name="staging", daemon=True)
        self._reading = reading
        # A thread that is inside torch when the interpreter goes away takes the process down with it.
        atexit.register(reading.end)
        reading.thread.start()

    @contextlib.contextmanager
    def taken(self, files: Sequence[Path]) -> Iterator[Weights | None]:
        """The weights of these files, once they are read, to be copied inside; null where they are not here as they are now."""
        reading = self._reading
        if reading is None or reading.files != tuple(files):
            self._drop()
            yield None
            return
        if reading.thread is not None:
            reading.thread.join()
        same = reading.weights is not None and reading.identities == _identities(reading.files)
        try:
            yield reading.weights if same else None
        finally:
            self._drop()
            if same and self._device.type == "cuda":
                self._copied = torch.cuda.current_stream(self._device).record_event()

    def clear(self) -> None:
        """Give the memory back."""
        self._drop()
        self._memory = torch.empty(0, dtype=torch.uint8)

    def _drop(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.end()
            atexit.unregister(reading.end)

    def _read(self, reading: _Reading) -> None:
        with contextlib.suppress(Exception):
            identities = _identities(reading.files)
            if identities is not None and self._reserve(
                sum(-(-one.size // ALIGNMENT) * ALIGNMENT for one in identities)
            ):
                reading.weights = self._fill(reading, identities)
                reading.identities = identities

    def _reserve(self, size: int) -> bool:
        """Whether there is memory for it now, of which nothing is being copied."""
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

    def _fill(self, reading: _Reading, identities: Sequence[_Identity]) -> Weights:
        weights: Weights = []
        offset = 0
        for path, identity in zip(reading.files, identities, strict=True):
            with path.open("rb", buffering=0) as stream:
                entries, size = _entries(stream, identity.size)
                part = self._memory[offset : offset + size]
                numbers: Any = part.numpy()
                view = memoryview(numbers)
                for start in range(0, size, PIECE):
                    if reading.stop.is_set():
                        raise InterruptedError("nobody wants these weights any more")
                    _read_whole(stream, view[start : start + PIECE])
            for name, (dtype, shape, begin, stop) in entries.items():
                weights.append((name, part[begin:stop].view(dtype).view(shape)))
            offset += -(-size // ALIGNMENT) * ALIGNMENT
        return weights


def free_host_memory() -> int:
    """Bytes that this process may still take: what the machine has free, within the limit of its container."""
    free = free_memory(torch.device("cpu"))
    with contextlib.suppress(OSError, ValueError, KeyError):
        limit = int((CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        counts = dict(line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        free = min(free, limit - used + int(counts["inactive_file"]))
    return free


def _identities(files: Sequence[Path]) -> list[_Identity] | None:
    """Of each file; null if one is not there."""
    try:
        stats = [path.stat() for path in files]
    except OSError:
        return None
    return [_Identity(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats]


def _entries(stream: Any, size: int) -> tuple[dict[str, tuple[torch.dtype, list[int], int, int]], int]:
    """A safetensors file's tensors by name: type, shape, first byte and the one after the last; and the bytes of them all.

    The stream stands at the first byte afterwards. Raises whatever a file that is not whole brings about.
    """
    (length,) = struct.unpack("<Q", stream.read(8))
    if 8 + length > size:
        raise ValueError("no whole header")
    header = bytearray(length)
    _read_whole(stream, memoryview(header))
    table = json.loads(header)
    entries = {
        name: (DTYPES[entry["dtype"]], entry["shape"], *entry["data_offsets"])
        for name, entry in table.items()
        if name != "__metadata__"
    }
    for dtype, shape, begin, stop in entries.values():
        if not 0 <= begin <= stop <= size - 8 - length or stop - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError("a tensor that is not where the header says")
    return entries, size - 8 - length


def _read_whole(stream: Any, view: memoryview) -> None:
    while len(view):
        n = stream.readinto(view)
        if not n:
            raise EOFError("the file ends before its tensors do")
        view = view[n:]
