"""Keeps memory that torch frees on a CPU for its next tensor while a model is scored, and returns it to the system afterwards.

glibc maps every large block anew and unmaps it when it is freed, so each intermediate result would cost page faults in the
kernel. Other C libraries, and other devices, are left as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
from collections.abc import Iterator

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of mallopt's parameters in glibc (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD)."""
KEPT = 2**30
"""Bytes. Blocks below it come from the heap, and as much of the heap's end stays mapped."""
USUAL = {MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26}
"""Bytes. The values that glibc's own adjustment reaches in any program that frees large blocks; set again afterwards."""


@contextlib.contextmanager
def kept_memory(device: torch.device) -> Iterator[None]:
    """Freed blocks stay mapped inside, for the whole process; afterwards they go back to the system."""
    if device.type != "cpu" or not _glibc():
        yield
        return
    libc = ctypes.CDLL(None)
    for option in USUAL:
        libc.mallopt(option, KEPT)
    try:
        yield
    finally:
        for option, size in USUAL.items():
            libc.mallopt(option, size)
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
