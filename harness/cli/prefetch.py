"""harness prefetch: what a spec needs, fetched where there is a network, for machines without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Base, CodeExecution, Numbered, SpecFile, chosen_numbered
from harness.cli.spec_options import AllowPickle, Field, TrustRemoteCode

if TYPE_CHECKING:
    from harness.checkpoints.step_names import Numbered as NumberedChoice
    from harness.core.component import Check

FETCHED, HERE, MISSING = "fetched", "here", "MISSING"


def prefetch(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHECKPOINT...]", help="As for `harness score`: hub ids are fetched, folders looked at."
        ),
    ] = None,
    spec: SpecFile = None,
    field: Field = None,
    base: Base = None,
    numbered: Numbered = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    code_execution: CodeExecution = False,
    check: Annotated[bool, typer.Option("--check", help="Fetch nothing, only say what is here.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line for each thing instead of a table.")] = False,
    walk: Annotated[str | None, typer.Option("--walk", hidden=True)] = None,
    only: Annotated[list[str] | None, typer.Option("--only", hidden=True)] = None,
) -> int:
    """Fetch the data sets, tokenizers and models that a spec and its checkpoints need; then a run needs no network.

    Everything is loaded as a run would load it, without the network first, then with it what was missing, and those again
    without. Exit code 8 where something is still missing.
    """
    from harness.cli.table import say, stdout
    from harness.cli.visible import visible
    from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK

    if walk is not None:
        return _walk(
            checkpoints or [],
            spec,
            field,
            base,
            chosen_numbered(numbered),
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            code_execution=code_execution,
            only=only or [],
        )
    given = _options(spec, field, base, numbered, trust_remote_code, allow_pickle, code_execution)
    before = _child(given, checkpoints or [], offline=True)
    lacking = [one.name for one in before if not one.ok]
    online = {one.name: one for one in ([] if check or not lacking else _child(given, checkpoints or [], only=lacking))}
    got = [name for name, one in online.items() if one.ok]
    after = {one.name: one for one in (_child(given, checkpoints or [], offline=True, only=got) if got else [])}
    found = [_verdict(one, online.get(one.name), after.get(one.name)) for one in before]
    if as_json:
        for state, name, words in found:
            typer.echo(json.dumps({"name": name, "state": state, "words": words}, ensure_ascii=False).encode())
    else:
        width = max(len(visible(name)) for _, name, _ in found)
        console = stdout()
        for state, name, words in found:
            console.print(f"{state:<7}  {visible(name):<{width}}  {visible(words)}", soft_wrap=True, highlight=False)
    n_missing = sum(state == MISSING for state, _, _ in found)
    if n_missing:
        say(f"{n_missing} of {len(found)} missing")
        return EXIT_INCOMPLETE
    say("all here; with HF_HUB_OFFLINE=1 a run asks for nothing. What was fetched is in " + " and ".join(_caches()))
    return EXIT_OK


def _verdict(before: Check, online: Check | None, after: Check | None) -> tuple[str, str, str]:
    """State, name and message of one thing, from the walks that tried to load it."""
    if before.ok:
        return HERE, before.name, before.words
    if online is None:
        return MISSING, before.name, before.words
    if not online.ok:
        return MISSING, before.name, online.words
    if after is None or not after.ok:
        why = "it was not looked at again" if after is None else after.words
        return MISSING, before.name, f"loads with the network, but not without: {why}"
    return FETCHED, before.name, after.words


def _caches() -> list[str]:
    """The cache folders that have to be copied to a machine without network."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    ours = (
        os.environ.get("HARNESS_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixture-harness"
    )
    return [f"{home} ($HF_HOME)", f"{ours} ($HARNESS_CACHE)"]


def _options(
    spec: Path | None,
    field: list[str] | None,
    base: str | None,
    numbered: str | None,
    trust_remote_code: bool,
    allow_pickle: bool,
    code_execution: bool,
) -> list[str]:
    """The options again, for a child."""
    flags = [
        *(["--trust-remote-code"] if trust_remote_code else []),
        *(["--allow-pickle"] if allow_pickle else []),
        *(["--allow-code-execution"] if code_execution else []),
    ]
    named = {"--spec": spec, "--base": base, "--numbered": numbered}
    return [
        *(f"{name}={value}" for name, value in named.items() if value is not None),
        *(f"--field={one}" for one in field or []),
        *flags,
    ]


def _child(
    options: Sequence[str], checkpoints: Sequence[str], *, offline: bool = False, only: Sequence[str] = ()
) -> list[Check]:
    """A walk in a subprocess, because libraries read $HF_HUB_OFFLINE when they are imported. Raises typer.Exit with its exit code."""
    from harness.core.component import Check
    from harness.core.own_process import python

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} if offline else dict(os.environ)
    command = [
        *python("harness"),
        "prefetch",
        "--walk=here",
        *options,
        *(f"--only={name}" for name in only),
    ]
    done = subprocess.run(
        [*command, "--", *checkpoints],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
    return [Check(**json.loads(line)) for line in done.stdout.splitlines()]


def _walk(
    checkpoints: Sequence[str],
    spec: Path | None,
    field: list[str] | None,
    base: str | None,
    numbered: NumberedChoice,
    *,
    trust_remote_code: bool,
    allow_pickle: bool,
    code_execution: bool,
    only: Sequence[str],
) -> int:
    """Load everything in this process; prints a JSON line for each thing to stdout, and nothing else."""
    import contextlib
    from dataclasses import asdict

    from harness.cli.spec_options import chosen_spec
    from harness.core.errors import EXIT_OK
    from harness.run.prefetch import needed

    chosen = chosen_spec(
        spec,
        field,
        weights=None,
        standardize=None,
        overflow=None,
        dtype=None,
        device=None,
        batch_tokens=None,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        code_execution=code_execution,
        track=None,
    )
    lines = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # a library that prints
        for one in needed(chosen, checkpoints, base=base, numbered=numbered, only=only):
            print(json.dumps(asdict(one)), file=lines, flush=True)
    return EXIT_OK
