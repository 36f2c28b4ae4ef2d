"""Lines of simulations for tests of what reads them, without running any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def simulation(task: str, reward: float | None, *, trial: int = 0, words: str = "hello") -> dict[str, Any]:
    """One of two messages; with a reward of 0 the agent is at fault for a call it did not make, without one the endpoint failed."""
    fault = {"cause": "agent", "rule": "wrong_call", "words": "it called another", "turn": 1}
    checks = [{"action": {"name": "pay", "arguments": {"id": 1}}, "action_match": reward == 1, "tool_type": "write"}]
    return {
        "id": f"{task}-{trial}",
        "task_id": task,
        "trial": trial,
        "termination_reason": "user_stop",
        "domain": "mock",
        "reason": None if reward is not None else "the endpoint failed",
        "reward_info": None
        if reward is None
        else {
            "reward": reward,
            "reward_basis": ["DB", "ACTION"],
            "reward_breakdown": {"ACTION": reward},
            "db_check": {"db_match": reward == 1, "db_reward": reward},
            "action_checks": checks,
        },
        "fault": fault if reward == 0 else None,
        "messages": [{"role": "user", "content": words}, {"role": "assistant", "content": f"{words} {task}"}],
    }


def write_lines(path: Path, *lines: dict[str, Any]) -> Path:
    """A file of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
