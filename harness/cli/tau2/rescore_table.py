"""What rescoring changed, as tables. Writes to stdout, remarks to stderr."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from harness.cli.table import number, print_columns, print_table, stdout
from harness.cli.tau2.summary import print_faults
from harness.cli.visible import plain, visible
from harness.core.tau2.task import REWARD_TYPES
from harness.reward_models.tau2.reward import NEEDS_JUDGE
from harness.reward_models.tau2.summary import Mean, Summary, summarize
from harness.tasks.tau2.sources import of_package
from harness.tau2.recordings.rescore import NlJudge, PreparedRecording, Rescored

SHOWN = 20
"""Simulations listed per file; the rest are counted."""


def short(revision: str | None) -> str:
    """The first characters of a digest, enough to tell digests apart."""
    return "unknown" if revision is None else revision[:19]


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _components(item: Rescored) -> str:
    """The components whose value differs from the recorded one, as `DB 1→0`."""
    return ", ".join(
        f"{name} {_value(item.recorded.components[name])}→{_value(item.verdict.components[name])}"
        for name in REWARD_TYPES
        if name in item.recorded.components and item.recorded.components[name] != item.verdict.components[name]
    )


def print_changes(prepared: PreparedRecording, rescored: Sequence[Rescored]) -> None:
    """Print the simulations whose reward differs from the recorded one, and those that could not be judged."""
    changed = [item for item in rescored if item.changed]
    if changed:
        stdout().print(visible(f"changed in {prepared.recording.path}"), soft_wrap=True)
        table = Table(box=None, pad_edge=False)
        for heading in ("simulation", "task", "recorded", "now", "components", "why"):
            table.add_column(heading, justify="right" if heading in ("recorded", "now") else "left")
        for item in changed[:SHOWN]:
            table.add_row(
                str(plain(item.id)),
                str(plain(item.task_id)),
                _value(item.recorded.reward),
                _value(item.verdict.reward),
                _components(item),
                str(plain(item.verdict.reason or "")),
            )
        print_table(stdout(), table)
        if len(changed) > SHOWN:
            stdout().print(f"and {len(changed) - SHOWN} more")
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
    unjudged = [item for item in rescored if item.verdict.reward is None and item.verdict.reason != NEEDS_JUDGE]
    misnamed = [item for item in unjudged if item.checks_of]
    unjudged = [item for item in unjudged if not item.checks_of]
    for item in unjudged[:SHOWN]:
        console.print(plain(f"{item.id}: not judged: {item.verdict.reason}", width=300))
    if len(unjudged) > SHOWN:
        console.print(f"and {len(unjudged) - SHOWN} more that could not be judged")
    for remark in (*_misnamed(misnamed), *_other_tools(rescored), *_unknown_tools(rescored)):
        console.print(plain(f"{prepared.recording.path}: {remark}", width=1_200))
    unreviewed = [item for item in rescored if item.reviewed is not None and item.reviewed.failure is not None]
    for item in unreviewed[:SHOWN]:
        console.print(plain(f"{item.id}: no review: {item.reviewed and item.reviewed.failure}", width=300))
    judgeless = sum(item.verdict.reason == NEEDS_JUDGE for item in rescored)
    if judgeless:
        console.print(f"{prepared.recording.path}: {judgeless} simulation(s) need a judge for NL_ASSERTION")
    others = [
        source for source in prepared.recording.sources if of_package(source) != of_package(prepared.domain.source)
    ]
    if others:
        console.print(
            plain(
                f"{prepared.recording.path}: recorded with {', '.join(others)}, judged here with {prepared.domain.source}: "
                "what changed may be the environment",
                width=300,
            )
        )
    if prepared.other_tasks:
        console.print(
            f"{prepared.recording.path}: the recorded rewards are of tasks {short(prepared.recorded_revision)}, those now of "
            f"tasks {short(prepared.task_revision)} ({prepared.tasks_from}): what changed may be the tasks"
        )


def print_remarks(remarks: Sequence[str]) -> None:
    """Print remarks on the files themselves, on stderr."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
    for remark in remarks:
        console.print(plain(remark, width=300))


def _misnamed(items: Sequence[Rescored]) -> Iterator[str]:
    if items:
        some = ", ".join(f"{item.id} names task {item.task_id!r}, checks {item.checks_of[0]!r}" for item in items[:3])
        more = f" and {len(items) - 3} more" if len(items) > 3 else ""
        yield (
            f"in {len(items)} simulation(s) the recorded checks are of other tasks than the task ids name ({some}{more}): "
            "the ids do not belong to the conversations; these are not judged and nobody is blamed; get the file with "
            "the right ids (--upstream task-ids judges by those that it has)"
        )


def _other_tools(rescored: Sequence[Rescored]) -> Iterator[str]:
    differing = [item for item in rescored if item.n_differs]
    for item in differing[:1]:
        assert item.end is not None
        first = item.end.differences[0]
        arguments = _cut(json.dumps(first.call.arguments), 160)
        yield (
            f"in {len(differing)} simulation(s) tools answer otherwise than in the recording; it was made with other tools "
            f"or another database; first in {item.id}: {first.call.name}({arguments}) answered {_cut(first.then, 300)!r} "
            f"then, {_cut(first.now, 300)!r} now"
        )


def _unknown_tools(rescored: Sequence[Rescored]) -> Iterator[str]:
    names = Counter(name for item in rescored for name in item.unknown_calls)
    if names:
        n = sum(bool(item.unknown_calls) for item in rescored)
        some = ", ".join(f"{name!r} {count}" for name, count in names.most_common(5))
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield f"in {n} simulation(s) {names.total()} call(s) are of tools that this domain does not have ({some}{more}); they are passed over"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _rate(summary: Summary) -> str:
    if summary.reward.mean is None:
        return "-"
    error = "" if summary.reward.stderr is None else f" ± {summary.reward.stderr:.4f}"
    return f"{summary.reward.mean:.4f}{error}"


def _component(one: Mean) -> str:
    return "-" if one.mean is None else f"{one.mean:.4f} ({one.n})"


def _pass_hat(summary: Summary) -> str:
    return " ".join(f"{k}:{number(found.mean)}" for k, found in summary.pass_hat.items() if found is not None) or "-"


def _recorded_mean(rescored: Sequence[Rescored]) -> float | None:
    rewards = [item.recorded.reward for item in rescored if item.recorded.reward is not None]
    return sum(rewards) / len(rewards) if rewards else None


def print_totals(results: Sequence[tuple[PreparedRecording, Sequence[Rescored]]], judge: NlJudge) -> None:
    """A row per file: counts, reward with its standard error clustered by task, component means, pass^k."""
    names = ("file", [visible(prepared.recording.path.name) for prepared, _ in results])
    summaries = [summarize([item.result for item in rescored]) for _, rescored in results]
    columns = [
        ("domain", [prepared.domain.name for prepared, _ in results]),
        ("scored", [f"{summary.n_scored}/{summary.n}" for summary in summaries]),
        ("changed", [str(sum(item.changed for item in rescored)) for _, rescored in results]),
        ("recorded", [number(_recorded_mean(rescored)) for _, rescored in results]),
        ("reward", [_rate(summary) for summary in summaries]),
        *((name, [_component(summary.components[name]) for summary in summaries]) for name in REWARD_TYPES),
        ("pass^k", [_pass_hat(summary) for summary in summaries]),
    ]
    console = stdout()
    print_columns(console, names, columns)
    console.print("component means are over the simulations they apply to (in brackets)")
    for prepared, rescored in results:
        print_faults(console, summarize([item.result for item in rescored]), of=f"{prepared.recording.path.name}: ")
        origin = f"{prepared.domain.source}, tasks {short(prepared.task_revision)} of {prepared.tasks_from}"
        console.print(plain(f"{prepared.recording.path.name}: {origin}", width=300))
    _remark_unlike([prepared for prepared, _ in results])
    if judge is NlJudge.PASS:
        console.print("NL_ASSERTION: nobody judged, all assertions count as met (--nl-judge pass); not a result")


def _remark_unlike(prepared: Sequence[PreparedRecording]) -> None:
    """Warn of files of one domain that were judged by different tasks or environments."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
    for index, one in enumerate(prepared):
        for other in prepared[:index]:
            if one.domain.name != other.domain.name:
                continue
            if (one.task_revision, one.domain.source) != (other.task_revision, other.domain.source):
                names = f"{other.recording.path} and {one.recording.path}"
                console.print(plain(f"{names} are of unlike task revisions: their rewards do not compare", width=300))
