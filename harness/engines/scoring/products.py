"""Which library multiplies float32 matrices on this CPU: one for all products of a process, found by trial, or fixed for a run.

`F.linear` goes to MKL (or whatever BLAS torch was built with). oneDNN can be twice as fast on AMD and on older machines, on an
Intel with AVX-512 it is not. No public call reaches it in float32 (a 1x1 convolution of one image on one thread does not), so it
is asked through the operator that torch's compiler emits, where there is one. HARNESS_PRODUCTS=blas or =onednn decides
without trying. The two differ in the last place, so a run folder remembers the choice and a resumed run keeps it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from harness.core.errors import SpecError, StateError

VARIABLE = "HARNESS_PRODUCTS"
CHOICES = ("auto", "blas", "onednn")
ROWS = 512
FEWEST_ROWS = 32
"""Products of fewer rows stay with F.linear: memory bandwidth limits them in either library."""
SIZE = 768
"""Rows and columns of the trial's weight: some milliseconds a product, and the proportions of a layer's."""
REPEATS = 7
GAIN = 1.25
"""oneDNN must be this many times as fast: a change for less would be noise."""
EXACT = 1e-5
"""Largest difference to F.linear, relative to the largest result: float32, not bf16 or tf32."""

Linear = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
_tried: dict[tuple[Any, ...], bool] = {}
_fixed: list[str] = []
"""At most one entry: the library fixed by `fix_products`."""


def onednn_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """F.linear by oneDNN, for float32 on a CPU. `x` has shape [..., in], `weight` [out, in]."""
    if x.numel() < FEWEST_ROWS * x.shape[-1]:
        return F.linear(x, weight, bias)
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def has_onednn() -> bool:
    """Whether torch was built with oneDNN and has the operator."""
    return bool(torch._C._has_mkldnn) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def asked_for() -> str:
    """The value of $HARNESS_PRODUCTS: auto (the default), blas or onednn. Raises SpecError."""
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise SpecError(f"{VARIABLE} is {choice!r}; use one of {', '.join(CHOICES)}")
    return choice


def fix_products(stored: str | None) -> str:
    """Fix `blas` or `onednn` for the rest of this process: the one `stored` in a run folder, else by the environment or a trial.

    Raises SpecError for an unknown choice, StateError where the stored one is not available or the environment asks for another.
    """
    asked = asked_for()
    choice = stored or (("onednn" if _onednn_is_better() else "blas") if asked == "auto" else asked)
    if stored is not None and asked not in ("auto", stored):
        raise StateError(
            f"the run was scored with {stored}, and {VARIABLE} asks for {asked}; unset it, or use another --out"
        )
    if choice == "onednn" and not has_onednn():
        raise StateError("the run was scored with onednn, which this torch does not have; use another --out")
    _fixed[:] = [choice]
    return choice


def choose_linear(weight: torch.Tensor) -> Linear:
    """F.linear or onednn_linear for products with `weight`. Raises SpecError."""
    choice = asked_for()
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not has_onednn():
        return F.linear
    if choice == "auto":
        choice = _fixed[0] if _fixed else "onednn" if _onednn_is_better() else "blas"
    return onednn_linear if choice == "onednn" else F.linear


def _onednn_is_better() -> bool:
    """Whether oneDNN gives the same results in clearly less time; tried once per process and number of threads."""
    if not has_onednn():
        return False
    key = torch.get_num_threads(), torch.get_float32_matmul_precision()
    if key not in _tried:
        _tried[key] = _try()
    return _tried[key]


def _try() -> bool:
    weight = torch.linspace(-1, 1, SIZE * SIZE).cos().view(SIZE, SIZE)
    x = torch.linspace(-1, 1, ROWS * SIZE).sin().view(ROWS, SIZE)
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
    # The minimum of each: other work on the machine can only add time.
    return min(times[F.linear]) > GAIN * min(times[onednn_linear])


@contextlib.contextmanager
def chosen_products(model: Any) -> Iterator[None]:
    """Within the block plain linear layers multiply with the chosen library; modules with a replaced forward are left alone."""
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
