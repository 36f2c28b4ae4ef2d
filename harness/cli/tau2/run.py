"""harness tau2 run: simulations with live models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.tau2.options import Data, Retrieval, ReviewerBase, ReviewerKey, Source, Upstream


def run(
    domain: Annotated[
        str,
        typer.Option("--domain", "-d", help="airline, retail, telecom, telecom-workflow, banking_knowledge or mock."),
    ],
    agent_llm: Annotated[
        str,
        typer.Option(
            "--agent-llm", help="The model that is measured: hosted_vllm/NAME, openai/NAME, any of litellm's."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder; the same command again goes on in it.")],
    user_llm: Annotated[
        str | None, typer.Option("--user-llm", help="The model that plays the user; not with --solo.")
    ] = None,
    nl_judge: Annotated[
        str | None,
        typer.Option("--nl-judge", help="The model that judges natural-language assertions; none by default."),
    ] = None,
    reviewer: Annotated[
        str | None,
        typer.Option("--reviewer", help="A model that looks for the errors in failed simulations; none by default."),
    ] = None,
    num_trials: Annotated[int, typer.Option("--num-trials", help="Simulations per task.")] = 1,
    max_concurrency: Annotated[int, typer.Option("--max-concurrency", help="Simulations in flight.")] = 64,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Which tasks; base by default, all of --tasks-file where that is given."),
    ] = None,
    task_ids: Annotated[
        list[str] | None, typer.Option("--task-ids", help="Only these tasks: repeat it, or separate them by commas.")
    ] = None,
    num_tasks: Annotated[int | None, typer.Option("--num-tasks", help="Only the first so many tasks.")] = None,
    tasks_file: Annotated[Path | None, typer.Option("--tasks-file", help="Tasks of another revision.")] = None,
    data: Data = None,
    solo: Annotated[
        bool, typer.Option("--solo", help="No user: a ticket, and the tools of both sides (telecom, mock).")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="The trials' seeds are drawn from it.")] = 300,
    max_steps: Annotated[int, typer.Option("--max-steps", help="Steps of a simulation.")] = 200,
    max_errors: Annotated[int, typer.Option("--max-errors", help="Tool errors of a simulation.")] = 10,
    max_calls: Annotated[int, typer.Option("--max-calls", help="Tool calls of one message.")] = 256,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds of a simulation; none by default.")
    ] = None,
    agent_api_base: Annotated[
        str | None, typer.Option("--agent-api-base", help="Address of the agent's endpoint.")
    ] = None,
    user_api_base: Annotated[
        str | None, typer.Option("--user-api-base", help="Address of the user's endpoint.")
    ] = None,
    judge_api_base: Annotated[
        str | None, typer.Option("--judge-api-base", help="Address of the judge's endpoint.")
    ] = None,
    reviewer_api_base: ReviewerBase = None,
    agent_api_key_env: Annotated[
        str | None, typer.Option("--agent-api-key-env", help="Environment variable that holds the agent's key.")
    ] = None,
    user_api_key_env: Annotated[
        str | None, typer.Option("--user-api-key-env", help="Environment variable that holds the user's key.")
    ] = None,
    judge_api_key_env: Annotated[
        str | None, typer.Option("--judge-api-key-env", help="Environment variable that holds the judge's key.")
    ] = None,
    reviewer_api_key_env: ReviewerKey = None,
    agent_llm_args: Annotated[
        str | None,
        typer.Option(
            "--agent-llm-args",
            help='Sampling options as JSON, sent with every request; {"temperature": 0.0} by default.',
        ),
    ] = None,
    user_llm_args: Annotated[str | None, typer.Option("--user-llm-args", help="The same for the user.")] = None,
    agent_instructions: Annotated[
        Path | None,
        typer.Option("--agent-instructions", help="A text that replaces ours at the top of the agent's prompt."),
    ] = None,
    greeting: Annotated[
        str,
        typer.Option(
            "--greeting",
            help="send; or hide the agent's greeting from the agent, whose template may insist that a user speaks first.",
        ),
    ] = "send",
    source: Source = "auto",
    retrieval: Retrieval = None,
    upstream: Upstream = None,
    request_timeout: Annotated[float, typer.Option("--request-timeout", help="Seconds of one answer.")] = 300.0,
    attempts: Annotated[int, typer.Option("--attempts", help="Attempts at one answer when the endpoint fails.")] = 6,
    transport: Annotated[
        str, typer.Option("--transport", help="auto, direct (OpenAI's protocol) or litellm.")
    ] = "auto",
    upstream_exclusions: Annotated[
        bool,
        typer.Option(
            "--upstream-exclusions", help="Leave out what agent or user broke, as upstream does, and count it."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Run simulations of a domain's tasks and say what they are worth."""
    given: dict[str, Any] = dict(locals())  # parameters are named as harness.tau2.flat names settings
    import asyncio

    from harness.cli.progress import stderr
    from harness.cli.tau2.progress import PlainRun, RichRun
    from harness.cli.tau2.summary import print_plan, print_report
    from harness.components.tau2.open_models import open_models
    from harness.core.errors import SpecError
    from harness.tau2.flat import nested
    from harness.tau2.plan import make_plan
    from harness.tau2.runs.folder import open_run_folder
    from harness.tau2.runs.observer import RunObserver
    from harness.tau2.runs.run import run as run_plan
    from harness.tau2.settings import settings_of

    del given["out"], given["quiet"], given["upstream_exclusions"]
    given |= {
        "agent_instructions": _text(agent_instructions),
        "task_ids": _names(task_ids),
        "tasks_file": tasks_file and str(tasks_file),
        "data": data and str(data),
        "upstream": [*(upstream or ()), *(["exclusions"] if upstream_exclusions else ())],
    }
    settings = settings_of(nested(given))
    if wrong := settings.user_problem():
        raise SpecError(wrong)
    plan = make_plan(settings)
    models = open_models(settings)
    plan.check_judge(there=settings.nl_judge is not None)
    with open_run_folder(out, identity={**plan.identity(), **settings.identity()}) as folder:
        print_plan(plan, judge=nl_judge)
        with RunObserver() if quiet else RichRun() if stderr.is_terminal else PlainRun() as observer:
            report = asyncio.run(run_plan(plan, models, folder, observer=observer, max_concurrency=max_concurrency))
        return print_report(plan, report, folder.path)


def _names(values: list[str] | None) -> list[str]:
    return [name.strip() for value in values or () for name in value.split(",") if name.strip()]


def _text(path: Path | None) -> str | None:
    from harness.core.errors import DataError, why_unreadable
    from harness.tasks.tau2.files import read_bytes

    try:
        return None if path is None else read_bytes(path).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"--agent-instructions: cannot read {path}: {why_unreadable(error)}") from error
