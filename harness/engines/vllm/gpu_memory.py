"""How much of a GPU's memory vLLM may take where this process uses the GPU too. Arithmetic, and one call of torch."""

from __future__ import annotations

MOST = 0.9
"""vLLM's own default for --gpu-memory-utilization."""
LEAST = 0.1
SLACK_BYTES = 2 * 2**30
"""For activations of the model in this process, and what CUDA itself takes."""


def share(*, total: int, free: int, needed: int) -> float:
    """--gpu-memory-utilization, a share of `total` bytes, when this process still needs `needed` of the `free` ones.

    min(0.9, (free - needed - 2 GiB) / total), and 0.1 at least, with which vLLM will say what it lacks. `free` is measured before
    the server starts, so that what this process holds already is not counted twice.
    """
    return max(LEAST, min(MOST, (free - needed - SLACK_BYTES) / total))


def share_beside(device: str, *, needed: int) -> float | None:
    """The share on a device as torch names it (`cuda`, `cuda:1`); None for one that is no GPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    free, total = torch.cuda.mem_get_info(torch.device(device))
    return share(total=total, free=free, needed=needed)
