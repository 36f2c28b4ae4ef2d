"""The demo does what it shows, at a fraction of its size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import forked
import pytest

from harness.feed.feed import read_feed
from harness.spec.prepared import read_reference

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"


@pytest.mark.slow
def test_the_demo_trains_scores_fits_exports_and_plots(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    sizes = ["--steps", "2", "--updates", "6", "--warmup", "6", "--rows", "4"]
    done = forked.run([sys.executable, str(DEMO), "--out", str(out), *sizes])
    assert done.returncode == 0, done.stderr
    feed = read_feed(out)
    assert [(vector.trajectory, vector.step) for vector in feed] == [
        (f"mix-{t}", s) for t in range(3) for s in range(3)
    ]
    assert all(vector.status == "ok" and vector.mixture is not None for vector in feed)
    for name in feed.trajectories:
        steps = feed.trajectory(name)
        first, last = steps[0].components[0].raw, steps[-1].components[0].raw
        assert first is not None and last is not None and last > first, "code in the mixture must raise the code score"
    assert feed.matrix(read_reference(out / "reference.json")).shape == (9, 4)
    assert (out / "reward.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert (out / "olmix" / "ratios.csv").exists()
    page = (out / "report.html").read_bytes()
    assert page.startswith(b"<!DOCTYPE html>") and len(page) < 250_000
    assert "scores higher on code in" in done.stdout
    (config,) = {path.read_text() for path in out.rglob("checkpoint-*/config.json")}
    assert json.loads(config)["head_dim"] in (32, 64, 80, 96, 112, 128), "sizes that vLLM's CPU build serves"
