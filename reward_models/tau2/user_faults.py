"""What a simulated user can do wrong, as rules over task and transcript. Each prefers missing a fault to a false one.

A rule gives the first turn where it applies. Pure; knows no tools but the names it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from harness.core.tau2.fault import Fault
from harness.core.tau2.message import Message
from harness.core.tau2.simulation import USER_STOPS
from harness.core.tau2.task import Task
from harness.reward_models.tau2.known_facts import facts, plain
from harness.reward_models.tau2.loops import find_loop
from harness.reward_models.tau2.scenario import known_info, scenario_text

OUT_OF_CHARACTER = re.compile(
    r"\bas an ai\b|\bi(?: am|'m) an ai\b|\b(?:large )?language model\b|\buser simulator\b"
    r"|\b(?:the|this|my) (?:role-?play|simulation|scenario instructions)\b"
    r"|\bas (?:a|your|the) customer (?:service|support) (?:agent|representative)\b",
    re.IGNORECASE,
)
SPEAKS_AS_AGENT = re.compile(
    r"\bhow (?:can|may) i (?:help|assist) you\b|\bis there anything else i can (?:help|assist)\b"
    r"|\bthank you for contacting (?:us|customer)\b|\bi(?: have|'ve) (?:looked up|located|pulled up) your (?:account|order|reservation)\b",
    re.IGNORECASE,
)
ASKS_FOR_MORE = re.compile(r"\b(?:anything|something) else\b|\belse i can\b", re.IGNORECASE)
COMMON_WORDS = {
    "toggle",
    "set",
    "reset",
    "make",
    "grant",
    "connect",
    "disconnect",
    "preference",
    "settings",
    "mode",
    "app",
}
SYNONYMS = {
    "reboot": ("reboot", "restart", "power", "turn it off", "switch it off"),
    "device": ("device", "phone"),
    "reseat": ("reseat", "re-seat", "reinsert", "remove", "insert"),
    "payment": ("pay", "bill"),
    "wifi": ("wifi", "wi-fi", "wi fi"),
    "network": ("network", "2g", "3g", "4g", "5g"),
    "saver": ("saver", "saving"),
    "roaming": ("roam",),
    "permission": ("permission", "allow"),
}
"""Words of tool names -> what an agent who asks for it may say."""


def _spoken(message: Message) -> str:
    """A user's text without the tokens that end a simulation."""
    text = message.text
    for token in USER_STOPS:
        text = text.replace(token, "")
    return text.strip()


def _stops(message: Message) -> bool:
    return message.role == "user" and not message.tool_calls and any(token in message.text for token in USER_STOPS)


def _fault(rule: str, words: str, turn: int) -> Fault:
    return Fault(cause="user", rule=rule, words=words, turn=turn)


def stopped_early(task: Task, messages: Sequence[Message]) -> Fault | None:
    """The user stopped before the agent had a turn, or in answer to the agent's first question."""
    stop = next((turn for turn, message in enumerate(messages) if _stops(message)), None)
    if stop is None or not any(message.role == "user" for message in messages):
        return None
    opening = next(turn for turn, message in enumerate(messages) if message.role == "user")
    turns = [message for message in messages[opening:stop] if message.role == "assistant"]
    if not turns:
        return _fault("stop_before_agent", "the user stopped before the agent had a turn", stop)
    asked = turns[0].text.rstrip(" *_\n").endswith("?") and not ASKS_FOR_MORE.search(turns[0].text)
    if len(turns) == 1 and not turns[0].tool_calls and asked:
        return _fault("stop_before_agent", "the user stopped instead of answering the agent's first question", stop)
    return None


def contradicted_fact(task: Task, messages: Sequence[Message]) -> Fault | None:
    """The user stated an id, address, number or name of a kind that the scenario gives, and it is another one.

    What the scenario says anywhere, what the agent said before and what the user's own tools answered is no
    contradiction, nor is a fact of a kind of which the scenario gives none.
    """
    known = {fact.kind: fact.value for fact in facts(known_info(task))}
    if not known:
        return None
    grounds = plain(scenario_text(task))
    for turn, message in enumerate(messages):
        if message.role == "user":
            for kind, value in facts(_spoken(message)):
                if kind in known and plain(value) not in grounds:
                    words = f"the user gave the {kind} {value}; the scenario has {known[kind]}"
                    return _fault("contradicts_scenario", words, turn)
        elif message.role == "assistant" or message.requestor == "user":
            grounds += f" {plain(message.text)}"
    return None


def call_nobody_asked_for(task: Task, messages: Sequence[Message], changing: Collection[str]) -> Fault | None:
    """The user changed something with a tool (`changing`) that neither agent nor scenario nor reference mentions."""
    criteria = task.evaluation_criteria
    expected = {action.name for action in (criteria.actions if criteria else None) or ()}
    mentioned = scenario_text(task).casefold()
    for turn, message in enumerate(messages):
        if message.role == "assistant":
            mentioned += f"\n{message.text.casefold()}"
        if message.role != "user":
            continue
        for call in message.tool_calls or ():
            if call.name not in changing or call.name in expected or call.name in mentioned:
                continue
            words = [word for word in call.name.split("_") if word not in COMMON_WORDS]
            hints = [hint for word in words for hint in SYNONYMS.get(word, (word,))]
            if not any(hint in mentioned for hint in hints):
                return _fault("unasked_call", f"the user called {call.name}, which nobody had asked for", turn)
    return None


def left_character(task: Task, messages: Sequence[Message]) -> Fault | None:
    """The user spoke of being a model or of the simulation, or spoke as the agent."""
    for turn, message in enumerate(messages):
        if message.role != "user":
            continue
        said = _spoken(message)
        for rule, pattern, what in (
            ("left_character", OUT_OF_CHARACTER, "left character"),
            ("spoke_as_agent", SPEAKS_AS_AGENT, "spoke as the agent"),
        ):
            found = pattern.search(said)
            if found and found[0].casefold() not in scenario_text(task).casefold():
                return _fault(rule, f"the user {what}: “{found[0]}”", turn)
    return None


def revealed_token(task: Task, messages: Sequence[Message]) -> Fault | None:
    """The user wrote a stop token in the middle of a text, which ends a simulation that was to go on."""
    for turn, message in enumerate(messages):
        for token in USER_STOPS if _stops(message) else ():
            _, found, after = message.text.partition(token)
            for other in USER_STOPS:
                after = after.replace(other, "")
            if found and any(character.isalnum() for character in after):
                return _fault("token_in_text", f"the user went on writing after {token}", turn)
    return None


def said_nothing(task: Task, messages: Sequence[Message]) -> Fault | None:
    """A message of the user without text and without calls."""
    for turn, message in enumerate(messages):
        if message.role == "user" and not message.text and not message.tool_calls:
            return _fault("empty_message", "the user's message is empty", turn)
    return None


def looped(task: Task, messages: Sequence[Message]) -> Fault | None:
    """The user repeated a message or a call, and the agent, its next message included, did not."""
    loop = find_loop(messages, "user")
    if loop is None or find_loop(messages[: loop.turn + 2], "assistant") is not None:
        return None
    return _fault("loop", f"the user repeated the same {loop.what}", loop.turn)


RULES: tuple[Callable[[Task, Sequence[Message]], Fault | None], ...] = (
    stopped_early,
    contradicted_fact,
    left_character,
    revealed_token,
    said_nothing,
    looped,
)


def user_fault(task: Task, messages: Sequence[Message], *, changing: Collection[str] = ()) -> Fault | None:
    """The user's first fault, in the order of the transcript. `changing`: the user's tools that change state."""
    found = [rule(task, messages) for rule in RULES]
    found.append(call_nobody_asked_for(task, messages, changing))
    return min((fault for fault in found if fault), key=lambda fault: fault.turn or 0, default=None)
