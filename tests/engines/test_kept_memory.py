"""Freed memory stays while a model is scored and goes back to the system afterwards, whatever happened."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from harness.engines.kept_memory import kept_memory

SIZE = 2**26
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def use_and_free() -> None:
    torch.ones(SIZE // 4)


def test_freed_memory_is_kept_inside_and_given_back_outside() -> None:
    with kept_memory(torch.device("cpu")):
        pass  # gives back what earlier tests left
    before = resident()
    with pytest.raises(KeyboardInterrupt), kept_memory(torch.device("cpu")):
        use_and_free()
        assert resident() - before > SIZE // 2
        raise KeyboardInterrupt
    assert resident() - before < SIZE // 2


def test_other_devices_are_left_alone() -> None:
    before = resident()
    with kept_memory(torch.device("meta")):
        use_and_free()
        assert resident() - before < SIZE // 2
