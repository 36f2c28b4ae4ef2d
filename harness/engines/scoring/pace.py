"""How fast this machine multiplies matrices, measured in a fraction of a second: the basis of estimates of time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

WIDTH = 1024
LEAST_S = 0.1
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What a Linux has where torch may find a GPU: NVIDIA's driver, AMD's, Windows' below WSL."""


@cache
def flops_per_s(device: str) -> float:
    """Floating-point operations per second of a product of float32 matrices (bfloat16 on a GPU). Raises SpecError.

    On a CPU NumPy multiplies, about as fast as torch: to import torch costs ten times what the trial does.
    """
    if device == "cpu" or (device == "auto" and sys.platform == "linux" and not any(map(_exists, GPUS))):
        ones = np.ones((WIDTH, WIDTH), dtype=np.float32)
        out = np.empty_like(ones)
        return _rate(lambda: np.matmul(ones, ones, out=out))
    return _torch_rate(device)


def _torch_rate(device: str) -> float:
    import torch

    from harness.engines.models.load import choose_device

    where = choose_device(device)
    on_gpu = where.type == "cuda"
    matrix = torch.ones(WIDTH, WIDTH, device=where, dtype=torch.bfloat16 if on_gpu else torch.float32)
    product = matrix @ matrix

    def multiply() -> None:
        torch.mm(matrix, matrix, out=product)
        if on_gpu:
            torch.cuda.synchronize()

    return _rate(multiply)


def _rate(multiply: Callable[[], object]) -> float:
    multiply()
    rounds, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < LEAST_S:
        multiply()
        rounds += 1
    return 2.0 * WIDTH**3 * rounds / seconds


def _exists(path: str) -> bool:
    return Path(path).exists()
