"""The loop closed on two cores: proxies, feedback, an agent fitted on it, trainings steered by it, and what else would have done.

    python examples/loop.py --out results/loop              # both problems, drawn anew; --seed N draws the same again
    python examples/loop.py --out results/loop --quick      # the same in less than two minutes, too small to show anything

Every policy gets the same tokens, from the same bases and data seeds, and is scored on pairs that gave no reward, by stock lm-eval.
Nothing here is tuned on the seeds of the table: they are drawn when it starts.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from loop_problems import PROBLEMS, Problem, Sizes
from transformers.utils import logging

from harness.checkpoints.find import find_checkpoints
from harness.mixing.agent import Agent, Settings
from harness.mixing.baselines import Bandit, Fixed, Policy, best_mixture, grid, regmix, target_only, uniform
from harness.mixing.baselines import start as start_state
from harness.mixing.collect import collect
from harness.mixing.controls import Blind, blind, shuffled
from harness.mixing.episodes import Episodes, episodes
from harness.mixing.sample import sample_trajectories
from harness.mixing.steer import Follow, Trajectory
from harness.mixing.trainer import TokenTrainer
from harness.reward_models.reference import Reference, fit_reference
from harness.run.pipeline import run as score
from harness.spec.prepared import prepare

FULL = Sizes(steps=8, proxies=64, base_updates=150, iterations=400, reward_pairs=32, test_pairs=64)
QUICK = Sizes(steps=2, proxies=8, base_updates=10, iterations=20, reward_pairs=6, test_pairs=6)
PARTS, QUICK_PARTS = 4, 1
"""Of the grid: every mixture in quarters; --quick has one domain at a time."""
LEARNED = ("agent", "warm-up alone", "agent, gains shuffled", "agent, feedback zeroed")


def settings(problem: Problem, sizes: Sizes, seed: int) -> Settings:
    """Chosen on other seeds than any table's."""
    chosen = {
        "width": 64,
        "heads": 4,
        "rate": 1e-3,
        "discount": 1.0,
        "conservatism": 0.02,
        "warm_up_iterations": min(200, sizes.iterations),
    }
    return Settings(**{**chosen, **problem.settings}, steps=sizes.steps + 1, seed=seed, iterations=sizes.iterations)


def fitted(kind: str, data: Episodes, reference: Reference, chosen: Settings) -> tuple[str, Policy]:
    """One of LEARNED."""
    torch.set_num_threads(1)
    seen = shuffled(data, seed=chosen.seed) if "shuffled" in kind else blind(data) if "zeroed" in kind else data
    agent = Agent(data.domains, data.components, settings=chosen, reference=reference).warm_up(seen)
    if kind != "warm-up alone":
        agent.improve(seen, standardized=False)
    return kind, Blind(agent=agent) if "zeroed" in kind else agent


def learned(data: Episodes, reference: Reference, chosen: Settings, *, processes: int) -> dict[str, Policy]:
    """All of LEARNED."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(fitted, kind, data, reference, chosen) for kind in LEARNED]
        return dict(future.result() for future in futures)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of a policy: the final scalar by data seed, nats per token on pairs that gave no reward, and what was trained on."""

    finals: np.ndarray
    rho: np.ndarray
    """[seeds, steps, N]."""


def collected(problem: Problem, sizes: Sizes, seed: int, *, processes: int) -> tuple[Episodes, Reference]:
    """Proxies along sampled trajectories, and what their feed holds."""
    planned = sample_trajectories(
        problem.space, steps=sizes.steps, number=sizes.proxies, k=problem.k, concentration=problem.concentration, seed=seed
    )  # fmt: skip
    trajectories = [
        Trajectory(
            name=one.name, policy=Follow.of(one), steps=sizes.steps, seed=seed + 1_000 + index, start=problem.start
        )
        for index, one in enumerate(planned)
    ]
    out = problem.folder / "proxies"
    feed = collect(trajectories, recipe=problem.recipe, spec=problem.spec, out=out, workers=processes)
    reference = fit_reference(feed.latest().vectors)
    return episodes(feed, reference, domains=problem.space.names, start=problem.start), reference


def policies_of(
    problem: Problem, data: Episodes, reference: Reference, chosen: Settings, *, parts: int, processes: int
) -> dict[str, Policy]:
    """All that is compared; names of the grid's begin with `fixed`."""
    n = len(problem.space.names)
    found: dict[str, Policy] = learned(data, reference, chosen, processes=processes)
    found["RegMix on the same data"] = best_mixture(regmix(data, standardized=False), n)
    found["uniform"] = uniform(problem.space)
    if problem.junk is not None:
        found |= {"start": start_state(problem.space), "target only": target_only(problem.space)}
    found["greedy bandit"] = Bandit(n=n, seed=chosen.seed)
    for one in grid(n, parts=parts):
        found["fixed " + "/".join(f"{100 * share:.0f}" for share in one.rho)] = one
    return found


def steered(
    problem: Problem, sizes: Sizes, policies: dict[str, Policy], seeds: Sequence[int], reference: Reference, *, processes: int
) -> dict[str, Result]:  # fmt: skip
    """Every policy on every data seed, and the finals as `harness score` has them."""
    out = problem.folder / "steered"
    names = {name: f"p{place:02}" for place, name in enumerate(policies)}
    trajectories = [
        Trajectory(
            name=f"{names[name]}-s{index}", policy=policy, steps=sizes.steps, seed=seed, start=problem.start,
            every=not isinstance(policy, Fixed), final=problem.folder / "finals" / f"{names[name]}-s{index}" / f"checkpoint-{sizes.steps}",
        )
        for name, policy in policies.items()
        for index, seed in enumerate(seeds)
    ]  # fmt: skip
    feed = collect(
        trajectories, recipe=problem.recipe, spec=problem.spec, out=out, run="steered", workers=processes, reference=reference
    )  # fmt: skip
    wanted = sizes.steps * problem.recipe.tokens_per_step
    spent = {feed.trajectory(one.name)[-1].checkpoint.tokens_seen for one in trajectories}
    assert spent == {wanted}, f"policies trained on {spent} tokens; all of them are to have {wanted}"
    scored = score(
        prepare(problem.test), find_checkpoints([str(problem.folder / "finals")]), out=problem.folder / "test"
    ).feed
    results = {}
    for name, policy in policies.items():
        rows = [f"{names[name]}-s{index}" for index in range(len(seeds))]
        rho = [
            [policy.rho] * sizes.steps if isinstance(policy, Fixed)
            else [[v.mixture.normalized().get(d, 0.0) for d in problem.space.names] for v in feed.trajectory(row)[1:] if v.mixture]
            for row in rows
        ]  # fmt: skip
        results[name] = Result(finals=np.array([scored.trajectory(row)[-1].scalar for row in rows]), rho=np.array(rho))
    return results


def by_lm_eval(problem: Problem, folders: Sequence[Path]) -> list[float]:
    """The mean over fields by stock lm-eval's `hf` model, for each checkpoint; one process, so that imports and tasks count once.

    As `lm_eval run --model hf --model_args pretrained=FOLDER,dtype=float32,logits_cache=False --include_path FOLDER/tasks` has it.
    """
    given = problem.folder / "lm_eval.json"
    names = sorted(path.stem for path in problem.test_tasks.values())
    value = {"folders": [str(folder) for folder in folders], "tasks": str(problem.folder / "tasks"), "names": names}
    given.write_text(json.dumps(value))
    with (problem.folder / "lm_eval.log").open("w") as log:
        subprocess.run([sys.executable, "-c", LM_EVAL, str(given)], check=True, stdout=log, stderr=subprocess.STDOUT)
    found: list[float] = json.loads(given.with_suffix(".out").read_text())
    return found


LM_EVAL = """
import json, math, sys
from pathlib import Path
import torch
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
torch.set_num_threads(1)
given = json.loads(Path(sys.argv[1]).read_text())
found = []
for folder in given["folders"]:
    arguments = f"pretrained={folder},dtype=float32,logits_cache=False"
    manager = TaskManager(include_path=given["tasks"], include_defaults=False, metadata={"pretrained": folder})
    results = simple_evaluate(
        model="hf", model_args=arguments, tasks=given["names"], task_manager=manager, device="cpu", batch_size=16,
        bootstrap_iters=0, log_samples=False,
    )["results"]
    found.append(math.fsum(results[name]["logprob_per_token,none"] for name in given["names"]) / len(given["names"]))
Path(sys.argv[1]).with_suffix(".out").write_text(json.dumps(found))
"""
"""What runs beside: nothing of harness but the tasks, which count a response's tokens."""


def drawn_seeds(problem: Problem, rng: np.random.Generator, n: int) -> list[int]:
    """Data seeds of the table, each base as often as the others (give or take one), in a drawn order."""
    trainer = TokenTrainer(problem.recipe)
    bases = [str(one) for one in rng.permutation(problem.recipe.bases)]
    seeds: list[int] = []
    while len(seeds) < n:
        seed = int(rng.integers(2**20, 2**21))
        if trainer.base_of(seed) == bases[len(seeds) % len(bases)]:
            seeds.append(seed)
    return [seeds[i] for i in rng.permutation(n)]


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean and standard error, paired by data seed."""
    gaps = one - other
    return float(gaps.mean()), float(gaps.std(ddof=1) / math.sqrt(len(gaps)))


def summarised(
    problem: Problem, sizes: Sizes, results: dict[str, Result], seeds: Sequence[int], lm_eval: bool
) -> dict[str, Any]:
    """The rows of the table: the grid's best in hindsight stands for the grid, chosen on the very seeds it is judged by."""
    fixed = [name for name in results if name.startswith("fixed") or name == "uniform"]
    best = max(fixed, key=lambda name: results[name].finals.mean())
    shown = {name: result for name, result in results.items() if not name.startswith("fixed")}
    places = {name: place for place, name in enumerate(results)}
    shown[f"best fixed of the grid, in hindsight ({best.removeprefix('fixed ')})"] = results[best]
    lacked: list[str] = []
    if problem.kinds:
        trainer = TokenTrainer(problem.recipe)
        lacked = [problem.kinds[trainer.base_of(seed)] for seed in seeds]
        finals = np.empty(len(seeds))
        for kind in set(lacked):
            rows = [i for i, one in enumerate(lacked) if one == kind]
            finals[rows] = max((results[name].finals[rows] for name in fixed), key=np.mean)
        shown["best fixed for each base, in hindsight"] = Result(finals=finals, rho=np.empty((0,)))
    worst = None
    if lm_eval:
        real = [name for name in shown if shown[name].rho.size]
        key = {name: best if name.startswith("best") else name for name in real}
        folders = [
            problem.folder / "finals" / f"p{places[key[name]]:02}-s{i}" / f"checkpoint-{sizes.steps}"
            for name in real
            for i in range(len(seeds))
        ]
        again = np.array(by_lm_eval(problem, folders)).reshape(len(real), len(seeds))
        worst = max(float(np.abs(again[i] - shown[name].finals).max()) for i, name in enumerate(real))
        for i, name in enumerate(real):
            shown[name] = Result(finals=again[i], rho=shown[name].rho)
    agent = shown["agent"].finals
    rows = []
    half = sizes.steps // 2
    for name, one in sorted(shown.items(), key=lambda item: -item[1].finals.mean()):
        mean, error = difference(agent, one.finals)
        row: dict[str, Any] = {"policy": name, "final": float(one.finals.mean()), "agent_minus": mean, "stderr": error, "finals": one.finals.tolist()}  # fmt: skip
        if one.rho.size:
            row["rho"] = one.rho.round(4).tolist()
        if problem.junk is not None and one.rho.size:
            row["share"] = float(one.rho[:, half:, problem.space.names.index(problem.junk)].mean())
        if lacked and one.rho.size:
            picked = np.stack([one.rho[i, :, problem.space.names.index(kind)] for i, kind in enumerate(lacked)])
            row["share"], row["share_late"] = float(picked[:, :half].mean()), float(picked[:, half:].mean())
        rows.append(row)
    return {"problem": problem.name, "rows": rows, "lm_eval_worst": worst, "names": problem.space.names, "junk": problem.junk, "lacked": lacked}  # fmt: skip


def verdicts(found: dict[str, Any]) -> list[tuple[str, bool]]:
    """The aims, each with its numbers and whether it is met."""
    rows = {row["policy"]: row for row in found["rows"]}
    (best,) = (name for name in rows if name.startswith("best fixed of the grid"))
    rivals = [rows[best], rows["RegMix on the same data"]]

    def line(row: dict[str, Any]) -> str:
        return f"{row['agent_minus']:+.3f} ± {row['stderr']:.3f}"

    lost = rows["agent, gains shuffled"]
    if found["junk"] is not None:
        agent, warm = rows["agent"], rows["warm-up alone"]
        strongest = max(rivals, key=lambda row: row["final"])
        return [
            (f"above uniform by more than 3 standard errors: {line(rows['uniform'])}", rows["uniform"]["agent_minus"] > 3 * rows["uniform"]["stderr"]),
            (f"junk under 5% in the last half: {agent['share']:.1%}; the warm-up alone above 10%: {warm['share']:.1%}", agent["share"] < 0.05 and warm["share"] > 0.1),
            (f"within 0.02 nats of the best of grid and RegMix: {line(strongest)}", strongest["agent_minus"] > -0.02),
            (f"shuffled gains lose the advantage: agent minus it {line(lost)}, its junk {lost['share']:.1%}", lost["agent_minus"] > 2 * lost["stderr"]),
        ]  # fmt: skip
    return [
        *((f"above {row['policy']} by more than 2 standard errors: {line(row)}", row["agent_minus"] > 2 * row["stderr"]) for row in rivals),
        (f"shuffled gains lose the advantage: agent minus it {line(lost)}", lost["agent_minus"] > 2 * lost["stderr"]),
        (f"without feedback it loses: {line(rows['agent, feedback zeroed'])}", rows["agent, feedback zeroed"]["agent_minus"] > 2 * rows["agent, feedback zeroed"]["stderr"]),
    ]  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    junk = found["junk"] is not None
    last = "junk, last half" if junk else "share of what the base lacks, first / last half"
    lines = [f"| policy | final score | agent minus it, paired | {last} |", "|---|---|---|---|"]
    for row in found["rows"]:
        mine = row["policy"] == "agent"
        gap = "" if mine else f"{row['agent_minus']:+.3f} ± {row['stderr']:.3f}"
        share = "" if "share" not in row else f"{row['share']:.0%}" if junk else f"{row['share']:.0%} / {row['share_late']:.0%}"  # fmt: skip
        name = f"**{row['policy']}**" if mine else row["policy"]
        lines.append(f"| {name} | {row['final']:.3f} | {gap} | {share} |")
    return "\n".join(lines)


def plot(found: Sequence[dict[str, Any]], path: Path) -> None:
    """What the agent chose, step by step, and how it ended beside the others."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "loop"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(found), 2, figsize=(10, 3.4 * len(found)), squeeze=False)
    for (left, right), one in zip(axes, found, strict=True):
        rows = {row["policy"]: row for row in one["rows"]}
        for policy, style in (("agent", "-"), ("warm-up alone", ":")):
            rho = np.array(rows[policy]["rho"])
            steps = np.arange(1, rho.shape[1] + 1)
            if one["junk"] is not None:
                curves = {("junk" if name == one["junk"] else f"domain {i + 1}"): rho[:, :, i] for i, name in enumerate(one["names"])}  # fmt: skip
            else:
                lacked = np.array([one["names"].index(kind) for kind in one["lacked"]])
                mine = np.take_along_axis(rho, lacked[:, None, None], axis=2)[..., 0]
                curves = {"what the base lacks": mine, "each of the others": (1 - mine) / 2}
            for number, (label, values) in enumerate(curves.items()):
                left.plot(steps, values.mean(0), style, color=f"C{number}", label=f"{label}, {policy}")
        left.set(ylim=(0, 1), xlabel="step", ylabel="share", title=f"{one['problem']}: mixtures")
        left.legend(fontsize=7)
        order = one["rows"][::-1]
        order = [row for row in order if row["final"] > one["rows"][0]["final"] - 1.5]
        colours = ["C1" if row["policy"] == "agent" else "C0" for row in order]
        errors = [row["stderr"] for row in order]
        gaps = [-row["agent_minus"] for row in order]
        right.errorbar(gaps, range(len(order)), xerr=errors, fmt="none", ecolor="0.5")
        right.scatter(gaps, range(len(order)), c=colours, s=18, zorder=3)
        right.axvline(0, color="0.8", zorder=0)
        right.set_yticks(range(len(order)), [row["policy"] for row in order], fontsize=7)
        right.set(
            xlabel="final score less the agent's, nats per token",
            title=f"{one['problem']}: on pairs that gave no reward",
        )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def cpu_s() -> float:
    """Of this process and those that ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/loop"))
    parser.add_argument("--problem", choices=list(PROBLEMS), action="append", help="default: both")
    parser.add_argument("--seed", type=int, help="default: drawn, and printed")
    parser.add_argument("--seeds", type=int, default=6, help="data seeds that every policy is trained on")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="tiny: a test that everything runs")
    parser.add_argument("--no-lm-eval", action="store_true", help="take the final scores from harness score alone")
    parser.add_argument("--plot", type=Path, help="default: OUT/loop.svg")
    options = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    sizes, n_seeds = (QUICK, 2) if options.quick else (FULL, options.seeds)
    print(f"seed {seed}")
    clock = time.perf_counter()

    def say(what: str) -> None:
        print(f"  {what} ({time.perf_counter() - clock:.0f} s, {cpu_s():.0f} CPU s so far)", flush=True)

    shutil.rmtree(options.out, ignore_errors=True)
    found = []
    for number, name in enumerate(options.problem or PROBLEMS):
        print(f"\n## {name}")
        rng = np.random.default_rng([seed, number])
        problem = PROBLEMS[name](options.out / name, sizes, rng)
        say(f"domains {', '.join(problem.space.names)}; bases are trained")
        inner = int(rng.integers(2**20))
        data, reference = collected(problem, sizes, inner, processes=options.processes)
        say(f"{int(data.mask.sum())} transitions of {len(data.names)} proxies")
        policies = policies_of(
            problem,
            data,
            reference,
            settings(problem, sizes, inner),
            parts=QUICK_PARTS if options.quick else PARTS,
            processes=options.processes,
        )
        say("agents are fitted")
        seeds = drawn_seeds(problem, rng, n_seeds)
        results = steered(problem, sizes, policies, seeds, reference, processes=options.processes)
        say(f"{len(policies) * n_seeds} trainings are steered and scored")
        found.append(summarised(problem, sizes, results, seeds, not options.no_lm_eval))
        if found[-1]["lm_eval_worst"] is not None:
            say(f"lm_eval --model hf agrees with harness score to {found[-1]['lm_eval_worst']:.1e} nats per token")
            assert found[-1]["lm_eval_worst"] < 1e-5
        found[-1]["verdicts"] = [[text, bool(met)] for text, met in verdicts(found[-1])]
        print(f"\n{table(found[-1])}\n")
        for text, met in found[-1]["verdicts"]:
            print(f"- {'met' if met else 'NOT MET'}: {text}")
    (options.out / "loop.json").write_text(json.dumps({"seed": seed, "problems": found}, indent=1))
    plot(found, options.plot or options.out / "loop.svg")
    print(f"\n{time.perf_counter() - clock:.0f} s, {cpu_s():.0f} CPU s; seed {seed}; {options.out}/loop.json")


if __name__ == "__main__":
    main()
