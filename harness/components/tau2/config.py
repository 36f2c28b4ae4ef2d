"""Keys of `kind: tau2` in a spec: the settings of simulations (tau2/settings.py) whose agent is the checkpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from harness.core.component import ComponentConfig
from harness.tau2.settings import CHECKPOINT, Tau2Settings


class Tau2Config(ComponentConfig, Tau2Settings):
    """Keys of a tau2 component."""

    kind: Literal["tau2"]

    @model_validator(mode="after")
    def _participants(self) -> Tau2Config:
        agent = self.agent
        if agent.model != CHECKPOINT or agent.api_base or agent.api_key_env:
            raise ValueError("`agent` is the checkpoint that is measured, so it has no model, api_base or api_key_env")
        if wrong := self.user_problem():
            raise ValueError(wrong)
        return self
