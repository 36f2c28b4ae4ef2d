"""What a spec gives every component besides its own keys. A component gets these and never the whole spec."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.core.serving import ServeSettings
from harness.core.tokens import Overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Settings of the spec that components read.

    overflow: what happens to a pair longer than the context; batch_tokens: tokens per pack, None: by device;
    seed: of whatever draws at random; serve: how checkpoints are served.
    """

    overflow: Overflow = "fail"
    batch_tokens: int | None = None
    seed: int = 0
    serve: ServeSettings = field(default_factory=ServeSettings)
