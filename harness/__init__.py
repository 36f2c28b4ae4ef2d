"""Reward vectors for data-mixing agents. Importing this loads nothing heavy: public names resolve on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from harness.feed.feed import Feed, read_feed
    from harness.lm_eval.model import HarnessLM as HarnessLM  # not in __all__: needs the lm-eval extra
    from harness.run.callback import RewardCallback
    from harness.run.live import RewardEnvironment
    from harness.spec.spec import Spec, load_spec

__all__ = ["Feed", "RewardCallback", "RewardEnvironment", "Spec", "__version__", "load_spec", "read_feed"]

_HOME = {
    "Feed": "harness.feed.feed",
    "read_feed": "harness.feed.feed",
    "RewardEnvironment": "harness.run.live",
    "RewardCallback": "harness.run.callback",
    "HarnessLM": "harness.lm_eval.model",
    "Spec": "harness.spec.spec",
    "load_spec": "harness.spec.spec",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
