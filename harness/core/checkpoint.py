"""What a checkpoint is before it is opened: where it lies and its place in a trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.core.vector import CheckpointKind, Mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A folder with weights. `label` is the path or hub id as the user gave it; `base` only for an adapter."""

    label: str
    folder: Path
    kind: CheckpointKind
    trajectory: str
    step: int | None
    base: str | None = None
    revision: str | None = None
    mixture: Mixture | None = None
    tokens_seen: int | None = None
    problem: str | None = None
    """Why it cannot be scored, where that is already known; it then becomes a failed vector."""
