"""How checkpoints are loaded and served: the options of a spec that every verb which opens one needs. Opens nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.core.serving import ServeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """Keys of a spec of the same names. `dtype` auto: as saved; `device` auto: the first GPU if there is one."""

    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False
    serve: ServeSettings = field(default_factory=ServeSettings)
