"""The command line: parse, call, print, exit code. One small file per verb; heavy imports happen inside them."""

from __future__ import annotations

import sys

from harness.cli.app import app
from harness.core.errors import EXIT_INTERRUPTED, EXIT_USAGE, HarnessError


def main() -> None:
    """Entry point of `harness`. Exit codes: docs/cli.md."""
    import shlex

    import typer

    try:
        sys.exit(app(standalone_mode=False) or 0)
    except HarnessError as error:
        typer.echo(f"harness: error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        again = shlex.join(["harness", *sys.argv[1:]])
        typer.echo(f"\nharness: interrupted; nothing is lost, this goes on where it stopped:\n  {again}", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", EXIT_USAGE))
