"""What rescoring costs: CPU milliseconds per simulation and domain, and seconds from a cold start.

    python benchmarks/tau2_rescore.py ../shared/tau2_parity/*.results.json.gz [--data ../shared/tau2_tasks] [--repeat 5]

Without files it plays the reference actions of every task that comes with inspect-evals and rescores those.
The reference environment of a task is built once; "first" judges every task for the first time, "again" does not.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness.core.tau2.message import Message, ToolCall
from harness.core.tau2.simulation import Simulation
from harness.tasks.tau2.domain import Domain
from harness.tasks.tau2.recording import Recording
from harness.tasks.tau2.sources import DOMAINS, open_domain
from harness.tasks.tau2.task_file import revision
from harness.tau2.recordings.rescore import NlJudge, PreparedRecording, prepare, rescore


def played(domain: Domain) -> PreparedRecording:
    """Simulations that consist of the reference calls."""
    simulations = []
    for task in domain.tasks():
        environment = domain.environment()
        environment.initialize(task.initial_state)
        messages = list((task.initial_state and task.initial_state.message_history) or ())
        environment.replay(messages)
        for number, action in enumerate((task.evaluation_criteria and task.evaluation_criteria.actions) or ()):
            call = ToolCall(id=f"c{number}", name=action.name, arguments=action.arguments, requestor=action.requestor)
            answer = environment.call(call)
            messages.append(Message(role=action.requestor, tool_calls=(call,)))
            messages.append(Message(role="tool", id=call.id, content=answer.content, error=answer.error))
        simulations.append(
            Simulation(id=task.id, task_id=task.id, termination_reason="user_stop", messages=tuple(messages))
        )
    recording = Recording(
        path=Path("played"), domain=domain.name, solo=False, tasks=None, simulations=tuple(simulations)
    )
    return PreparedRecording(
        recording=recording,
        domain=domain,
        tasks={task.id: task for task in domain.tasks()},
        tasks_from="the domain",
        task_revision=revision(domain.tasks()),
        recorded_revision=None,
    )


def timed(prepared: PreparedRecording) -> list[float]:
    """CPU milliseconds of each simulation."""
    found = []
    results = rescore(prepared, nl_judge=NlJudge.PASS)
    while True:
        started = time.process_time_ns()
        if next(results, None) is None:
            return found
        found.append((time.process_time_ns() - started) / 1e6)


def row(name: str, prepared: PreparedRecording, repeat: int) -> None:
    """One line of the table."""
    first = timed(prepared)
    again = [value for _ in range(repeat) for value in timed(prepared)]
    print(
        f"| {name} | {len(first)} | {statistics.median(first):.2f} | {statistics.mean(first):.2f} | "
        f"{max(first):.1f} | {statistics.median(again):.2f} |"
    )


def cold_start(files: list[str], data: list[str], repeat: int) -> None:
    """Wall seconds of the whole command in a new process, median of `repeat`."""
    code = "from harness.cli import main; main()"
    command = [sys.executable, "-c", code, "tau2", "rescore", *files, *data, "--nl-judge", "pass"]
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    print(f"harness tau2 rescore {' '.join(Path(file).name for file in files)}: {statistics.median(seconds):.2f} s")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    print("| simulations | n | CPU ms, first: median | mean | max | again: median |\n|---|---|---|---|---|---|")
    if not arguments.files:
        for name in DOMAINS:
            row(f"{name}, reference play", played(open_domain(name)), arguments.repeat)
    for file in arguments.files:
        found = prepare(Path(file), domain=None, data=None, tasks_file=None)
        if found.domain.name == "mock" and arguments.data:
            found = prepare(Path(file), domain=None, data=arguments.data, tasks_file=None)
        row(f"{found.domain.name}, {Path(file).name}", found, arguments.repeat)
    print()
    for file in arguments.files:
        cold_start([file], [], arguments.repeat)


if __name__ == "__main__":
    main()
