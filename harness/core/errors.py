"""The errors of the program. Each message says what, where and what to do; an error is classified once, where it happens.

    HarnessError                      has a known cause; the class decides the exit code (docs/cli.md)
    ├── SpecError         exit 3      the spec, or a combination of options, cannot be used as written
    ├── DataError         exit 4      a field, feed, reference or recording cannot be read or scored
    ├── CheckpointError   exit 5      a checkpoint cannot be found, identified, loaded or served
    ├── EngineError       exit 6      scoring or serving broke: memory, a model that is no causal LM, no answer
    └── StateError        exit 7      the output folder: locked, full, without permission, another run's
    EndpointError                     (core/chat.py) a chat model gave no answer; becomes a simulation's or question's cause
    └── TransientError                worth another attempt: a timeout, 429, 5xx, an answer cut off
    ContextOverflow                   (core/chat.py) a conversation longer than the model reads
    ParticipantError                  (tau2/simulate) what a participant said cannot be a message; blames agent or user
    TranscriptError, BadVerdictError, ReviewError   (ValueError) text of a recording, judge or reviewer that does not parse

What happens to them: while a component measures, `run/measure.measure_component` turns a HarnessError into a failed measurement with its
message; SpecError and StateError concern the whole run and are raised. In simulations the last three groups become a cause
(agent, user, judge, infrastructure) and never an exception of the run. The command line prints a HarnessError in one line.
"""

from __future__ import annotations

import json


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
EXIT_NO_GO = 9
"""`harness gate`: a demand of the policy is broken."""
EXIT_INCONCLUSIVE = 10
"""`harness gate`: no demand is broken, but one could not be decided or measured."""
EXIT_INTERRUPTED = 130


def why_unreadable(error: Exception) -> str:
    """What is wrong with a file that a person named, by what reading it as UTF-8 (JSON) raised: an OSError or a ValueError."""
    if isinstance(error, IsADirectoryError):
        return "it is a folder; name a file"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeDecodeError):
        return f"it is no text: not UTF-8 (byte {error.object[error.start]:#04x} at position {error.start + 1})"
    if isinstance(error, json.JSONDecodeError):
        where = f"line {error.lineno} column {error.colno}"
        return f"not valid JSON ({error.msg} at {where})" if error.doc.strip() else "the file is empty"
    return " ".join(str(error).split())[:200]
