"""Which library multiplies float32 matrices on this CPU: tried on the model's own weights, once per shape and process.

`F.linear` goes to MKL (or whatever BLAS torch was built with). oneDNN can be twice as fast on AMD and on older machines, on an
Intel with AVX-512 it is not. No public call reaches it in float32 (a 1x1 convolution of one image on one thread does not), so it
is asked through the operator that torch's compiler emits, where there is one. HARNESS_PRODUCTS=blas or =onednn decides
without trying.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from harness.core.errors import SpecError

VARIABLE = "HARNESS_PRODUCTS"
CHOICES = ("auto", "blas", "onednn")
ROWS = 512
FEWEST_ROWS = 32
"""Products of fewer rows stay with F.linear: they wait for memory, whoever multiplies."""
OPERATIONS = 5e8
"""Of one trial product, where its shape allows: some milliseconds."""
REPEATS = 7
GAIN = 1.25
"""oneDNN must be this many times as fast: a change for less would be noise."""
EXACT = 1e-5
"""Largest difference to F.linear, relative to the largest result: float32, not bf16 or tf32."""

Linear = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
_TRIED: dict[tuple[Any, ...], bool] = {}


def onednn_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """F.linear by oneDNN, for float32 on a CPU. `x` has shape [..., in], `weight` [out, in]."""
    if x.numel() < FEWEST_ROWS * x.shape[-1]:
        return F.linear(x, weight, bias)
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def has_onednn() -> bool:
    """torch was built with oneDNN and has the operator."""
    return bool(torch._C._has_mkldnn) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def choose_linear(weight: torch.Tensor) -> Linear:
    """F.linear or onednn_linear, whichever is right for products with `weight`. Raises SpecError."""
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise SpecError(f"{VARIABLE} is {choice!r}; use one of {', '.join(CHOICES)}")
    able = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not able or choice == "blas" or not has_onednn():
        return F.linear
    if choice == "onednn":
        return onednn_linear
    precision = torch.get_float32_matmul_precision()
    key = (tuple(weight.shape), weight.is_contiguous(), torch.get_num_threads(), precision)
    if key not in _TRIED:
        _TRIED[key] = _onednn_is_better(weight)
    return onednn_linear if _TRIED[key] else F.linear


def _onednn_is_better(weight: torch.Tensor) -> bool:
    """Same results, and clearly less time."""
    rows = int(min(ROWS, max(FEWEST_ROWS, OPERATIONS / (2 * weight.numel()))))
    x = torch.linspace(-1, 1, rows * weight.shape[1]).sin().view(rows, -1)
    expected, found = F.linear(x, weight), onednn_linear(x, weight, None)
    if not bool((expected - found).abs().max() <= EXACT * expected.abs().max()):
        return False
    times: dict[Linear, list[float]] = {F.linear: [], onednn_linear: []}
    # A thread's own time does not see other work on the machine, but it sees only that thread.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(REPEATS):
        for linear, taken in times.items():
            start = clock()
            linear(x, weight, None)
            taken.append(clock() - start)
    # The least of each: other work on the machine only ever adds.
    return min(times[F.linear]) > GAIN * min(times[onednn_linear])


@contextlib.contextmanager
def chosen_products(model: Any) -> Iterator[None]:
    """Plain linear layers multiply with the chosen library inside; modules with a forward of their own are left alone."""
    changed = []
    try:
        for module in model.modules():
            if type(module) is not torch.nn.Linear or "forward" in module.__dict__:
                continue
            if choose_linear(module.weight) is onednn_linear:
                module.__dict__["forward"] = _forward(module)
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]


def _forward(module: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: onednn_linear(x, module.weight, module.bias)
