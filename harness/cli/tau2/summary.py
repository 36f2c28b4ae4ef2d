"""What a tau2 run came to, as tables. Writes to stdout, remarks to stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.cli.table import number, stdout
from harness.cli.tau2.rescore_table import plain
from harness.core.chat import Usage
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
from harness.reward_models.tau2.faults import count
from harness.reward_models.tau2.summary import Judged, summarize
from harness.tau2.line import Outcome
from harness.tau2.plan import Plan
from harness.tau2.runs.run import Report, needs_judge


def _remark(text: str) -> None:
    Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True).print(plain(text, width=500))


def print_plan(plan: Plan, *, judge: str | None) -> None:
    """What a user should know before models are called."""
    if plan.n_unfit:
        _remark(f"{plan.n_unfit} task(s) are not for an agent alone (no ticket, or they begin with a conversation)")
    if plan.n_judged_by_model and judge is None:
        _remark(
            f"{plan.n_judged_by_model} task(s) are gated by natural-language assertions, which nobody judges: "
            "their rewards stay open until the command is given again with --nl-judge MODEL"
        )


def _total(outcomes: Iterable[Outcome], part: Callable[[Outcome], Usage]) -> Usage:
    total = Usage()
    for outcome in outcomes:
        total += part(outcome)
    return total


def _results(plan: Plan, finished: list[Outcome]) -> Table:
    summary = summarize([Judged(outcome.key.task_id, outcome.verdict) for outcome in finished])
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(plan.domain.name)
    for heading in ("mean", "stderr", "n"):
        table.add_column(heading, justify="right")
    reward = summary.reward
    table.add_row("reward", number(reward and reward.mean), number(reward and reward.stderr), str(summary.n_scored))
    for name, one in summary.components.items():
        if one.n_applicable:
            table.add_row(f"  {name}", number(one.mean), number(one.stderr), str(one.n_applicable))
    for k, value in summary.pass_hat.items():
        table.add_row(f"pass^{k}", number(value), "", str(summary.n_tasks))
    return table


def _spent(outcomes: tuple[Outcome, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model of")
    for heading in ("prompt tokens", "completion tokens", "US dollars"):
        table.add_column(heading, justify="right")
    parts: dict[str, Callable[[Outcome], Usage]] = {
        "agent": lambda one: one.agent,
        "user": lambda one: one.user,
        "judge": lambda one: one.judge,
        "reviewer": lambda one: one.reviewer,
    }
    for name, part in parts.items():
        usage = _total(outcomes, part)
        if usage != Usage():
            cost = "-" if usage.cost is None else f"{usage.cost:.4f}"
            table.add_row(name, f"{usage.prompt_tokens:,}", f"{usage.completion_tokens:,}", cost)
    return table


def print_report(plan: Plan, report: Report, path: Path) -> int:
    """The tables, what is missing, and the exit code: 0 when every simulation has a reward, 8 when some have not."""
    finished = [outcome for outcome in report.outcomes if outcome.finished]
    console = stdout()
    console.print(_results(plan, finished))
    ends = Counter(outcome.termination for outcome in report.outcomes)
    console.print("ends: " + ", ".join(f"{name} {count}" for name, count in ends.most_common()))
    _print_faults(console, report.outcomes)
    spent = _spent(report.outcomes)
    if spent.row_count:
        console.print(spent)
    known = len(finished) - report.n_new
    before = f", {known} were there before" if known else ""
    console.print(f"{report.n_new} simulation(s) appended to {path}{before}")
    _print_missing(report)
    return EXIT_OK if len(finished) == len(report.outcomes) and not report.n_untried else EXIT_INCOMPLETE


def _print_faults(console: Console, outcomes: tuple[Outcome, ...]) -> None:
    """Whose fault the failures are, and the reward without the simulated user's."""
    faults = count(outcome.fault for outcome in outcomes)
    if not any(faults.values()):
        return
    others = [one for one in outcomes if one.finished and not (one.fault and one.fault.cause == "user")]
    reward = summarize([Judged(one.key.task_id, one.verdict) for one in others]).reward
    causes = ", ".join(f"{cause} {n}" for cause, n in faults.items())
    console.print(
        f"at fault: {causes}; reward without the user's faults {number(reward and reward.mean)} ({len(others)})"
    )


def _print_missing(report: Report) -> None:
    missing = [outcome for outcome in report.outcomes if not outcome.finished]
    judgeless = [outcome for outcome in missing if needs_judge(outcome)]
    excluded = [outcome for outcome in missing if outcome.excluded]
    other = [outcome for outcome in missing if not outcome.excluded and not needs_judge(outcome)]
    unreviewed = Counter(outcome.review_failure for outcome in report.outcomes if outcome.review_failure)
    for reason, n in unreviewed.most_common(3):
        _remark(f"{n} failed simulation(s) without a review: {reason}; harness tau2 rescore --reviewer asks again")
    if report.gave_up:
        _remark(f"stopped: {report.gave_up}; {report.n_untried} simulation(s) were not tried")
    if excluded:
        _remark(f"{len(excluded)} simulation(s) left out as upstream would: faults of agent or user, four times over")
    if judgeless:
        _remark(
            f"{len(judgeless)} simulation(s) need a judge; the same command with --nl-judge MODEL asks one for them"
        )
    reasons = Counter(outcome.reason or outcome.verdict.reason or "" for outcome in other)
    for reason, n in reasons.most_common(5):
        _remark(f"{n} simulation(s) without a reward: {reason}")
    if other or report.n_untried:
        _remark("the same command again takes up what is not finished")
