"""The results of a tau2 run as tables. Writes to stdout, remarks to stderr."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.cli.table import number, stdout
from harness.cli.visible import plain
from harness.core.chat import Usage
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
from harness.reward_models.tau2.summary import Summary, summarize
from harness.tau2.plan import Plan
from harness.tau2.runs.run import RunReport, needs_judge


def _remark(text: str) -> None:
    Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True).print(plain(text, width=500))


def print_plan(plan: Plan, *, judge: str | None) -> None:
    """Print, before any request, which tasks are left out and which need a judge."""
    if plan.n_unfit:
        _remark(f"{plan.n_unfit} task(s) are not for an agent alone (no ticket, or they begin with a conversation)")
    if plan.n_judged_by_model and judge is None:
        _remark(
            f"{plan.n_judged_by_model} task(s) are gated by natural-language assertions, which nobody judges: "
            "their rewards stay open until the command is given again with --nl-judge MODEL"
        )


def _results(plan: Plan, summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(plan.domain.name)
    for heading in ("mean", "stderr", "n"):
        table.add_column(heading, justify="right")
    table.add_row("reward", number(summary.reward.mean), number(summary.reward.stderr), str(summary.n_scored))
    for name, one in summary.components.items():
        if one.n:
            table.add_row(f"  {name}", number(one.mean), number(one.stderr), str(one.n))
    for k, found in summary.pass_hat.items():
        table.add_row(f"pass^{k}", number(found and found.mean), number(found and found.stderr), str(summary.n_tasks))
    return table


def _spent(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model of")
    for heading in ("prompt tokens", "completion tokens", "US dollars"):
        table.add_column(heading, justify="right")
    for who, usage in summary.usage.items():
        if usage != Usage():
            cost = "-" if usage.cost is None else f"{usage.cost:.4f}"
            table.add_row(who, f"{usage.prompt_tokens:,}", f"{usage.completion_tokens:,}", cost)
    return table


def print_report(plan: Plan, report: RunReport, path: Path) -> int:
    """Print tables and what is missing. The exit code: 0 when every simulation has a reward, 8 when some have not."""
    summary = summarize(report.results)
    console = stdout()
    console.print(_results(plan, summarize([one for one in report.results if one.finished])))
    ends = Counter(one.termination for one in report.results)
    console.print("ends: " + ", ".join(f"{name} {count}" for name, count in ends.most_common()))
    print_faults(console, summary)
    spent = _spent(summary)
    if spent.row_count:
        console.print(spent)
    known = summary.n_scored - report.n_new
    before = f", {known} were there before" if known else ""
    console.print(f"{report.n_new} simulation(s) appended to {path}{before}")
    _print_missing(report)
    return EXIT_OK if summary.n_scored == len(report.results) and not report.n_untried else EXIT_INCOMPLETE


def print_faults(console: Console, summary: Summary, *, of: str = "") -> None:
    """Print the causes of the failures, and the reward without the simulated user's faults; nothing where nothing failed."""
    if any(summary.faults.values()):
        causes = ", ".join(f"{cause} {n}" for cause, n in summary.faults.items())
        without = f"{number(summary.without_user_faults.mean)} ({summary.without_user_faults.n})"
        console.print(plain(f"{of}at fault: {causes}; reward without the user's faults {without}", width=300))


def _print_missing(report: RunReport) -> None:
    missing = [outcome for outcome in report.results if not outcome.finished]
    judgeless = [outcome for outcome in missing if needs_judge(outcome)]
    excluded = [outcome for outcome in missing if outcome.excluded]
    other = [outcome for outcome in missing if not outcome.excluded and not needs_judge(outcome)]
    unreviewed = Counter(outcome.review_failure for outcome in report.results if outcome.review_failure)
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
