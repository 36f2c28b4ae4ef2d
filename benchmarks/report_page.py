"""`harness report`: size of the page, CPU to write it, and when a browser has drawn it, at sizes a run may have.

    python benchmarks/report_page.py [RUN...]     # 5,000 vectors of 6 components; 1,000 simulations; and the runs named

CPU seconds are of the command whole, a process of its own. Ready: milliseconds from the navigation until the page says so, of
a Chromium on this machine, the median of three; hover: of one redraw of all panels. Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browser import CHROMIUM, DRIVER, browser
from run_folders import Values, write_run

MAIN = "from harness.cli import main; main()"
HOVER = """const done = arguments[arguments.length - 1], start = performance.now();
document.querySelector('.lanes button').dispatchEvent(new MouseEvent('mouseenter'));
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));"""


def feed(folder: Path, *, trajectories: int, steps: int, components: int, items: int) -> Path:
    """A run of random walks on common items, whose every value differs; items lie beside it as a run writes them."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=(components, items)) - 3
    made = {}
    for trajectory in range(trajectories):
        at = np.zeros(components)
        of = {}
        for step in range(steps):
            at = at + rng.normal(0.02, 0.02, size=components)
            values = hard + at[:, None] + rng.normal(scale=0.1, size=hard.shape)
            of[step] = {
                f"c{c}": Values(
                    values=values[c].tolist(), kind="logprob", metric="logprob_per_token", weight=1 / components
                )
                for c in range(components)
            }
        made[f"t{trajectory}"] = of
    write_run(folder, made, mixtures={name: {"code": 0.25, "prose": 0.75} for name in made})
    path = folder / "rewards.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(_with_changes(line, rng) for line in lines), encoding="utf-8")
    return folder


def _with_changes(line: str, rng: np.random.Generator) -> str:
    """The line with errors of its changes, as a run writes them: other digits in each."""
    vector = json.loads(line)
    if vector["step"]:
        vector["previous_step"] = vector["step"] - 1
        vector["gain_stderr"] = float(rng.uniform(0.005, 0.02))
        for component in vector["components"]:
            component |= {
                "change": 0.01,
                "change_stderr": float(rng.uniform(0.01, 0.03)),
                "n_paired": component["n_items"],
            }
    return json.dumps(vector) + "\n"


def simulations(folder: Path, n: int) -> Path:
    """Airline's tasks played by their reference actions, and by an agent that stops after half of them."""
    from tau2_online import plan, run_plan

    from harness.core.chat import ChatRequest
    from harness.engines.scripted.chat import ScriptedChat
    from harness.tau2.simulate.reference_play import ReferencePlay

    made = plan("airline", trials=n // 50)
    play = ReferencePlay(made.tasks)

    def agent(request: ChatRequest) -> object:
        lazy = len(str(request.messages[-1])) % 16 == 0
        return "I cannot do that." if lazy else play(request)

    run_plan(made, folder, ScriptedChat(agent), ScriptedChat(play))  # type: ignore[arg-type]
    return folder


def written(path: Path, *runs: Path) -> tuple[float, int]:
    """CPU seconds and bytes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", MAIN, "report", *map(str, runs), "-o", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, path.stat().st_size


def drawn(path: Path) -> dict[str, float]:
    """Milliseconds."""
    if CHROMIUM is None or DRIVER is None:
        return {}
    ready = []
    with browser() as opened:
        for _ in range(3):
            opened.open(path)
            ready.append(float(opened.run("return Number(document.documentElement.dataset.ready)")))
        found = {"ready_ms": statistics.median(ready)}
        if opened.run("return document.querySelector('.lanes button') !== null"):
            found["hover_ms"] = round(float(opened.run_async(HOVER)), 1)
        found["heap_mb"] = round(float(opened.run("return performance.memory.usedJSHeapSize")) / 1e6, 1)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {f"run {path}": [Path(path)] for path in sys.argv[1:]}
        big = feed(folder / "feed", trajectories=100, steps=50, components=6, items=64)
        cases["5,000 vectors of 6 components"] = [big]
        cases["1,000 simulations"] = [simulations(folder / "sims", 1_000)]
        for label, runs in cases.items():
            cpu_s, size = written(folder / "page.html", *runs)
            found = {"kB": round(size / 1000), "cpu_s": round(cpu_s, 2), **drawn(folder / "page.html")}
            print(label, json.dumps(found))


if __name__ == "__main__":
    main()
