"""harness tau2 rescore: recorded simulations, judged again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.tau2.options import Data, Retrieval, ReviewerBase, ReviewerKey, Source, Upstream

if TYPE_CHECKING:
    from harness.core.chat import ChatModel
    from harness.tau2.recordings.rescore import PreparedRecording, Rescored


def rescore(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Recorded simulations: upstream's results.json or JSON lines, also .gz."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write one JSON line per simulation to this file; NAME.json: the recording with the new rewards, in "
            "upstream's results format (also .gz).",
        ),
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", "-d", help="The domain, where a file does not say (or to overrule it).")
    ] = None,
    tasks_file: Annotated[
        Path | None, typer.Option("--tasks-file", help="Judge by these tasks instead of those in the files.")
    ] = None,
    data: Data = None,
    nl_judge: Annotated[
        str, typer.Option("--nl-judge", help="none; or pass: every NL assertion counts as met (parity checks only).")
    ] = "none",
    source: Source = "auto",
    retrieval: Retrieval = None,
    upstream: Upstream = None,
    reviewer: Annotated[
        str | None,
        typer.Option("--reviewer", help="A model that looks for the errors in what failed; none by default."),
    ] = None,
    reviewer_api_base: ReviewerBase = None,
    reviewer_key_env: ReviewerKey = None,
    max_concurrency: Annotated[int, typer.Option("--max-concurrency", help="Reviews in flight.")] = 64,
) -> int:
    """Judge recorded simulations again, without a model, and show what changed."""
    import asyncio

    from harness.cli.tau2.rescore_table import print_changes, print_remarks, print_totals
    from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, SpecError
    from harness.core.journal import write_atomically
    from harness.core.tau2.upstream import upstream_of
    from harness.tau2.recordings.convert import RESULTS
    from harness.tau2.recordings.rescore import NlJudge, as_lines, each_counted_once, prepare
    from harness.tau2.recordings.rescore import rescore as rescore_recording

    if nl_judge not in list(NlJudge):
        raise SpecError(f"--nl-judge {nl_judge!r} is unknown; it takes {' or '.join(NlJudge)}")
    judge = NlJudge(nl_judge)
    as_upstream = out is not None and out.name.endswith(RESULTS)
    if as_upstream and len(files) > 1:
        raise SpecError(
            f"--out {out} is of one recording; give one FILE, or name it .jsonl for one line per simulation"
        )
    if max_concurrency < 1:
        raise SpecError("--max-concurrency must be positive")
    switches = upstream_of(upstream or ())
    prepared = [
        prepare(
            path,
            domain=domain,
            data=data,
            tasks_file=tasks_file,
            upstream=switches,
            source=source,
            retrieval=retrieval,
        )
        for path in files
    ]
    prepared, remarks = each_counted_once(prepared)
    critic = _critic(reviewer, reviewer_api_base, reviewer_key_env) if reviewer else None
    results = [(one, list(rescore_recording(one, nl_judge=judge))) for one in prepared]
    if critic is not None:
        results = asyncio.run(_reviewed(results, critic, max_concurrency))
    for one, rescored in results:
        print_changes(one, rescored)
    print_remarks(remarks)
    print_totals(results, judge)
    if out is not None and as_upstream:
        from harness.cli.tau2.convert import write_converted
        from harness.tau2.recordings.rescored_file import rescored_file

        write_converted(out, rescored_file(*results[0], out, nl_judge=judge))
    elif out is not None:
        write_atomically(out, as_lines(results, judge))
        typer.echo(f"{sum(len(rescored) for _, rescored in results)} line(s) written to {out}")
    unknown = any(item.verdict.reward is None for _, rescored in results for item in rescored)
    return EXIT_INCOMPLETE if unknown else EXIT_OK


def _critic(model: str, base: str | None, key_env: str | None) -> ChatModel:
    from harness.components.tau2.open_models import open_model
    from harness.core.errors import SpecError
    from harness.tau2.flat import nested
    from harness.tau2.settings import participants_of

    them = participants_of(nested({"reviewer": model, "reviewer_api_base": base, "reviewer_api_key_env": key_env}))
    if them.reviewer is None:
        raise SpecError("--reviewer names no model")
    return open_model(them.reviewer, them.model_copy(update={"request_timeout_s": 600.0}))


async def _reviewed(
    results: list[tuple[PreparedRecording, list[Rescored]]], chat: ChatModel, max_concurrency: int
) -> list[tuple[PreparedRecording, list[Rescored]]]:
    from harness.tau2.judging.reviewing import review_failures

    try:
        return [
            (one, await review_failures(one, items, chat, max_concurrency=max_concurrency)) for one, items in results
        ]
    finally:
        await chat.close()
