"""Files that are not recordings of simulations but may be given as such, with a message for each. Knows only their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMATS = "upstream's results.json (plain or .gz, or the folder with simulations/), a run's folder, or JSON lines of simulations"
VOICE = (
    "a voice simulation (full duplex): it was spoken in ticks, which are judged by their timing and are not read here; "
    "have upstream judge it: tau2 evaluate-trajs FILE"
)


def of_array(values: list[Any]) -> str:
    """The message for a file that is a bare JSON array."""
    first = _mapping(values[0]) if values else {}
    if "user_scenario" in first:
        return "a JSON array of tasks, and no recording; name it with `tasks_file`, and the simulations as FILE"
    if "traj" in first:
        return f"a JSON array of results of the first tau-bench, which has other tasks and tools; expected {FORMATS}"
    if "messages" in first or "ticks" in first:
        return (
            "a bare JSON array of simulations, without domain and tasks; write one simulation to a line, and name the "
            "domain: jq -c '.[]' FILE > NAME.jsonl; then NAME.jsonl with `domain`"
        )
    return f"a bare JSON array with no simulations in it; expected {FORMATS}"


def is_voice(value: Any) -> bool:
    """Whether a simulation consists of ticks, in which both sides speak at once."""
    return isinstance(value, Mapping) and (bool(value.get("ticks")) or value.get("mode") == "full_duplex")


def is_voice_run(info: Mapping[str, Any]) -> bool:
    """Whether all simulations of a document consist of ticks, by its `info`."""
    implementation = str(_mapping(info.get("user_info")).get("implementation", ""))
    return info.get("audio_native_config") is not None or implementation.startswith("voice_streaming")


def is_simulation(value: Any) -> bool:
    """Whether this is one simulation and not a document of them."""
    return isinstance(value, Mapping) and "task_id" in value and ("messages" in value or "ticks" in value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
