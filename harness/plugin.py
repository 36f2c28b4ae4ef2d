"""What the author of a component imports: `from harness.plugin import BaseComponent, Outcome, ...`.

A complete example: examples/plugin.
"""

from __future__ import annotations

from harness.core.component import (
    BaseComponent,
    Check,
    Component,
    ComponentConfig,
    Engine,
    Estimate,
    Kind,
    Outcome,
    Progress,
    Subject,
)
from harness.core.defaults import Defaults
from harness.core.digest import digest_json
from harness.core.endpoint import Endpoint
from harness.core.errors import CheckpointError, DataError, EngineError, HarnessError, SpecError
from harness.core.measurement import Measurement, failed
from harness.reward_models.statistics import clustered_mean

__all__ = [
    "BaseComponent",
    "Check",
    "CheckpointError",
    "Component",
    "ComponentConfig",
    "DataError",
    "Defaults",
    "Endpoint",
    "Engine",
    "EngineError",
    "Estimate",
    "HarnessError",
    "Kind",
    "Measurement",
    "Outcome",
    "Progress",
    "SpecError",
    "Subject",
    "clustered_mean",
    "digest_json",
    "failed",
]
