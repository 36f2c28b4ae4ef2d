"""How many simulations a minute one process runs, what they cost it, and how far that is from what the endpoint allows.

    python benchmarks/tau2_run.py [--domain airline] [--latency 0.2] [--in-flight 100] [--trials 12] [--transport direct]

    python benchmarks/tau2_run.py --domain mock --upstream PYTHON --workers 2     # the same by upstream's own command

A scripted endpoint in a process of its own plays the reference actions. The ideal is in-flight / (calls per simulation *
latency). The run is the command line's own, with its folder on disk and its progress switched off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.engines.chat.open import ChatSettings, open_chat
from harness.tasks.tau2.sources import open_domain
from harness.tau2.plan import make_plan
from harness.tau2.runs.folder import open_run_folder
from harness.tau2.runs.observer import RunObserver
from harness.tau2.runs.run import Models, run
from harness.tau2.settings import Tau2Settings
from harness.tau2.simulate.reference_play import ReferencePlay


class Counting(RunObserver):
    """Counts the answers of models."""

    def __init__(self) -> None:
        self.answers = 0

    def asked(self) -> None:
        """One more."""
        self.answers += 1


def by_upstream(arguments: argparse.Namespace, base: str, *, n: int, ids: list[str]) -> None:
    """Print upstream's row: `tau2 run`, all its processes' CPU, start and import included."""
    model = json.dumps({"api_base": base, "api_key": "none", "temperature": 0.0})
    workers = arguments.workers
    in_flight = max(1, arguments.in_flight // max(1, workers))
    name = f"speed-{time.time_ns()}"
    command = [arguments.upstream, "-m", "tau2.cli", "run", "--domain", arguments.domain, "--save-to", name]
    command += ["--agent-llm", "hosted_vllm/scripted", "--agent-llm-args", model, "--user-llm", "hosted_vllm/scripted"]
    command += ["--user-llm-args", model, "--num-trials", str(arguments.trials), "--task-ids", *ids]
    command += [
        "--max-concurrency",
        str(in_flight),
        "--log-level",
        "ERROR",
        *(["--workers", str(workers)] if workers else []),
    ]
    wall = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=True)
    wall = time.perf_counter() - wall
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"| {arguments.domain}, {arguments.latency * 1000:g} ms, {in_flight * max(1, workers)} in flight, upstream's "
        f"runner, {workers or 'no'} workers | {n} | | {n / wall * 60:,.0f} | | {(usage.ru_utime + usage.ru_stime) / n * 1000:.1f} | |"
    )


def main() -> None:
    """Print a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--domain", default="airline")
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--transport", default="direct")
    parser.add_argument("--upstream", metavar="PYTHON", help="an interpreter that has tau2-bench's own package")
    parser.add_argument("--workers", type=int, default=0, help="upstream's worker processes; in flight is shared out")
    arguments = parser.parse_args()

    began = time.perf_counter()
    tasks = ReferencePlay(open_domain(arguments.domain).tasks("base")).recognisable()
    plan = make_plan(
        Tau2Settings(domain=arguments.domain, task_ids=[task.id for task in tasks], trials=arguments.trials)
    )
    prepared = time.perf_counter() - began
    serve = "from harness.cli import main; main()"
    command = [sys.executable, "-c", serve, "tau2", "scripted", "--domain", arguments.domain]
    server = subprocess.Popen([*command, "--latency", str(arguments.latency)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        base = server.stdout.readline().strip()
        if arguments.upstream:
            by_upstream(arguments, base, n=len(tasks) * arguments.trials, ids=[task.id for task in tasks])
            return
        settings = ChatSettings(model="hosted_vllm/scripted", api_base=base, transport=arguments.transport)
        chat = open_chat(settings)
        observer = Counting()
        with tempfile.TemporaryDirectory() as folder, open_run_folder(Path(folder), identity=plan.identity()) as opened:
            wall, cpu = time.perf_counter(), time.process_time()
            models = Models(agent=chat, user=chat)
            report = asyncio.run(run(plan, models, opened, observer=observer, max_concurrency=arguments.in_flight))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        server.terminate()
        server.wait()
    n = len(report.results)
    rewards = [outcome.verdict.reward for outcome in report.results]
    calls = observer.answers / n
    ideal = arguments.in_flight / (calls * arguments.latency) * 60 if arguments.latency else float("inf")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {arguments.domain}, {arguments.latency * 1000:g} ms, {arguments.in_flight} in flight, {arguments.transport} "
        f"| {n} | {calls:.2f} | {n / wall * 60:,.0f} | {ideal:,.0f} | {cpu / n * 1000:.1f} "
        f"| {cpu / observer.answers * 1000:.2f} | {peak:.0f} | {sum(value == 1.0 for value in rewards)} |"
    )
    print(f"prepared in {prepared:.2f} s; {wall:.1f} s wall, {cpu:.1f} s CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
