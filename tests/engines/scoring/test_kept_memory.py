"""Freed memory stays while a model is scored and goes back to the system afterwards, whatever happened.

In processes of their own: what glibc does with a block depends on what was freed before it.
"""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SIZE = 2**26
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")

PROGRAM = """
import contextlib, resource, sys
from pathlib import Path
import torch
from harness.engines.scoring.kept_memory import kept_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

torch.ones(1)
before = resident()
with contextlib.suppress(KeyboardInterrupt), kept_memory(torch.device(sys.argv[1])):
    torch.ones(int(sys.argv[2]) // 4)
    print(resident() - before)
    raise KeyboardInterrupt
print(resident() - before)
"""


def grown(device: str) -> tuple[int, int]:
    """Bytes by which a process has grown after a tensor was freed: inside, and after an interruption outside."""
    command = [sys.executable, "-c", PROGRAM, device, str(SIZE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    inside, outside = done.stdout.split()
    return int(inside), int(outside)


def test_freed_memory_is_kept_inside_and_given_back_outside() -> None:
    inside, outside = grown("cpu")
    assert inside > SIZE // 2
    assert outside < SIZE // 2


def test_other_devices_are_left_alone() -> None:
    inside, outside = grown("meta")
    assert inside < SIZE // 2
    assert outside < SIZE // 2
