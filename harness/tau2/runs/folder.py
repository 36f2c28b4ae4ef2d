"""A run's folder: which simulations are finished and which are not. Survives kill -9 at any moment.

run.json            which run this is
prompts.json        policy, guidelines and instructions, as the models are sent them
simulations.jsonl   one line per simulation that has a reward, appended as soon as it has one; never rewritten
unfinished.jsonl    simulations without one (the endpoint failed, or it could not be judged), which the next run repeats or judges
.lock               held by the one process that writes
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import StateError
from harness.core.held_folder import held_folder
from harness.core.journal import Journal, write_atomically
from harness.reward_models.tau2.result import Key, Result
from harness.tau2.line import read_result
from harness.tau2.recordings.run_info import PROMPTS, run_info
from harness.tau2.settings import identity_as_now

SCHEMA = "harness.tau2_run/1"
SIMULATIONS = "simulations.jsonl"
UNFINISHED = "unfinished.jsonl"
ADDABLE = ("nl_judge", "reviewer")
"""Settings that may be added to a run later: they change neither conversations nor existing verdicts."""


class RunFolder:
    """The lines of a run. Use `open_run` to get one."""

    def __init__(self, folder: Path, identity: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.info = run_info(identity or {})
        """Upstream's `info`, as it is in every line."""
        self.path = folder / SIMULATIONS
        self._finished = Journal(folder / SIMULATIONS)
        self._unfinished = Journal(folder / UNFINISHED)
        self._writing = threading.Lock()
        self.results: dict[Key, Result] = {}
        for number, line in enumerate(self._finished.stream(), start=1):
            try:
                result = read_result(line)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise StateError(
                    f"{self.path} line {number} is no simulation of a run ({type(error).__name__}: {error}); "
                    "it was written by another version or edited; use another folder"
                ) from error
            self.results[result.key] = result

    def transcripts(self) -> dict[Key, dict[str, Any]]:
        """The unfinished lines whose conversation is complete and only not judged, the last one of each simulation."""
        found: dict[Key, dict[str, Any]] = {}
        for line in self._unfinished.stream():
            try:
                key = read_result(line).key
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
            if key not in self.results and line["termination_reason"] in ("user_stop", "agent_stop"):
                found[key] = line
        return found

    def lines(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        """Every line with its key, those without a reward first. If a simulation has several, the last one counts."""
        for journal in (self._unfinished, self._finished):
            for line in journal.stream():
                yield read_result(line).key, line

    def keep_prompts(self, texts: Mapping[str, str]) -> None:
        """Store the models' prompts, of which run.json has only the digest. Raises StateError."""
        path = self.folder / PROMPTS
        if not path.exists():
            write_atomically(path, json.dumps(dict(texts), indent=2).encode() + b"\n")

    async def append(self, result: Result, line: str) -> None:
        """Commit one simulation, in a thread; atomic, also when cancelled. Raises StateError."""
        await asyncio.to_thread(self._append, result, line)

    def _append(self, result: Result, line: str) -> None:
        with self._writing:
            (self._finished if result.finished else self._unfinished).append(line)
            if result.finished:
                self.results[result.key] = result


@contextlib.contextmanager
def open_run_folder(folder: Path, *, identity: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Lock the folder for writing. Raises StateError if it is in use, holds another run, or cannot be written."""
    with held_folder(folder):
        _claim(folder, identity)
        yield RunFolder(folder, identity)


def _claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write run.json into a new folder; refuse one that holds a run with other settings."""
    path = folder / "run.json"
    content = {"schema": SCHEMA, "settings": dict(identity)}
    if not path.exists():
        if (folder / SIMULATIONS).exists() or (folder / "ledger.jsonl").exists():
            raise StateError(f"{folder} has results in it but no run.json of this kind; use another folder")
        write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        schema = known["schema"]
        settings = identity_as_now(known["settings"]) if schema == SCHEMA else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"cannot read {path} ({error}); restore it or use another folder") from error
    if schema != SCHEMA:
        raise StateError(f"{folder} holds something else ({schema}); use another folder")
    names = sorted(settings.keys() | identity.keys())
    other = [name for name in names if settings.get(name) != identity.get(name)]
    added = all(name in ADDABLE and settings.get(name) is None for name in other)
    if other and (added or _is_empty(folder)):
        write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")
    elif other:
        shown = ", ".join(f"{name} {_short(settings.get(name))}, here {_short(identity.get(name))}" for name in other)
        raise StateError(f"{folder} holds a run with other settings ({shown}); use another folder")


def _is_empty(folder: Path) -> bool:
    """Whether nothing has been recorded yet, so that the settings may still change."""
    return not any(path.exists() and path.stat().st_size for path in (folder / SIMULATIONS, folder / UNFINISHED))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
