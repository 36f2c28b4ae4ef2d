"""What a component of Inspect costs beside its model: CPU per sample, memory, seconds until a task is built, resumption.

    python benchmarks/inspect_task.py [--samples 1000]

The endpoint answers at once, from a process of its own. CPU seconds, so that other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVER = """
import asyncio, sys
from harness.core.chat import ChatAnswer
from harness.engines.scripted.server import ScriptedServer

async def main():
    async with ScriptedServer(lambda _: ChatAnswer(content="ANSWER: A")) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def cpu() -> float:
    """CPU seconds of this process."""
    return time.process_time()


def rss() -> int:
    """Most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    n = parser.parse_args().samples
    os.environ["HF_HUB_OFFLINE"] = "1"
    from harness.components.inspect.component import InspectComponent
    from harness.components.inspect.config import InspectConfig
    from harness.core.component import SilentProgress
    from harness.core.defaults import Defaults
    from harness.core.endpoint import Endpoint

    folder = Path(tempfile.mkdtemp(prefix="harness-inspect-"))
    choices = {"text": ["one", "two", "three", "four"], "label": list("ABCD")}
    found = [
        {"id": str(i), "question": f"Which is {i}?", "choices": choices, "answerKey": "ABCD"[i % 4]} for i in range(n)
    ]
    (folder / "arc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    keys = {
        "task": "inspect_evals/arc_challenge",
        "data": {"allenai/ai2_arc": {"files": {"test": str(folder / "arc.jsonl")}}},
    }
    config = InspectConfig.model_validate({"name": "arc", "kind": "inspect", **keys})
    before, clock = cpu(), time.perf_counter()
    component = InspectComponent.load(config, Defaults())
    print(f"built and checked: {cpu() - before:.2f} CPU s ({time.perf_counter() - clock:.2f} s), {rss()} MB")
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    where = Endpoint(api_base=server.stdout.readline().strip(), model="scripted", how="external")

    class Subject:
        def endpoint(self) -> Endpoint:
            return where

    subject = Subject()
    for name in ("first checkpoint", "another checkpoint", "the same again"):
        scratch = folder / ("one" if name != "another checkpoint" else "two")
        before = cpu()
        outcome = component.measure(subject, SilentProgress(), scratch)  # type: ignore[arg-type]
        spent = cpu() - before
        print(
            f"{name}: {spent:.2f} CPU s, {1000 * spent / n:.1f} ms per sample, {rss()} MB, value {outcome.measurement.raw}"
        )
    server.kill()


if __name__ == "__main__":
    main()
