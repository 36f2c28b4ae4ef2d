"""A feed of many vectors: reading it, showing it, scoring one more checkpoint into it, feedback on a live model beside it.

    python benchmarks/feed.py                # 30,000 vectors in trajectories of 80 steps
    python benchmarks/feed.py --one          # the same number in one trajectory

CPU seconds of this process, or of the command whole; medians. Peak memory is of a fresh process that reads the feed and nothing else.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness import RewardEnvironment, read_feed
from harness.checkpoints.find import find_checkpoints
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import parse_spec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import tiny

MAIN = "from harness.cli import main; main()"
READ = 'import sys; from harness import read_feed; n = len(read_feed(sys.argv[1])); print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])'


def model(seed: int) -> LlamaForCausalLM:
    """A proxy of some 5 million parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=404, hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=4)
    ).eval()


def fill(out: Path, n: int, steps: int) -> None:
    """Lengthen the feed that is in `out` to n vectors of the same kind, `steps` to a trajectory."""
    path = out / "rewards.jsonl"
    (line,) = path.read_text(encoding="utf-8").splitlines()
    vector = json.loads(line)
    generator = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as stream:
        for index in range(n):
            vector["trajectory"], vector["step"] = f"t{index // steps}", index % steps
            vector["checkpoint"]["fingerprint"] = f"sha256:{index:064x}"
            for component in vector["components"]:
                component["raw"] = -6 - float(generator.random())
            vector["vector"] = [component["raw"] for component in vector["components"]]
            stream.write(json.dumps(vector) + "\n")


def cpu(function: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    function()
    return time.process_time() - started


def command_cpu(*arguments: str) -> float:
    """CPU seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", MAIN, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def feedbacks(spec: Path, out: Path, trajectory: str, first: int, repeat: int) -> list[float]:
    """CPU seconds of each of some feedbacks after the first, which reads what is there."""
    environment, tokenizer, live = RewardEnvironment(spec, out=out), tiny.tokenizer(), model(0)
    times = []
    for step in range(first, first + repeat + 1):
        with torch.no_grad():
            live.lm_head.weight.add_(1e-4)
        times.append(cpu(lambda step=step: environment.feedback(live, tokenizer, step=step, trajectory=trajectory)))
    return times[1:]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=30_000)
    parser.add_argument("--one", action="store_true", help="all in one trajectory")
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = Path(tempfile.mkdtemp(prefix="feed-"))
    try:
        rows = [
            {"q": f"Question {i}: what comes after {i}?", "r": f" The number {i + 1}, of course."} for i in range(128)
        ]
        (place / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        spec = place / "spec.yaml"
        spec.write_text(
            "components: [{name: a, kind: logprob, field: a.jsonl}, {name: b, kind: logprob, field: a.jsonl, limit: 64}]\n"
        )
        tiny.save(place / "more" / "checkpoint-1", model(1))
        out, empty = place / "out", place / "empty"
        prepared = prepare(parse_spec(__import__("yaml").safe_load(spec.read_text()), folder=place))
        run(prepared, find_checkpoints([str(place / "more")]), out=out)
        steps = options.n if options.one else 80
        fill(out, options.n, steps)
        print(
            f"{options.n:,} vectors, {(out / 'rewards.jsonl').stat().st_size / 1e6:.1f} MB, {steps:,} steps a trajectory"
        )
        print(f"read_feed            {cpu(lambda: read_feed(out)):.2f} CPU s")
        done = subprocess.run([sys.executable, "-c", READ, str(out)], check=True, capture_output=True, text=True)
        print(f"  peak memory        {int(done.stdout) / 1024:.0f} MB")
        print(f"harness show         {command_cpu('show', str(out)):.2f} CPU s, start included")
        tiny.save(place / "more" / "checkpoint-2", model(2))
        arguments = (
            "score",
            str(place / "more" / "checkpoint-2"),
            "--spec",
            str(spec),
            "--trajectory",
            "new",
            "--quiet",
        )
        alone = command_cpu(*arguments, "--out", str(empty))
        print(
            f"one more checkpoint  {command_cpu(*arguments, '--out', str(out)) - alone:+.2f} CPU s more than in a new folder ({alone:.2f})"
        )
        shutil.rmtree(empty)
        none = feedbacks(spec, empty, "t0", 0, options.repeat)
        many = feedbacks(spec, out, "t0", steps, options.repeat)
        print(
            f"feedback             {statistics.median(many):.4f} CPU s beside {statistics.median(none):.4f} with an empty feed: "
            f"{100 * (statistics.median(many) / statistics.median(none) - 1):+.1f}%"
        )
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
