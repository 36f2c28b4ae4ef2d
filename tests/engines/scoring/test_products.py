"""Both libraries that may multiply give the same scores, and trying them leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F

from harness.core.component import SilentProgress
from harness.core.errors import SpecError, StateError
from harness.core.tokens import TokenPair
from harness.engines.scoring import products
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.products import VARIABLE, choose_linear, fix_products, has_onednn, onednn_linear
from harness.engines.scoring.score import score

GENERATOR = np.random.default_rng(0)
PAIRS = [
    TokenPair(id=str(n), ids=GENERATOR.integers(0, 300, n).astype(np.int32), n_context=n // 2, n_bytes=1, cluster="")
    for n in (5, 60, 90, 200)
]
onednn_only = pytest.mark.skipif(not has_onednn(), reason="torch without oneDNN")


@onednn_only
@pytest.mark.parametrize("shape", [(1, 7, 16, 8), (3, 40, 16, 24), (1, 64, 16, 1), (2, 5, 16, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_the_same_by_either_library(shape: tuple[int, ...], bias: bool) -> None:
    *leading, n_in, n_out = shape
    x, weight = torch.randn(*leading, n_in), torch.randn(n_out, n_in)
    b = torch.randn(n_out) if bias else None
    torch.testing.assert_close(onednn_linear(x, weight, b), F.linear(x, weight, b))
    strided = torch.randn(n_in, *leading).movedim(0, -1)
    torch.testing.assert_close(onednn_linear(strided, weight, b), F.linear(strided, weight, b))


@onednn_only
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt_neox", "phi"])
def test_scores_are_the_same_by_either_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.family(name)
    found = {}
    for choice in ("blas", "onednn"):
        monkeypatch.setenv(VARIABLE, choice)
        found[choice] = score(model, PackPlan(PAIRS), progress=SilentProgress(), greedy=True)
    n_tokens = np.array([pair.n_tokens for pair in PAIRS])
    assert np.abs((found["blas"].logprob - found["onednn"].logprob) / n_tokens).max() < 1e-5
    assert found["blas"].greedy.tolist() == found["onednn"].greedy.tolist()
    assert not [module for module in model.modules() if "forward" in module.__dict__]


@onednn_only
def test_the_other_library_is_really_another_one() -> None:
    x, weight = torch.randn(64, 16), torch.randn(8, 16)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        onednn_linear(x, weight, None)
    assert "mkldnn::_linear_pointwise" in {event.key for event in profile.key_averages()}


@pytest.fixture
def unfixed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No choice of the environment, and none of an earlier test; none is left behind."""
    monkeypatch.delenv(VARIABLE, raising=False)
    before = list(products._fixed)
    products._fixed.clear()
    yield
    products._fixed[:] = before


@pytest.mark.usefixtures("unfixed")
def test_one_choice_holds_for_every_shape() -> None:
    assert choose_linear(torch.randn(48, 40)) is choose_linear(torch.randn(7, 900))
    assert fix_products(None) in ("blas", "onednn")


@onednn_only
@pytest.mark.usefixtures("unfixed")
@pytest.mark.parametrize(("stored", "linear"), [("blas", F.linear), ("onednn", onednn_linear)])
def test_what_a_run_was_begun_with_is_kept(stored: str, linear: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fix_products(stored) == stored
    assert choose_linear(torch.randn(48, 40)) is linear
    monkeypatch.setenv(VARIABLE, "onednn" if stored == "blas" else "blas")
    with pytest.raises(StateError, match=f"was scored with {stored}, and HARNESS_PRODUCTS asks for"):
        fix_products(stored)


def test_only_float32_may_leave_the_usual_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "onednn")
    assert choose_linear(torch.randn(8, 8, dtype=torch.float64)) is F.linear
    assert choose_linear(torch.randn(8, 8, dtype=torch.bfloat16)) is F.linear


def test_an_unknown_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fastest")
    with pytest.raises(SpecError, match="HARNESS_PRODUCTS is 'fastest'; use one of auto, blas, onednn"):
        choose_linear(torch.randn(8, 8))
