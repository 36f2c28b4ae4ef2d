"""Where the remaining time goes: operators of one scored set, by their own CPU time."""

from __future__ import annotations

from typing import Any

import torch
from comparison import our_score
from workloads import Workload

from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.proof import PROFILED

TOP = 12


def profile_operators(model: Any, workload: Workload) -> list[dict[str, Any]]:
    """The largest operators, the share of time outside any operator (Python), and what part of it all is the proof."""
    plan = PackPlan(workload.pairs)
    our_score(model, plan)
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile,
        torch.profiler.record_function("whole"),
    ):
        our_score(model, plan)
    events = profile.key_averages()
    whole = next(event for event in events if event.key == "whole")
    total = whole.cpu_time_total
    proof = next(event for event in events if event.key == PROFILED)
    ranked = sorted((e for e in events if e.key not in ("whole", PROFILED)), key=lambda e: -e.self_cpu_time_total)
    rows = [
        {"operator": event.key.removeprefix("aten::"), "calls": event.count, "share": event.self_cpu_time_total / total}
        for event in ranked[:TOP]
    ]
    other = sum(event.self_cpu_time_total for event in ranked[TOP:]) / total
    return [
        *rows,
        {"operator": "other operators", "calls": 0, "share": other},
        {
            "operator": "outside operators (Python)",
            "calls": 0,
            "share": (whole.self_cpu_time_total + proof.self_cpu_time_total) / total,
        },
        {"operator": "of all this, the proof", "calls": proof.count, "share": proof.cpu_time_total / total},
    ]
