"""The loop as one program, small: every part of it runs, every policy gets the same tokens, and stock lm-eval has the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed; pip install 'mixture-harness[lm-eval]'")

ROOT = Path(__file__).parent.parent
LEARNED = {"agent", "warm-up alone", "agent, gains shuffled", "agent, feedback zeroed"}
OTHERS = {"RegMix on the same data", "uniform", "greedy bandit"}


@pytest.mark.long
def test_the_loop_compares_every_policy_on_drawn_problems(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "loop.py"), "--quick", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "out" / "loop.json").read_text())
    stationary, changing = found["problems"]
    assert stationary["junk"] in stationary["names"] and set(changing["lacked"]) <= set(changing["names"])
    assert not set(stationary["names"]) & set(changing["names"])
    for one, more in ((stationary, {"start", "target only"}), (changing, {"best fixed for each base, in hindsight"})):
        rows = {row["policy"]: row for row in one["rows"]}
        (best,) = set(rows) - LEARNED - OTHERS - more
        assert best.startswith("best fixed of the grid, in hindsight")
        assert rows[best]["final"] >= rows["uniform"]["final"], (
            "hindsight is granted to what the agent is compared with"
        )
        assert all(len(row["finals"]) == 2 for row in rows.values())
        assert rows["agent"]["agent_minus"] == 0.0
        gap = sum(a - b for a, b in zip(rows["agent"]["finals"], rows["uniform"]["finals"], strict=True)) / 2
        assert rows["uniform"]["agent_minus"] == pytest.approx(gap)
        assert one["lm_eval_worst"] < 1e-5
        assert one["verdicts"] and all(f"- {'met' if met else 'NOT MET'}: {text}" in done.stdout for text, met in one["verdicts"])  # fmt: skip
    assert (tmp_path / "out" / "loop.svg").stat().st_size > 1000
