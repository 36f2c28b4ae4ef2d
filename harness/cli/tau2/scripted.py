"""harness tau2 scripted: a scripted model behind HTTP, to try a run without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def scripted(
    domain: Annotated[str, typer.Option("--domain", "-d", help="Whose tasks it knows.")],
    port: Annotated[int, typer.Option("--port", help="0: any that is free.")] = 0,
    latency: Annotated[float, typer.Option("--latency", help="Seconds per answer.")] = 0.0,
    tasks_file: Annotated[Path | None, typer.Option("--tasks-file", help="Tasks of another revision.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder with a folder per domain.")] = None,
    trouble: Annotated[
        list[str] | None,
        typer.Option("--trouble", help="KIND:N misbehaves on every N-th request; --trouble list names them."),
    ] = None,
) -> int:
    """Serve a model that plays agent and user by the tasks' reference actions, and prints its address."""
    import asyncio

    from harness.core.errors import SpecError
    from harness.engines.scripted.server import ScriptedServer
    from harness.engines.scripted.trouble import TROUBLES, Trouble
    from harness.tasks.tau2.sources import open_domain
    from harness.tau2.simulate.reference_play import ReferencePlay

    if trouble == ["list"]:
        typer.echo("\n".join(TROUBLES))
        return 0
    troubles = []
    for one in trouble or ():
        kind, _, every = one.rpartition(":")
        if kind not in TROUBLES or not every.isdigit() or int(every) < 1:
            raise SpecError(f"--trouble {one!r} is no KIND:N; --trouble list names the kinds")
        troubles.append(Trouble.every(int(every), kind))
    play = ReferencePlay(open_domain(domain, data=data, tasks_file=tasks_file).tasks())

    async def serve() -> None:
        async with ScriptedServer(play, latency_s=latency, troubles=troubles, port=port) as server:
            typer.echo(server.url)
            await asyncio.Event().wait()

    asyncio.run(serve())
    return 0
