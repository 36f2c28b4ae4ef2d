"""The fields of upstream's results format, to which what is written is compared."""

from __future__ import annotations

from typing import Any

from harness.tau2.recordings.upstream_models import problem

FIELDS: dict[str, tuple[str, str]] = {
    "document": ("info tasks", "timestamp simulations simulation_index"),
    "info": (
        "git_commit num_trials max_steps max_errors user_info agent_info environment_info",
        "seed text_streaming_config speech_complexity audio_native_config retrieval_config retrieval_config_kwargs",
    ),
    "agent_info": ("implementation", "llm llm_args voice_settings"),
    "user_info": ("implementation", "llm llm_args global_simulation_guidelines voice_settings persona_config"),
    "environment_info": ("domain_name policy", "tool_defs"),
    "simulation": (
        "id task_id start_time end_time duration termination_reason",
        "timestamp agent_cost user_cost reward_info messages ticks trial seed mode speech_environment review "
        "user_only_review auth_classification hallucination_retries_used hallucination_check provider_session_id policy "
        "effect_timeline info",
    ),
    "message": (
        "role",
        "content tool_calls is_audio turn_idx timestamp cost usage raw_data generation_time_seconds audio_format audio_path",
    ),
    "tool": ("id role", "content requestor error turn_idx timestamp"),
    "call": ("name arguments", "id requestor"),
    "reward_info": (
        "reward",
        "db_check env_assertions action_checks nl_assertions communicate_checks reward_basis reward_breakdown info",
    ),
    "db_check": ("db_match db_reward", ""),
    "env_assertions": ("env_assertion met reward", ""),
    "action_checks": ("action action_match action_reward", "tool_type"),
    "nl_assertions": ("nl_assertion met justification", ""),
    "communicate_checks": ("info met justification", ""),
    "task": (
        "id user_scenario",
        "description ticket initial_state evaluation_criteria annotations issues required_documents user_tools",
    ),
    "action": ("action_id name arguments", "requestor info compare_args"),
    "env_assertion": ("env_type func_name arguments", "assert_value message"),
}
"""Upstream's models at v1.0.1: fields that must be there, and fields that may be."""


def fits(value: Any, model: str) -> None:
    needed, allowed = (set(names.split()) for names in FIELDS[model])
    assert isinstance(value, dict), (model, value)
    assert needed <= value.keys() <= needed | allowed, (model, set(value) ^ needed)


def fits_upstream(document: Any) -> None:
    """Every object of a results document has the fields that upstream's model of it has."""
    fits(document, "document")
    fits(document["info"], "info")
    for name in ("agent_info", "user_info", "environment_info"):
        fits(document["info"][name], name)
    for task in document["tasks"]:
        fits(task, "task")
        assert "instructions" in task["user_scenario"]
        criteria = task.get("evaluation_criteria") or {}
        for action in criteria.get("actions") or ():
            fits(action, "action")
        for assertion in criteria.get("env_assertions") or ():
            fits(assertion, "env_assertion")
    tasks = {task["id"] for task in document["tasks"]}
    for one in document["simulations"]:
        fits(one, "simulation")
        assert one["task_id"] in tasks and problem(one) is None
        for message in one["messages"]:
            fits(message, "tool" if message["role"] == "tool" else "message")
            for call in message.get("tool_calls") or ():
                fits(call, "call")
        fits_reward(one.get("reward_info"))


def fits_reward(info: Any) -> None:
    if info is None:
        return
    fits(info, "reward_info")
    for name in ("env_assertions", "action_checks", "nl_assertions", "communicate_checks"):
        for check in info.get(name) or ():
            fits(check, name)
    if info.get("db_check"):
        fits(info["db_check"], "db_check")
