"""A family of agent benchmarks as one component: the plain mean of its members, each a component of its own kind.

A member that cannot run here is named, and the value is partial. The members that run are part of the definition, because the mean over
fewer is another quantity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from harness.components.inspect.component import InspectComponent
from harness.components.inspect.config import InspectConfig
from harness.components.inspect.options import check_options
from harness.components.inspect.run import check_roles
from harness.components.tau2.component import Tau2Component
from harness.components.tau2.config import Tau2Config
from harness.core.component import BaseComponent, Check, Engine, Estimate, Outcome, Progress, Subject
from harness.core.defaults import Defaults
from harness.core.errors import DataError, EngineError, HarnessError, SpecError, StateError
from harness.core.measurement import Measurement, describe, failed
from harness.reward_models.items import CLUSTERS, VALUES
from harness.tasks.suites.families import families
from harness.tasks.suites.inspect_cards import card_of

METRIC = "mean of benchmarks"
TO_AGENT = {
    **dict.fromkeys(("temperature", "top_p", "max_tokens", "seed", "top_k", "frequency_penalty", "presence_penalty")),
    "reasoning_effort": None,
    "stop_seqs": "stop",
}
"""Options of generation that tau2's members take as well -> their name in OpenAI's protocol, None where it is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A benchmark of the family; `slug` is its name in ids and folders."""

    name: str
    slug: str
    component: InspectComponent | Tau2Component


class FamilyComponent(BaseComponent):
    """The members that can run here, and why the others cannot."""

    Config = InspectConfig
    metric = METRIC
    rank = 2
    served = True
    chats = True

    def __init__(
        self, config: InspectConfig, members: Sequence[Member], missing: Mapping[str, str], defaults: Defaults
    ) -> None:
        """`missing`: member -> why it cannot run here."""
        self.config, self.members, self.missing, self._defaults = config, tuple(members), dict(missing), defaults
        self.n_items = sum(member.component.n_items for member in members)
        self.calls_tools = any(member.component.calls_tools for member in members)
        self.definition: dict[str, JsonValue] = {
            "suite": config.suite,
            "members": {member.name: member.component.definition for member in members},
            "missing": list(missing),
        }
        self.task: dict[str, JsonValue] = {
            "suite": config.suite,
            **{f"task {member.slug}": member.component.task for member in members},
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its configuration and loaded anew."""
        return load_family, (self.config, self._defaults)

    def estimate(self, subject: Subject) -> Estimate:
        """The members' requests together."""
        return Estimate(requests=sum(member.component.estimate(subject).requests for member in self.members))

    def checks(self) -> Iterator[Check]:
        """Each member's findings, and why other members are left out."""
        for member in self.members:
            yield from member.component.checks()
        for name, why in self.missing.items():
            yield Check(name=f"{self.config.suite}: {name}", ok=None, words=f"left out of the suite: {why}")

    def measure(self, subject: Subject, progress: Progress, scratch: Path) -> Outcome:
        """Measure every member; if one has no value, neither has the family. Raises HarnessError where none could be measured."""
        outcomes: dict[str, Outcome] = {}
        errors: dict[str, str] = {}
        for member in self.members:
            try:
                outcomes[member.name] = member.component.measure(subject, progress, scratch / member.slug)
            except (SpecError, StateError):
                raise
            except HarnessError as error:
                errors[member.name] = str(error)
                progress.advance(items=member.component.n_items, tokens=0)
        if not outcomes:
            raise EngineError("; ".join(f"{name}: {why}" for name, why in errors.items()))
        slugs = {member.name: member.slug for member in self.members}
        first = next(iter(outcomes.values())).engine
        return Outcome(
            measurement=self._mean(outcomes, errors),
            engine=Engine(
                name=first.name, dtype=first.dtype, device=first.device, served=first.served, note=first.note
            ),
            items=_items({slugs[name]: outcome for name, outcome in outcomes.items()}),
            files=[f"{slugs[name]}/{file}" for name, outcome in outcomes.items() for file in outcome.files],
            n_open=sum(outcome.n_open for outcome in outcomes.values()),
        )

    def _mean(self, outcomes: Mapping[str, Outcome], errors: Mapping[str, str]) -> Measurement:
        breakdown: dict[str, JsonValue] = {}
        reasons = []
        for member in self.members:
            outcome = outcomes.get(member.name)
            if outcome is None:
                row: dict[str, JsonValue] = {"value": None, "status": "failed", "reason": errors[member.name]}
            else:
                one = outcome.measurement
                row = one.model_dump(mode="json", include={"stderr", "n_items", "n_scored", "status", "metric"})
                row |= {"value": one.raw, **{key: value for key, value in one.detail.items() if key != "task"}}
                if one.reason:
                    row["reason"] = one.reason
            breakdown[member.name] = {"task": member.slug, **row}
            if row.get("reason"):
                reasons.append(f"{member.name}: {row['reason']}")
        without = [f"without {name}, which cannot run here ({why})" for name, why in self.missing.items()]
        detail: dict[str, JsonValue] = {"suite": self.config.suite, "breakdown": breakdown}
        if self.missing:
            detail["missing"] = dict(self.missing)
        measured = [outcome.measurement for outcome in outcomes.values() if outcome.measurement.raw is not None]
        values = [one.raw for one in measured if one.raw is not None]
        if len(values) < len(self.members):
            names = [name for name in breakdown if name not in outcomes or outcomes[name].measurement.raw is None]
            why = f"no value for {', '.join(names)} ({'; '.join(reasons)})"
            return failed(METRIC, why, n_items=self.n_items).model_copy(update={"detail": detail})
        errors_of = [one.stderr for one in measured]
        known = [error for error in errors_of if error is not None]
        n = len(values)
        return Measurement(
            metric=METRIC,
            raw=fsum(values) / n,
            stderr=sqrt(fsum(error * error for error in known)) / n if len(known) == n else None,
            n_items=self.n_items,
            n_scored=sum(one.n_scored for one in measured),
            status="ok" if not self.missing and all(one.status == "ok" for one in measured) else "partial",
            reason="; ".join([*without, *reasons]) or None,
            detail=detail,
        )


def load_family(config: InspectConfig, defaults: Defaults) -> FamilyComponent:
    """Load the members that can run here. Raises SpecError, naming why each cannot, where none can."""
    assert config.suite is not None
    check_roles(config.roles, config.name)
    check_options(config.generate, f"component {config.name}: generate")
    _refuse_unused(config, families()[config.suite])
    members, missing = [], {}
    used: set[str] = set()
    for name, keys in families()[config.suite].items():
        try:
            members.append(Member(name=name, slug=_slug(name), component=_load(config, name, keys, defaults, used)))
        except (SpecError, DataError) as error:
            missing[name] = str(error).removeprefix(f"component {config.name}.{_slug(name)}: ")
    if unknown := [key for key in config.data if key not in used]:
        raise SpecError(
            f"component {config.name}: data names {', '.join(unknown)}, of which no member of {config.suite} is made"
        )
    if not members:
        whys = "; ".join(f"{name}: {why}" for name, why in missing.items())
        raise SpecError(f"component {config.name}: no member of {config.suite} can run here: {whys}")
    return FamilyComponent(config, members, missing, defaults)


def _refuse_unused(config: InspectConfig, table: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise SpecError for roles that no member asks for, and for options that some members do not take."""
    ours = any(keys["kind"] == "tau2" for keys in table.values())
    cards = [card_of(str(keys["task"]).partition("/")[2]) for keys in table.values() if keys["kind"] != "tau2"]
    known = {role for card in cards if card is not None for role in card.roles()} | ({"user"} if ours else set())
    if unknown := sorted(set(config.roles) - known):
        they = f"they ask for {', '.join(sorted(known))}" if known else "leave it out"
        raise SpecError(
            f"component {config.name}: no member of {config.suite} asks for a role {', '.join(unknown)}; {they}"
        )
    if ours and (untold := sorted(set(config.generate) - set(TO_AGENT) - {"extra_body"})):
        raise SpecError(
            f"component {config.name}: generate: tau2's members of {config.suite} do not take {', '.join(untold)}; list the members as "
            "components of their own"
        )


def _load(
    config: InspectConfig, name: str, keys: Mapping[str, Any], defaults: Defaults, used: set[str]
) -> InspectComponent | Tau2Component:
    plain = {"name": f"{config.name}.{_slug(name)}", "role": config.role}
    if keys["kind"] == "tau2":
        user = config.roles.get("user")
        if user is None:
            raise SpecError(
                "somebody has to play the user; name a model: roles: {user: {model: hosted_vllm/NAME, api_base: ...}}"
            )
        args = {TO_AGENT[key] or key: value for key, value in config.generate.items() if key in TO_AGENT}
        args |= dict[str, Any](config.generate.get("extra_body") or {})  # type: ignore[arg-type]
        given = {
            "num_tasks": config.limit,
            "user": user.model_dump(),
            "max_concurrency": config.max_concurrency,
            "request_timeout_s": config.request_timeout_s,
            **({"agent": {"args": args}} if args else {}),
        }
        return Tau2Component.load(_validated(Tau2Config, {**plain, **given, **keys}), defaults)
    card = card_of(str(keys["task"]).partition("/")[2])
    sources = {asset.source for asset in card.assets} if card else set()
    data = {key: where for key, where in config.data.items() if key in sources}
    used |= set(data)
    shared = config.model_dump(
        include={
            "limit",
            "generate",
            "allow_code_execution",
            "fetch",
            "request_timeout_s",
            "attempts",
            "max_concurrency",
        }
    )
    roles = {key: chat.model_dump() for key, chat in config.roles.items() if card is None or key in card.roles()}
    whole = {
        **plain,
        **shared,
        "roles": roles,
        "data": {key: where.model_dump() for key, where in data.items()},
        **keys,
    }
    return InspectComponent.load(_validated(InspectConfig, whole), defaults)


def _validated(kind: Any, keys: Mapping[str, Any]) -> Any:
    try:
        return kind.model_validate(keys)
    except ValidationError as error:
        raise SpecError(describe(error, kind)) from error


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def _items(outcomes: Mapping[str, Outcome]) -> dict[str, list[Any]]:
    """The members' rows concatenated: their values and clusters each in one column, and the other columns that they share."""
    keys = ("id", "task", "cluster", "value", "status", "cause", "reason", "seconds")
    columns: dict[str, list[Any]] = {key: [] for key in keys}
    for slug, outcome in outcomes.items():
        found = outcome.items
        value = next((name for name in VALUES if name in found), None)
        by = next((name for name in CLUSTERS if name in found), "id")
        for row, name in enumerate(found.get("id", ())):
            said: dict[str, Any] = {key: found[key][row] for key in keys if key in found}
            said |= {
                "id": f"{slug}/{name}",
                "task": slug,
                "cluster": f"{slug}/{found[by][row]}",
                "value": found[value][row] if value else None,
                "cause": said.get("cause", found["fault"][row] if "fault" in found else None),
            }
            for key in keys:
                columns[key].append(said.get(key))
    return columns
