"""The fake of `vllm serve` as an executable, and a task of lm-eval that asks it for texts: for sweeps over servers that start at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FAKE = Path(__file__).resolve().parent / "engines" / "vllm" / "fake_vllm.py"
TASK = """
task: says
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/says.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{q}}}}"
doc_to_target: "plain"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


def command(folder: Path) -> Path:
    """An executable that is called as vLLM is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vllm"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    path.chmod(0o755)
    return path


def write_task(folder: Path) -> None:
    """The task `says` and its three questions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "says.yaml").write_text(TASK.format(folder=folder))
    (folder / "says.jsonl").write_text("".join(json.dumps({"q": f"{n}?"}) + "\n" for n in range(3)))
