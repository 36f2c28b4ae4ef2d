"""What this machine's core can do: peak of float32 matrix products, by backend, and what `medium` precision means here."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

SHAPES = (
    (256, 512, 512),
    (4096, 512, 512),
    (4096, 512, 1408),
    (4096, 1408, 512),
    (128, 512, 32_000),
    (32, 512, 128_256),
    (1024, 2048, 2048),
)
"""Rows, inputs and outputs of products: the benchmark's own layers and heads, and a square one for the peak."""
BF16_ERROR = 1e-2
"""A product of 512 normal numbers that is further than this from float64 was not computed in float32."""


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """torch.set_float32_matmul_precision, and back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def cpu_seconds(function: Callable[[], Any]) -> float:
    """Process CPU time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """F.linear of [rows, inputs] with [outputs, inputs]: GFLOP/s (medians), and largest difference to float64."""

    shape: tuple[int, int, int]
    best: float
    linear: float
    onednn: float | None
    medium: float
    error: float
    error_medium: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a table was measured."""

    cpu: str
    cores: int
    amx: bool
    torch: str
    load: float
    products: tuple[Product, ...]

    @property
    def peak(self) -> float:
        """GFLOP/s of the best float32 product seen."""
        return max(product.best for product in self.products)

    @property
    def medium(self) -> str:
        """What `medium` computes in here."""
        return "bf16" if max(product.error_medium for product in self.products) > BF16_ERROR else "float32"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "peak": self.peak, "medium": self.medium}


def measure_machine(*, repeats: int = 9) -> Machine:
    """Time every shape; takes a few seconds."""
    flags = _cpuinfo("flags")
    return Machine(
        cpu=_cpuinfo("model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        amx="amx_bf16" in flags.split(),
        torch=torch.__version__,
        load=os.getloadavg()[0],
        products=tuple(_measure(shape, repeats) for shape in SHAPES),
    )


@torch.no_grad()
def _measure(shape: tuple[int, int, int], repeats: int) -> Product:
    rows, inputs, outputs = shape
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    calls: dict[str, Callable[[], torch.Tensor]] = {"linear": lambda: F.linear(x, weight)}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available():
        calls["onednn"] = lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    def medium() -> torch.Tensor:
        with matmul_precision("medium"):
            return F.linear(x, weight)

    calls["medium"] = medium
    times: dict[str, list[float]] = {name: [] for name in calls}
    count = max(1, round(2e8 / (rows * inputs * outputs)))
    for name in calls:
        calls[name]()
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(cpu_seconds(lambda call=call: [call() for _ in range(count)]) / count)
    operations = 2 * rows * inputs * outputs / 1e9
    exact = F.linear(x[:256].double(), weight.double())
    rate = {name: operations / statistics.median(found) for name, found in times.items()}
    return Product(
        shape=shape,
        best=operations / min(times["linear"]),
        linear=rate["linear"],
        onednn=rate.get("onednn"),
        medium=rate["medium"],
        error=float((F.linear(x, weight)[:256].double() - exact).abs().max()),
        error_medium=float((medium()[:256].double() - exact).abs().max()),
    )


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
