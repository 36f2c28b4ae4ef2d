"""Upstream's `info` of a run of ours, from the settings that make the run what it is. Pure; the texts lie in a file beside.

A line of a run holds it without what is long or not known yet: the policy, the guidelines, the number of trials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROMPTS = "prompts.json"
"""In a run's folder: policy, guidelines and the agent's instructions as the models were told them."""


def run_info(identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a line says of its run; None where the identity is no run's."""
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
    """Name and sampling options, which a command line calls arguments and a spec args."""
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
    """The `info` of a line with the rest: what the folder's prompts say, where they are there, and the trials."""
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
