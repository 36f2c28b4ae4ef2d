"""Peak memory of scoring MATH at a vocabulary of 128k, measured in a process of its own: `python memory.py QUESTIONS`."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
from pathlib import Path


def measure_memory(questions: int) -> dict[str, float]:
    """GB (1e9 bytes) resident at most: before scoring (torch, the model and the set), and while scoring."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), str(questions)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _forget_peak() -> None:
    """The peak starts again from what is resident now: building a random model is no part of scoring. Linux only."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_gb() -> float:
    """Of this process alone: ru_maxrss, which others have, begins with what the parent had on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    import torch
    from workloads import make_model, make_workload

    from harness.core.component import SilentProgress
    from harness.engines.scoring.packs import PackPlan
    from harness.engines.scoring.score import score

    torch.set_num_threads(1)
    model = make_model("128k")
    workload = make_workload("MATH", "128k", questions=int(sys.argv[1]))
    _forget_peak()
    before = _peak_gb()
    score(model, PackPlan(workload.pairs), progress=SilentProgress())
    print(json.dumps({"model_gb": before, "peak_gb": _peak_gb(), "n_pairs": len(workload.pairs)}))


if __name__ == "__main__":
    main()
