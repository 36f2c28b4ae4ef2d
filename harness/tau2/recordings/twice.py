"""Simulations that occur twice: within a file they are counted once, in several files there is a remark. Pure, over recordings.

A copy is the same conversation under the same task and trial, or under the same id, with any verdict; of copies the last one counts.
Two different conversations under one id are refused, since it is not known which is meant. The same conversation under another id and
trial may be a renumbered copy, or a model that answers alike: there is a remark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.digest import digest_bytes
from harness.core.errors import DataError
from harness.core.tau2.simulation import Recorded, Simulation, Unreadable
from harness.tasks.tau2.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedOnce:
    """A recording without copies, and remarks."""

    recording: Recording
    remarks: tuple[str, ...]


def counted_once(recording: Recording) -> CountedOnce:
    """The recording with each simulation once. Raises DataError for two simulations of one id."""
    kept: list[Simulation | Unreadable] = []
    by_id: dict[str, Simulation | Unreadable] = {}
    seen: set[Any] = set()
    for simulation in reversed(recording.simulations):
        keys = _keys(simulation)
        other = by_id.setdefault(simulation.id, simulation)
        if not seen.isdisjoint(keys):
            continue
        if other is not simulation and isinstance(other, Simulation) and isinstance(simulation, Simulation):
            raise DataError(
                f"{recording.path}: two simulations have the id {simulation.id!r} (task {simulation.task_id!r} trial "
                f"{simulation.trial}, task {other.task_id!r} trial {other.trial}) and differ; remove one, or give it an id"
            )
        seen.update(keys)
        kept.append(simulation)
    return CountedOnce(
        recording=replace(recording, simulations=tuple(reversed(kept))),
        remarks=tuple(_remarks(recording, len(recording.simulations) - len(kept), kept)),
    )


def shared_remarks(recordings: Sequence[Recording]) -> list[str]:
    """Remarks on simulations that are in two files, whose rewards are therefore not independent measurements."""
    keys = [[[*_keys(one), _content(one)] for one in recording.simulations] for recording in recordings]
    every = [{key for own in of_file for key in own} for of_file in keys]
    return [
        f"{recordings[before].path} and {recordings[index].path} hold {common} simulation(s) in common: together they are "
        "no more trials"
        for index in range(len(recordings))
        for before in range(index)
        if (common := sum(not every[before].isdisjoint(own) for own in keys[index]))
    ]


def _keys(simulation: Simulation | Unreadable) -> list[Any]:
    """Keys that a copy shares with its original: the conversation with its id and, where it is known, with its trial."""
    if isinstance(simulation, Unreadable):
        return [(simulation.id, simulation.task_id, simulation.reason)]
    content = _content(simulation)
    trial = [] if simulation.trial is None else [(simulation.trial, content)]
    return [(simulation.id, content), *trial]


def _content(simulation: Simulation | Unreadable) -> str:
    """Digest of a simulation's task, end and messages, without its id, trial and verdicts."""
    if isinstance(simulation, Unreadable):
        return digest_bytes(repr((simulation.id, simulation.task_id, simulation.reason)).encode())
    return digest_bytes(repr(replace(simulation, id="", trial=None, recorded=Recorded(), review=None)).encode())


def _remarks(recording: Recording, copies: int, kept: Sequence[Simulation | Unreadable]) -> Iterator[str]:
    if copies:
        yield f"{recording.path}: {copies} simulation(s) stand there once more; each is counted once"
    contents = Counter(_content(one) for one in kept)
    if len(contents) < len(kept):
        example = next(one for one in reversed(kept) if contents[_content(one)] > 1)
        yield (
            f"{recording.path}: {len(kept) - len(contents)} simulation(s) repeat another of their task word for word under another "
            f"id or trial (first {example.id}, task {example.task_id!r}); each is counted as a trial of its own, so remove those "
            "that are copies"
        )
    trials = Counter((one.task_id, one.trial) for one in kept if isinstance(one, Simulation) and one.trial is not None)
    again = {key: n for key, n in trials.items() if n > 1}
    if again:
        (task, trial), n = next(iter(again.items()))
        yield (
            f"{recording.path}: {len(again)} task(s) have several simulations of one trial that differ (task {task!r} trial "
            f"{trial}: {n}); each is counted as a trial of its own, so pass^k is of more trials than the file names"
        )
