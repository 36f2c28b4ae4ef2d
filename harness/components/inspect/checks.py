"""What a task needs and whether it is available: extras, sandboxes, roles, network, keys.

In seconds, before anything is built or loaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from harness.components.inspect.config import HARNESS, InspectConfig
from harness.core.component import Check
from harness.core.errors import SpecError
from harness.tasks.suites.data_source import cached, hub_reachable
from harness.tasks.suites.inspect_cards import PACKAGE, Card
from harness.tasks.suites.sandbox import protection

DOCKER_S = 10.0
"""Seconds for Docker's daemon to answer."""
SEARCH_KEYS = ("TAVILY_API_KEY", "EXA_API_KEY", "GOOGLE_CSE_API_KEY", "PERPLEXITY_API_KEY")
"""Inspect's web search tool needs one of these, unless the model searches itself."""
ON_THIS_MACHINE = (HARNESS, "local")
NONE = "none"


def refuse_needs(config: InspectConfig, card: Card) -> None:
    """Raise SpecError naming everything that an eval needs and this machine lacks, with what to do about each."""
    found = list(_needs(config, card))
    if found:
        raise SpecError(f"component {config.name}: {config.task} cannot run here: {'; '.join(found)}")


def _needs(config: InspectConfig, card: Card) -> Iterator[str]:
    if missing := card.missing():
        yield f"it needs {', '.join(missing)} (pip install '{PACKAGE}[{(card.extra or '').replace('_', '-')}]')"
    if roles := sorted(card.roles() - set(config.roles)):
        some = ", ".join(roles)
        yield (
            f"it asks other models as {some}, and without one the checkpoint would be asked; name them: roles: {{{roles[0]}: {{model: "
            "hosted_vllm/NAME, api_base: ...}}, or model: checkpoint where that is meant"
        )
    if card.sandbox:
        yield from sandbox_problems(config, [_kind(config) or "docker"], card)
    for asset in card.assets:
        if (
            asset.gated
            and asset.source not in config.data
            and not cached(asset.source)
            and not os.environ.get("HF_TOKEN")
        ):
            yield (
                f"its data set {asset.source} is gated; accept its conditions on the hub and set HF_TOKEN, or name a local copy: data: "
                f"{{{asset.source}: {{path: FOLDER}}}}"
            )
    if card.internet and not hub_reachable():
        yield "it needs the internet while it runs, and the hub cannot be reached (or HF_HUB_OFFLINE is set)"


def refuse_sandboxes(config: InspectConfig, kinds: Collection[str], card: Card | None) -> None:
    """Raise SpecError where the sandboxes of a built task cannot run here."""
    if found := [*_unknown(config, sorted(kinds)), *sandbox_problems(config, sorted(kinds), card)]:
        raise SpecError(f"component {config.name}: {config.task} cannot run here: {'; '.join(found)}")


def _unknown(config: InspectConfig, kinds: Collection[str]) -> Iterator[str]:
    """Messages about sandboxes that no installed package has, and files of their settings that do not exist."""
    from inspect_ai.util._sandbox.registry import registry_find_sandboxenv

    chosen, _, where = (config.sandbox or "").partition(":")
    for kind in [chosen] if chosen else kinds:
        if kind in (NONE, HARNESS, "k8s"):
            continue
        try:
            registry_find_sandboxenv(kind)
        except ValueError as error:
            yield f"{error} sandbox is docker, k8s, harness, local, none, or one of an installed package"
    if where and not Path(where).exists():
        yield f"there is no file {where} for its sandbox"


def _kind(config: InspectConfig) -> str | None:
    return config.sandbox.partition(":")[0] if config.sandbox else None


def sandbox_problems(config: InspectConfig, kinds: Collection[str], card: Card | None) -> Iterator[str]:
    """Messages on why sandboxes of these types cannot run here; none where they can."""
    chosen = _kind(config)
    for kind in dict.fromkeys([chosen] if chosen else kinds):
        if kind == NONE:
            continue
        if kind in ON_THIS_MACHINE and not config.allow_code_execution:
            yield (
                f"sandbox {kind} runs programs that the model wrote on this machine; set allow_code_execution: true (or "
                "--allow-code-execution)"
            )
        if kind == HARNESS:
            if card is not None and "solver" in card.sandbox:
                yield "agents work in its sandbox, and ours runs a scorer's programs alone; sandbox: docker, or k8s"
            if (refusal := protection().refusal) is not None:
                yield refusal
        elif kind == "docker" and (problem := docker_problem()) is not None:
            ours = card is not None and card.sandbox == ("scorer",)
            other = (
                "; its scorer's programs run in ours too: sandbox: harness with allow_code_execution: true"
                if ours
                else ""
            )
            yield f"its sandbox needs Docker, and {problem}; start it, or use sandbox: k8s{other}"
        elif kind == "k8s" and find_spec("k8s_sandbox") is None:
            yield "sandbox k8s needs inspect-k8s-sandbox (pip install inspect-k8s-sandbox) and a cluster"


@cache
def docker_problem() -> str | None:
    """What is wrong with Docker here; None where its daemon answers."""
    if shutil.which("docker") is None:
        return "there is no docker here"
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=DOCKER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`docker version` does not answer ({error})"
    said = (done.stderr or done.stdout).strip().splitlines()
    return None if done.returncode == 0 else f"`docker version` says: {said[-1] if said else done.returncode}"


def warnings_of(config: InspectConfig, card: Card, name: str) -> Iterator[Check]:
    """What may be missing, as far as the eval's own text tells: keys of services, libraries of its image."""
    absent = sorted({package for module, package in card.libraries().items() if find_spec(module) is None})
    if absent and _kind(config) in ON_THIS_MACHINE:
        words = (
            f"its programs may import {', '.join(absent)}, not installed here, where its image has them: a program that lacks one is the "
            "sandbox's failure and no score; pip install them, or sandbox: docker"
        )
        yield Check(name=f"{name} libraries", ok=None, words=words)
    if card.searches() and not any(os.environ.get(key) for key in SEARCH_KEYS):
        words = f"it searches the web, which needs one of {', '.join(SEARCH_KEYS)}, and none is set"
        yield Check(name=f"{name} keys", ok=None, words=words)
    if unset := sorted(key for key in card.key_names() if not os.environ.get(key) and key != "HF_TOKEN"):
        words = f"its code reads {', '.join(unset)}, not set; some of what it offers may need that"
        yield Check(name=f"{name} keys", ok=None, words=words)
