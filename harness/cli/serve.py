"""harness serve: one checkpoint on a vLLM server in the foreground, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    context: typer.Context,
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Model or adapter folder, or org/name@revision.")
    ],
    base: Annotated[
        str | None, typer.Option("--base", help="Base model of an adapter, instead of the one it names.")
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(
            "--command",
            help="The vllm executable, or an environment's folder. Default: $HARNESS_VLLM, this one's, PATH.",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="Default: any that is free.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Model name in requests. Default: the folder's.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="Environment variable that holds the key clients must send.")
    ] = None,
    reasoning_parser: Annotated[
        str | None,
        typer.Option("--reasoning-parser", help="vLLM's name of the parser of thoughts. Default: by model."),
    ] = None,
    tool_call_parser: Annotated[
        str | None,
        typer.Option("--tool-call-parser", help="vLLM's name of the parser of tool calls. Default: by model."),
    ] = None,
    chat_template: Annotated[
        str | None, typer.Option("--chat-template", help="Jinja file. Default: the checkpoint's own.")
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option("--max-model-len", help="Tokens of prompt and answer. Default: the model's own.")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="auto (as saved), float32, bfloat16 or float16.")] = "auto",
    log: Annotated[
        Path | None, typer.Option("--log", help="The server's log. Default: a file in the temporary folder.")
    ] = None,
    startup_timeout: Annotated[float, typer.Option("--startup-timeout", help="Seconds until it must answer.")] = 900.0,
) -> int:
    """Serve a checkpoint with vLLM and print its address. What follows -- goes to `vllm serve` as it is."""
    import dataclasses
    import signal
    import tempfile
    import time

    from pydantic import ValidationError

    from harness.checkpoints.find import find_checkpoints
    from harness.checkpoints.open import Opener
    from harness.core.errors import EXIT_INTERRUPTED, CheckpointError, EngineError, SpecError
    from harness.core.measurement import first_problem
    from harness.core.opening import OpenOptions
    from harness.core.serving import ServeSettings
    from harness.engines.vllm.checkpoint_server import MAX_CRASHES
    from harness.engines.vllm.launch import launch_for
    from harness.engines.vllm.server import VllmServer
    from harness.engines.vllm.watch import Watch

    found = find_checkpoints([checkpoint], base=base, numbered="models")
    if len(found) != 1:
        raise CheckpointError(f"{checkpoint} holds {len(found)} checkpoints; name the one to serve")
    try:
        settings = ServeSettings(
            command=command,
            args=list(context.args),
            api_key_env=api_key_env,
            tool_call_parser=tool_call_parser,
            reasoning_parser=reasoning_parser,
            chat_template=chat_template,
            max_model_len=max_model_len,
            startup_timeout_s=startup_timeout,
        )
    except ValidationError as error:
        raise SpecError(first_problem(error)) from None
    settings.meaning()  # a chat template that can be read
    serving = Opener(OpenOptions(dtype=dtype, device="cpu", serve=settings)).serving
    serving.find_server()
    servable = serving.servable(found[0])
    folder = servable.adapter or servable.model
    own_name = name or folder.name
    launch = launch_for(servable, settings, name=own_name, dtype=dtype, host=host)
    if servable.adapter is not None:
        launch = dataclasses.replace(launch, name=f"{own_name}-base", adapter=(own_name, servable.adapter))
    path = log or Path(tempfile.mkdtemp(prefix="harness-vllm-")) / "vllm.log"
    server = VllmServer(servable.model, settings=settings, log=path, port=port, launch=launch)
    typer.echo(f"starting vLLM with {checkpoint}; its log: {path}", err=True)
    # Not through SIGINT: a job in the background of a script ignores that one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with server:
            endpoint = server.named(own_name, "start") if servable.adapter is not None else server.endpoint
            typer.echo(f"{endpoint.api_base} {endpoint.model}")
            key = f" --agent-api-key-env {api_key_env}" if api_key_env else ""
            where = f"--agent-llm hosted_vllm/{endpoint.model} --agent-api-base {endpoint.api_base}{key}"
            typer.echo(f"it answers; for example: harness tau2 run {where} ...", err=True)
            n_hung = 0
            while True:
                watch = Watch(server)
                while server.alive():
                    time.sleep(1.0)
                watch.stop()
                words = "it runs and does not answer" if server.hangs else server.last_words()
                if not (watch.ended_it or server.hangs) or n_hung == MAX_CRASHES:
                    raise EngineError(f"vLLM ended: {words} (all of it: {path})")
                n_hung += 1
                typer.echo(f"{words}; it is started again at the same address", err=True)
                server.restart()
                typer.echo("it answers again", err=True)
    except KeyboardInterrupt:
        typer.echo("harness serve: stopped", err=True)
        raise SystemExit(EXIT_INTERRUPTED) from None
