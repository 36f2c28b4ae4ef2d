"""The command line: parse, call, print, exit code. One small file per verb; heavy imports happen inside them."""

from __future__ import annotations

import atexit
import gc
import os
import shlex
import sys
from collections.abc import Sequence

import typer

from harness.cli.app import app
from harness.cli.usage import usage_words
from harness.cli.visible import visible_lines
from harness.core.errors import EXIT_INTERRUPTED, EXIT_USAGE, HarnessError, StateError


def main() -> None:
    """Entry point of `harness`. Exit codes: docs/cli.md."""
    atexit.register(
        gc.freeze
    )  # the last search for garbage, over all that large packages have made, takes up to a second
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line in this process; its exit code."""
    # Otherwise torch's threads spin while they wait for each other, which on a busy machine uses ten times the CPU.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = int(app(args=list(arguments), prog_name="harness", standalone_mode=False) or 0)
    except HarnessError as error:
        typer.echo(f"harness: error: {visible_lines(str(error))}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except OSError as error:
        if error.filename is not None or error.errno is None:  # of a file, or a library's own words: not of stdout
            raise
        typer.echo(f"harness: error: cannot write the output: {error.strerror}; what is on disk is complete", err=True)
        return StateError.exit_code
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        if (words := usage_words(error)) is None:
            show()
        else:
            typer.echo(f"harness: error: {visible_lines(words)}", err=True)
        return int(getattr(error, "exit_code", EXIT_USAGE))
    if code == EXIT_INTERRUPTED:
        again = shlex.join(["harness", *arguments])
        typer.echo(f"harness: interrupted; nothing is lost, this goes on where it stopped:\n  {again}", err=True)
    return code
