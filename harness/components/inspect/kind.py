"""kind: inspect. A task of Inspect AI, or a family of them as a suite."""

from __future__ import annotations

from pathlib import Path

from harness.components.inspect.component import InspectComponent
from harness.components.inspect.config import InspectConfig
from harness.components.inspect.family import FamilyComponent, load_family
from harness.core.defaults import Defaults
from harness.core.uncollected import uncollected


class InspectKind:
    """The class in the table of kinds: loads an InspectComponent, or a FamilyComponent for a suite."""

    Config = InspectConfig

    @staticmethod
    def resolve(config: InspectConfig, folder: Path) -> InspectConfig:
        """Paths relative to the spec's folder become paths relative to here."""
        return config.resolved(folder)

    @classmethod
    def load(cls, config: InspectConfig, defaults: Defaults) -> InspectComponent | FamilyComponent:
        """Build the task, or those of a suite that can run here. Raises SpecError, within seconds."""
        with uncollected():
            if config.suite is not None:
                return load_family(config, defaults)
            return InspectComponent.load(config, defaults)
