"""Every sample that came to its end, in a journal before it counts: a run that was killed asks again only for what was in flight.

Inspect's own log is a ZIP that is copied whole each time it is written, which for large evals is most of the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inspect_ai.hooks import Hooks, SampleEnd, TaskStart, hooks
from inspect_ai.log import EvalLog

from harness.components.inspect.model import Key
from harness.core.digest import digest_json
from harness.core.errors import DataError, StateError
from harness.core.journal import Journal

FILE = "samples.jsonl"


class Keeper:
    """Writes a run's samples to a journal. `told`: called after each. What failed is not kept: it is to be asked again."""

    def __init__(self, path: Path, unanswered: dict[Key, str], told: Any) -> None:
        self.failure: StateError | None = None
        self._journal = Journal(path)
        self._unanswered = unanswered
        self._told = told
        self._begun = path.exists() and path.stat().st_size > 0

    def start(self, data: TaskStart) -> None:
        """The run's header, once."""
        if not self._begun:
            header = EvalLog(eval=data.spec, plan=data.plan)
            self._write(header.model_dump_json())
            self._begun = True

    def end(self, data: SampleEnd) -> None:
        """One sample."""
        sample = data.sample
        if sample.error is None and (str(sample.id), sample.epoch) not in self._unanswered:
            self._write(sample.model_dump_json())
        self._told(sample)

    def _write(self, line: str) -> None:
        try:
            self._journal.append(line)
        except StateError as error:  # a full disk: Inspect would only warn of it
            self.failure = self.failure or error


@hooks(name="harness", description="keeps what a run has so far")
class _Listening(Hooks):
    """Inspect has one instance per process; it listens for whoever is running."""

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
    """From now on, `keeper` is told."""
    _Listening.keeper = keeper


def kept(path: Path) -> EvalLog | None:
    """What an earlier run left, as the log of a run that was stopped. Raises DataError."""
    lines = iter(Journal(path).stream())
    header = next(lines, None)
    if header is None:
        return None
    try:
        # The last of a sample counts: one that failed, and was asked again.
        found = {digest_json([line["id"], line["epoch"]]): line for line in lines}
        log = EvalLog.model_validate({**header, "samples": list(found.values())})
    except (ValueError, KeyError) as error:
        raise DataError(f"cannot read {path} ({error}); delete it, and its samples are asked again") from error
    return log
