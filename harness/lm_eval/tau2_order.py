"""Simulations under lm-eval: an order per task; all orders of a domain are one run, with a line per trial.

Does not import lm-eval: takes Players and returns JSON values.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.errors import EngineError, SpecError
from harness.lm_eval.players import Players
from harness.reward_models.tau2.result import Key, Result
from harness.reward_models.tau2.summary import summarize
from harness.tau2.line import read_verdict
from harness.tau2.plan import Plan
from harness.tau2.runs.folder import RunFolder, open_run_folder
from harness.tau2.runs.run import RunReport, run
from harness.tau2.simulate.seeds import trial_seeds

UNSCORED_SHARE = "unscored"
"""Name of a metric: the share of a task's simulations that have no reward (endpoint or judge failed, or there is no judge)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOrder:
    """All trials of one task. `game` names the lm-eval task; `plan` is that of the whole domain."""

    game: str
    task_id: str
    plan: Plan = field(repr=False, compare=False)

    def play(self, orders: Sequence[SimulationOrder], players: Players) -> list[str]:
        """Run the tasks ordered, and only those. Raises SpecError, StateError, or EngineError where nothing has a reward."""
        wanted = {order.task_id for order in orders}
        plan = replace(self.plan, tasks=tuple(task for task in self.plan.tasks if task.id in wanted))
        if not plan.solo and players.identity.get("user") is None:
            raise SpecError(f"{self.game}: name the model that plays the user with user_llm= among the model arguments")
        identity = {**plan.identity(), **players.identity}
        if plan.solo:
            identity["user"] = None
        with _folder(players.out, self.game) as path, open_run_folder(path, identity=identity) as folder:
            models = players.open()
            if plan.solo:
                models = replace(models, user=None)
            report = asyncio.run(run(plan, models, folder, max_concurrency=players.max_concurrency))
            if not any(outcome.finished for outcome in report.results):
                raise EngineError(f"{self.game}: no simulation has a reward ({_why(report)})")
            lines = _lines(folder)
        return [json.dumps(_answer(order.task_id, plan, identity["tasks"], lines)) for order in orders]


@contextmanager
def _folder(out: Path | None, game: str) -> Iterator[Path]:
    if out is not None:
        yield out / game
        return
    with tempfile.TemporaryDirectory(prefix="harness-tau2-") as made:
        yield Path(made) / game


def _why(report: RunReport) -> str:
    first = next((outcome for outcome in report.results), None)
    return report.gave_up or (first and (first.reason or first.verdict.reason)) or "nothing was tried"


def _lines(folder: RunFolder) -> dict[Key, dict[str, Any]]:
    """The last line of every simulation, finished or not."""
    return {key: {name: value for name, value in line.items() if name != "task"} for key, line in folder.lines()}


def _answer(task_id: str, plan: Plan, revision: str, lines: Mapping[Key, dict[str, Any]]) -> dict[str, Any]:
    keys = [Key(task_id=task_id, trial=n, seed=seed) for n, seed in enumerate(trial_seeds(plan.seed, plan.trials))]
    return {
        "task_id": task_id,
        "domain": plan.domain.name,
        "source": plan.domain.source,
        "task_revision": revision,
        "n_trials": plan.trials,
        "simulations": [lines[key] for key in keys if key in lines],
    }


def metrics(answer: Mapping[str, Any]) -> dict[str, float | None]:
    """A task's means over its scored trials. A metric without a value in any trial has no key, so that no mean counts it as 0.

    pass^k is None where fewer than k trials were scored.
    """
    results = [
        Result(key=Key(answer["task_id"], trial), verdict=read_verdict(line))
        for trial, line in enumerate(answer["simulations"])
    ]
    summary = summarize(results, task_ids=[answer["task_id"]], trials=answer["n_trials"])
    found: dict[str, float | None] = {UNSCORED_SHARE: 1.0 - summary.n_scored / answer["n_trials"]}
    found.update({f"pass^{k}": one and one.mean for k, one in summary.pass_hat.items()})
    found |= {name: one.mean for name, one in summary.components.items() if one.n}
    return found | ({"reward": summary.reward.mean} if summary.n_scored else {})
