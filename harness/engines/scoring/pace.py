"""How fast this machine multiplies matrices, measured in a fraction of a second: the basis of estimates of time."""

from __future__ import annotations

import time
from functools import cache

import torch

from harness.engines.models.load import choose_device

WIDTH = 1024
LEAST_S = 0.1


@cache
def flops_per_s(device: str) -> float:
    """Floating-point operations per second of a product of float32 matrices (bfloat16 on a GPU)."""
    where = choose_device(device)
    on_gpu = torch.device(where).type == "cuda"
    matrix = torch.ones(WIDTH, WIDTH, device=where, dtype=torch.bfloat16 if on_gpu else torch.float32)
    product = matrix @ matrix
    rounds, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < LEAST_S:
        torch.mm(matrix, matrix, out=product)
        if on_gpu:
            torch.cuda.synchronize()
        rounds += 1
    return 2.0 * WIDTH**3 * rounds / seconds
