"""The tables of docs/performance.md from what `scoring.py --json FILE` wrote: `python report.py FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def report(result: dict[str, Any]) -> str:
    """Every table that was measured."""
    machine = result["machine"]
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores of which one is used, AMX {'yes' if machine['amx'] else 'no'}; "
        + ", ".join(f"{name} {version}" for name, version in result["packages"].items())
        + f"; load average {machine['load']:.1f} at the start, {result['load_after']:.1f} at the end. Peak in float32: "
        f"{machine['peak']:.0f} GFLOP/s. `medium` computes in {machine['medium']} here.\n",
        markdown(
            ("rows, in, out", "F.linear, GFLOP/s", "oneDNN float32", "medium", "error", "error, medium"),
            (
                (
                    " x ".join(map(str, p["shape"])),
                    f"{p['linear']:.0f}",
                    f"{p['onednn'] or 0:.0f}",
                    f"{p['medium']:.0f}",
                    f"{p['error']:.0e}",
                    f"{p['error_medium']:.2f}",
                )
                for p in machine["products"]
            ),
        ),
    ]
    if "table" in result:
        parts.append(_table(result["table"]))
        parts.append(f"Packing 1,531 x 4 5-shot pairs, once per field: {result['packing_full_s']:.2f} CPU-s.\n")
    if "steps" in result:
        parts.append(_steps(result["steps"]))
    if "profile" in result:
        rows = ((r["operator"], str(r["calls"] or ""), f"{r['share']:.1%}") for r in result["profile"])
        parts.append(markdown(("operator", "calls", "own time"), rows))
    if "sweep" in result:
        sweep = result["sweep"]
        total = sweep["profiled"]["total"]
        rows = [
            ("reading the fields, once", f"{sweep['prepare_s']:.2f} CPU-s"),
            ("first checkpoint", f"{sweep['first_s']:.2f} CPU-s"),
            ("every further one, median", f"{sweep['each_s']:.3f} CPU-s"),
            ("one lm-eval process on one checkpoint", f"{sweep['lm_eval_s']:.1f} CPU-s"),
            (f"{sweep['n_checkpoints']} such processes over the sweep", f"{sweep['speedup']:.0f}x"),
            ("inside load and forward", f"{sweep['share']:.1%}"),
            *((name, f"{s / total:.1%}") for name, s in sweep["profiled"].items() if name != "total"),
        ]
        parts.append(markdown(("sweep", ""), rows))
    if "memory" in result:
        memory = result["memory"]
        parts.append(
            f"Peak memory of {memory['n_pairs']} MATH pairs at 128k: {memory['peak_gb']:.2f} GB; "
            f"{memory['model_gb']:.2f} GB of it before scoring.\n"
        )
    return "\n".join(parts)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    header = (
        *("set", "questions", "peer, CPU-s", "ours", "floor", "speed-up", "target", "speed-up at the floor"),
        *("share of floor", "peer, medium", "ours, medium", "speed-up", "worst per token", "field score"),
    )
    return markdown(
        header,
        (
            (
                f"{r['size']} {r['name']}",
                f"{r['n_questions']} of {r['n_full']}",
                f"{r['peer_s']:.1f}",
                f"{r['ours_s']:.2f}",
                f"{r['floor_s']:.2f}",
                f"**{r['speedup']:.1f}**",
                f"{r['target']:g}",
                f"{r['speedup_at_floor']:.1f}",
                f"{r['share']:.0%}",
                f"{r['peer_medium_s']:.1f}",
                f"{r['ours_medium_s']:.2f}",
                f"{r['speedup_medium']:.1f}",
                f"{r['worst_per_token']:.0e}",
                f"{r['field_difference']:.0e}",
            )
            for r in rows
        ),
    )


def _steps(found: dict[str, dict[str, float]]) -> str:
    rows = []
    for step in next(iter(found.values())):
        cells = [
            f"{times[step]:.2f}" + (f" ({times['lm-eval hf'] / times[step]:.1f}x)" if "lm-eval hf" in times else "")
            for times in found.values()
        ]
        rows.append((step, *cells))
    return markdown(("CPU-s (speed-up)", *found), rows)


if __name__ == "__main__":
    print(report(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
