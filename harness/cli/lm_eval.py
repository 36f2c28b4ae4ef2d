"""harness lm-eval: lm-eval's own command line, with our model class and our tasks in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from harness.core.errors import EXIT_INTERRUPTED, SpecError
from harness.core.extras import install

MODEL = "harness.lm_eval.model:HarnessLM"


def lm_eval(context: typer.Context) -> int:
    """lm-eval itself, knowing `--model harness` and the tasks that come with harness.

    Everything after `lm-eval` goes to lm-eval as it is: harness lm-eval run --help
    """
    try:
        return _run(context.args)
    except SystemExit as stop:  # raised by argparse, and by lm-eval on errors
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        typer.echo(stop.code, err=True)
        return 1
    except KeyboardInterrupt:
        typer.echo(
            "harness lm-eval: interrupted; lm-eval writes its results at the end, so none were written", err=True
        )
        raise SystemExit(EXIT_INTERRUPTED) from None


def _run(arguments: Sequence[str]) -> int:
    try:
        import lm_eval.models  # noqa: F401 - lm-eval fills its table of models only while it is empty
        from lm_eval._cli import HarnessCLI
        from lm_eval.api.registry import model_registry
        from lm_eval.utils import setup_logging
    except ModuleNotFoundError as error:
        raise SpecError(f"`harness lm-eval` needs lm-eval ({error}); {install('lm-eval')}") from error

    setup_logging()
    if "harness" not in model_registry:  # a newer lm-eval has it from our entry point
        model_registry.register("harness", target=MODEL)
    program = sys.argv
    sys.argv = ["lm-eval", *arguments]
    try:
        command = HarnessCLI()
        options = command.parse_args()
        if "include_path" in options:
            options.include_path = include_paths(options)
        command.execute(options)
    finally:
        sys.argv = program
    return 0


def include_paths(options: Any) -> list[str]:
    """Our tasks' folder, then what the user names (on the command line, else in the --config file), which wins."""
    from pathlib import Path

    from lm_eval.config.evaluate_config import EvaluatorConfig

    import harness.tasks

    ours = Path(harness.tasks.__file__).resolve().parent
    given = options.include_path
    if not given and getattr(options, "config", None):
        given = EvaluatorConfig.load_yaml_config(options.config).get("include_path")
    theirs = [str(path) for path in ([given] if isinstance(given, str | Path) else given or [])]
    return [*([] if ours in [Path(path).resolve() for path in theirs] else [str(ours)]), *theirs]
