"""The errors a user can meet, one class per cause. Each message says what, where and what to do.

The class decides the exit code of the command line (docs/cli.md). Nothing here knows where an error is caught.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of every error with a known cause."""

    exit_code = 1


class SpecError(HarnessError):
    """The spec, or a combination of options, cannot be used as written."""

    exit_code = 3


class DataError(HarnessError):
    """A field, feed or reference cannot be read, or holds something that cannot be scored."""

    exit_code = 4


class CheckpointError(HarnessError):
    """A checkpoint cannot be found, identified or opened."""

    exit_code = 5


class EngineError(HarnessError):
    """Scoring itself broke: out of memory, or a model that does not do what a causal LM does."""

    exit_code = 6


class StateError(HarnessError):
    """The output folder cannot be used: locked, full, without permission, or holding another run."""

    exit_code = 7


EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 8
"""The command finished and wrote every vector, but some are failed or partial."""
EXIT_INTERRUPTED = 130
