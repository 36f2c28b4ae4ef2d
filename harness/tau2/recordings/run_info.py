"""Upstream's `info` of one of our runs, made from its identity. Reads the long texts from a file in the run's folder.

A line of a run has it without what is long or not known yet: the policy, the guidelines, the number of trials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROMPTS = "prompts.json"
"""File in a run's folder: policy, guidelines and the agent's instructions as the models were sent them."""


def run_info(identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `info` for a line; None where the identity is not one of a run."""
    if "domain" not in identity:
        return None
    solo = bool(identity.get("solo"))
    return {
        "git_commit": "unknown",
        "seed": identity.get("seed"),
        "max_steps": identity.get("max_steps"),
        "max_errors": identity.get("max_errors"),
        "user_info": {
            "implementation": "dummy_user" if solo else "user_simulator",
            **_model(None if solo else identity.get("user")),
        },
        "agent_info": {"implementation": "llm_agent_solo" if solo else "llm_agent", **_model(identity.get("agent"))},
        "environment_info": {"domain_name": identity["domain"]},
        **_retrieval(str(identity.get("source", ""))),
    }


def _model(settings: Any) -> dict[str, Any]:
    """Name and sampling options of a stored model, in any form that was ever written (options as `args` or `arguments`)."""
    if isinstance(settings, str):
        return {"llm": settings, "llm_args": None}
    if not isinstance(settings, Mapping):
        return {"llm": None, "llm_args": None}
    if "model" not in settings:  # a spec's agent is the checkpoint, of which it gives only the options
        return {"llm": "checkpoint", "llm_args": dict(settings)}
    return {"llm": settings["model"], "llm_args": settings.get("arguments", settings.get("args"))}


def _retrieval(source: str) -> dict[str, Any]:
    _, _, name = source.partition(", retrieval ")
    return {"retrieval_config": name} if name else {}


def whole_info(info: Mapping[str, Any], *, trials: int, folder: Path) -> dict[str, Any]:
    """The `info` of a line completed by the texts in the folder's prompts.json, if there is one, and the number of trials."""
    texts = _texts(folder / PROMPTS)
    environment = {"policy": texts.get("policy", ""), **info.get("environment_info", {})}
    user = {**info.get("user_info", {})}
    if texts.get("guidelines") and user.get("implementation") != "dummy_user":
        user.setdefault("global_simulation_guidelines", texts["guidelines"])
    return {**info, "num_trials": info.get("num_trials", trials), "environment_info": environment, "user_info": user}


def _texts(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return (
        {str(key): value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
    )
