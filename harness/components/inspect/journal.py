"""A journal of completed samples, written before they count: after a kill only samples that were in flight are run again.

Inspect's own log is a ZIP that is rewritten each time, which for large evals takes most of the time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inspect_ai._util.json import to_json_safe
from inspect_ai.hooks import Hooks, SampleEnd, TaskStart, hooks
from inspect_ai.log import EvalLog, EvalSample

from harness.components.inspect.model import Key, Noted
from harness.core.digest import digest_json
from harness.core.errors import DataError, StateError
from harness.core.journal import Journal

FILE = "samples.jsonl"
TIMED = ("time", "working")
"""Limits of a sample that failed attempts at an answer count against."""
OURS = "harness/"
"""Prefix of the names of models that use our own client, which records its failures itself."""


class Keeper:
    """Writes a run's samples to a journal. `told` is called after each. Failed samples are not stored, so they are run again.

    `begun`: whether the journal has its header already.
    """

    def __init__(self, path: Path, noted: Noted, told: Any, *, begun: bool) -> None:
        self.failure: StateError | None = None
        self._journal = Journal(path)
        self._noted = noted
        self._told = told
        self._begun = begun

    def start(self, data: TaskStart) -> None:
        """Write the run's header, once."""
        if not self._begun:
            header = EvalLog(eval=data.spec, plan=data.plan)
            self._write(header)
            self._begun = True

    def end(self, data: SampleEnd) -> None:
        """Write one sample, unless it failed."""
        sample = data.sample
        key = str(sample.id), sample.epoch
        if key not in self._noted.unanswered and (why := _unanswered(sample, key, self._noted)) is not None:
            self._noted.unanswered[key] = why
        if sample.error is None and key not in self._noted.unanswered:
            self._write(sample)
        self._told(sample)

    def _write(self, record: Any) -> None:
        """Serialised as in Inspect's own log, so that anything a task stores in a sample can be written."""
        try:
            self._journal.append(to_json_safe(record, indent=None).decode())
        except StateError as error:  # a full disk: Inspect would only warn of it
            self.failure = self.failure or error
        except Exception as error:  # noqa: BLE001 - Inspect would only warn of it, and the sample would be asked again and again
            self.failure = self.failure or StateError(f"a sample cannot be kept ({type(error).__name__}: {error})")


def _unanswered(sample: Any, key: Key, noted: Noted) -> str | None:
    """Why a sample failed because of an endpoint, besides what our own client recorded; None where it did not."""
    if sample.limit is not None and sample.limit.type in TIMED and key in noted.delayed:
        return f"its {sample.limit.type} limit passed while requests failed: {noted.delayed[key]}"
    for event in sample.events:
        if event.event != "model" or event.model.startswith(OURS):
            continue
        if event.error and not (sample.limit is not None and "cancel" in event.error.lower()):
            return f"{event.model}: {' '.join(event.error.split())[:300]}"
        if event.output is not None and event.output.stop_reason == "model_length":
            return f"{event.model}: the conversation is too long for it"
    return None


@hooks(name="harness", description="keeps what a run has so far")
class _Listening(Hooks):
    """Inspect has one instance per process, which forwards to the current run's Keeper."""

    keeper: Keeper | None = None

    def enabled(self) -> bool:
        return _Listening.keeper is not None

    async def on_task_start(self, data: TaskStart) -> None:
        if _Listening.keeper is not None:
            _Listening.keeper.start(data)

    async def on_sample_end(self, data: SampleEnd) -> None:
        if _Listening.keeper is not None:
            _Listening.keeper.end(data)


def listen(keeper: Keeper | None) -> None:
    """Send Inspect's events to `keeper` from now on; None: to nothing."""
    _Listening.keeper = keeper


def kept(path: Path) -> EvalLog | None:
    """The samples of an earlier run as the log of an interrupted run; None where there are none. Raises DataError."""
    lines = iter(Journal(path).stream())
    header = next(lines, None)
    if header is None:
        return None
    try:
        log = EvalLog.model_validate(header)
        # The last of a sample counts: one that failed, and was asked again. One line after the other, which is half the memory.
        found = {digest_json([line["id"], line["epoch"]]): EvalSample.model_validate(line) for line in lines}
        log.samples = list(found.values())
    except (ValueError, KeyError) as error:
        raise DataError(f"cannot read {path} ({error}); delete it, and its samples are asked again") from error
    return log
