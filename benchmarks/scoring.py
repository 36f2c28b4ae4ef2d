"""How fast log-probabilities are scored on one CPU core, beside lm-eval's `hf`: `make bench`.

Makes its own models and sets (workloads.py). One thread, process CPU time, ours and the peer alternated in one process,
medians. The sets are scaled down to `--pairs` questions each, which takes some minutes; `--full` scores them whole.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from comparison import Row, compare, steps
from gpu import measure_gpu, show_gpu
from machine import Machine, measure_machine
from memory import measure_memory
from operators import profile_operators
from rich.console import Console
from rich.table import Table
from sweep import Sweep, measure_sweep
from workloads import QUESTIONS, make_model, make_workload

from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.score import PACK_TOKENS

DEFAULT_PAIRS = 32
TARGETS = {
    ("32k", "MMLU 0-shot gold"): 4.5,
    ("32k", "MMLU 0-shot choices"): 13.0,
    ("32k", "MMLU 5-shot choices"): 18.0,
    ("32k", "MATH"): 2.5,
    ("32k", "code"): 2.2,
    ("128k", "MMLU 0-shot gold"): 10.0,
    ("128k", "MMLU 5-shot choices"): 28.0,
}
"""Model and set: speed-up over the peer aimed at."""
STEPS = (("32k", "MMLU 0-shot gold"), ("32k", "MMLU 0-shot choices"), ("32k", "MATH"), ("128k", "MMLU 0-shot gold"))
"""Sets whose way is shown step by step; the others would take long without the prefix tree."""
console = Console(width=None if os.environ.get("COLUMNS") else 190, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=DEFAULT_PAIRS, help="questions per set")
    parser.add_argument(
        "--full", action="store_true", help="sets of real size: 1,531, 1,500 and 1,000 questions (hours)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("table", "steps", "profile", "sweep", "memory"), action="append")
    parser.add_argument("--checkpoints", type=int, default=20, help="of the sweep")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: the GPU's own table, nothing else"
    )
    options = parser.parse_args()
    parts = options.only or ["table", "steps", "profile", "sweep", "memory"]
    questions = None if options.full else options.pairs
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    if options.device == "cuda":
        gpu_table(options)
        return
    clock = time.perf_counter()

    machine = measure_machine()
    show_machine(machine)
    result: dict[str, Any] = {"machine": machine.to_json(), "options": {**vars(options), "json": None}}
    result["packages"] = {name: version(name) for name in ("torch", "transformers", "lm_eval", "numpy")}
    if "table" in parts:
        rows = []
        for size in ("32k", "128k"):
            model = make_model(size)
            for (of, name), target in TARGETS.items():
                if of == size:
                    workload = make_workload(name, size, questions=questions)
                    row = compare(
                        model,
                        size,
                        workload,
                        target=target,
                        peak=machine.peak,
                        rounds=options.rounds,
                        full=options.full,
                    )
                    rows.append(row)
                    console.print(f"{size} {name}: {row.speedup:.1f}x, {time.perf_counter() - clock:.0f} s so far")
        show_rows(rows, machine)
        result["table"] = [row.to_json() for row in rows]
        result["packing_full_s"] = packing_at_full_size()
        console.print(f"packing 1,531 x 4 5-shot pairs, once per field: {result['packing_full_s']:.2f} CPU-s")
    if "steps" in parts:
        result["steps"] = measure_steps(questions, machine, options.rounds, result.get("table", []))
    if "profile" in parts:
        workload = make_workload("MMLU 0-shot gold", "32k", questions=questions)
        result["profile"] = profile_operators(make_model("32k"), workload)
        show_profile(result["profile"])
    if "sweep" in parts:
        sweep = measure_sweep(n_checkpoints=options.checkpoints, with_lm_eval=True)
        show_sweep(sweep)
        result["sweep"] = sweep.to_json()
    if "memory" in parts:
        result["memory"] = measure_memory(options.pairs)
        peak = result["memory"]
        console.print(
            f"peak memory, MATH at 128k, {peak['n_pairs']} pairs: {peak['peak_gb']:.2f} GB, "
            f"of which {peak['model_gb']:.2f} GB torch and the model (target: under 2 GB)"
        )
    result["load_after"] = os.getloadavg()[0]
    console.print(f"{time.perf_counter() - clock:.0f} s, load average {result['load_after']:.1f} at the end")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def gpu_table(options: argparse.Namespace) -> None:
    """Sets of real size unless --pairs was given something smaller by hand."""
    if not torch.cuda.is_available():
        console.print("no GPU that torch can use here: the GPU's table was not measured")
        return
    questions = None if options.full or options.pairs == DEFAULT_PAIRS else options.pairs
    device = torch.device("cuda")
    lines = measure_gpu(device, questions=questions, rounds=options.rounds)
    show_gpu(lines, console, device)
    if options.json:
        found = {"device": torch.cuda.get_device_name(device), "gpu": [line.to_json() for line in lines]}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def packing_at_full_size() -> float:
    """CPU seconds to pack the largest set."""
    plan = PackPlan(make_workload("MMLU 5-shot choices", "32k", questions=QUESTIONS).pairs)
    start = time.process_time()
    plan.packs(tokens=PACK_TOKENS["cpu"], rows=2**62)
    return time.process_time() - start


def measure_steps(
    questions: int | None, machine: Machine, rounds: int, rows: list[dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """CPU seconds per set and step; beside the peer's where the table was measured."""
    found: dict[str, dict[str, float]] = {}
    for size in ("32k", "128k"):
        model = make_model(size)
        for of, name in STEPS:
            if of == size:
                workload = make_workload(name, size, questions=questions)
                measured = [row["peer_s"] for row in rows if (row["size"], row["name"]) == (size, name)]
                peer = {"lm-eval hf": measured[0]} if measured else {}
                found[f"{size} {name}"] = peer | steps(model, workload, peak=machine.peak, rounds=rounds)
    table = Table(title="Step by step, CPU-s (speed-up over lm-eval hf in the same run)")
    table.add_column("")
    for name in found:
        table.add_column(name, justify="right")
    for step in next(iter(found.values())):
        cells = []
        for times in found.values():
            peer_s = times.get("lm-eval hf")
            cells.append(f"{times[step]:.2f}" + (f" ({peer_s / times[step]:.1f}x)" if peer_s else ""))
        table.add_row(step, *cells)
    console.print(table)
    return found


def show_machine(machine: Machine) -> None:
    table = Table(
        title=f"{machine.cpu}, {machine.cores} cores, one used, AMX {'yes' if machine.amx else 'no'}, torch {machine.torch}"
    )
    for name in ("F.linear [rows, in, out]", "GFLOP/s", "oneDNN float32", "medium", "error", "error, medium"):
        table.add_column(name, justify="right")
    for p in machine.products:
        table.add_row(
            str(p.shape),
            f"{p.linear:.0f}",
            "" if p.onednn is None else f"{p.onednn:.0f}",
            f"{p.medium:.0f}",
            f"{p.error:.1e}",
            f"{p.error_medium:.1e}",
        )
    console.print(table)
    console.print(
        f"peak {machine.peak:.0f} GFLOP/s in float32; set_float32_matmul_precision('medium') computes in "
        f"{machine.medium} here; load average {machine.load:.1f} at the start"
    )


def show_rows(rows: list[Row], machine: Machine) -> None:
    table = Table(
        title="CPU-s per set, float32; the peer is lm-eval's hf at batch size 1; "
        f"'medium' columns: both sides with that setting, {machine.medium} products here"
    )
    columns = ("set", "questions", "peer", "ours", "floor", "speed-up", "target", "at the floor", "share of floor")
    for name in (*columns, "peer medium", "ours medium", "speed-up", "worst/token", "field"):
        table.add_column(name, justify="left" if name == "set" else "right")
    for row in rows:
        table.add_row(
            f"{row.size} {row.name}",
            f"{row.n_questions}/{row.n_full}",
            f"{row.peer_s:.1f}",
            f"{row.ours_s:.2f}",
            f"{row.floor_s:.2f}",
            f"{row.speedup:.1f}",
            "" if row.target is None else f"{row.target:g}",
            f"{row.speedup_at_floor:.1f}",
            f"{row.share:.0%}",
            f"{row.peer_medium_s:.1f}",
            f"{row.ours_medium_s:.2f}",
            f"{row.speedup_medium:.1f}",
            f"{row.worst_per_token:.1e}",
            f"{row.field_difference:.1e}",
        )
    console.print(table)


def show_profile(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Where the time goes: 32k, MMLU 0-shot gold, own time by operator")
    for name in ("operator", "calls", "share"):
        table.add_column(name, justify="left" if name == "operator" else "right")
    for row in rows:
        table.add_row(row["operator"], str(row["calls"] or ""), f"{row['share']:.1%}")
    console.print(table)


def show_sweep(sweep: Sweep) -> None:
    parts = ", ".join(
        f"{name} {s / sweep.profiled['total']:.1%}" for name, s in sweep.profiled.items() if name != "total"
    )
    console.print(
        f"sweep of {sweep.n_checkpoints} checkpoints, {sweep.n_parameters / 1e6:.1f}M parameters, two fields: reading them "
        f"{sweep.prepare_s:.2f} CPU-s, first checkpoint {sweep.first_s:.2f}, every further one {sweep.each_s:.3f}; "
        f"{sweep.share:.0%} inside load and forward (target 95%): {parts}"
    )
    if sweep.lm_eval_s is not None:
        console.print(
            f"one lm_eval process on one checkpoint: {sweep.lm_eval_s:.1f} CPU-s; {sweep.n_checkpoints} of them (one timed, "
            f"multiplied) over the sweep: {sweep.speedup:.0f}x (target 50x)"
        )


if __name__ == "__main__":
    main()
