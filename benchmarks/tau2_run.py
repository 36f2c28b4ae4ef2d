"""How many simulations a minute one process runs, what they cost it, and how far that is from what the endpoint allows.

    python benchmarks/tau2_run.py [--domain airline] [--latency 0.2] [--in-flight 100] [--trials 12] [--transport direct]

A scripted endpoint in a process of its own plays the reference actions. The ideal is in-flight / (calls per simulation *
latency). The run is the command line's own, with its folder on disk and its progress switched off.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.engines.chat.open import ChatSettings, open_chat
from harness.tasks.tau2.sources import open_domain
from harness.tau2.plan import make_plan
from harness.tau2.runs.folder import open_run
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


def main() -> None:
    """Print a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--domain", default="airline")
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--transport", default="direct")
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
        settings = ChatSettings(model="hosted_vllm/scripted", api_base=base, transport=arguments.transport)
        chat = open_chat(settings)
        observer = Counting()
        with tempfile.TemporaryDirectory() as folder, open_run(Path(folder), identity=plan.identity()) as opened:
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
