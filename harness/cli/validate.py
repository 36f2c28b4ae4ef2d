"""harness validate: which components of small models tell what is better for large ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def validate(
    proxies: Annotated[
        list[Path], typer.Argument(metavar="PROXIES...", help="Feeds of small models, one run or more per mixture.")
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="FEED", help="Feed of large models over the same mixtures. Repeatable."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="COMPONENT,...", help="What the large models are to be good at."),
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="Last steps of a run that tell the noise of a step.")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap over mixtures.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the suggested weights are written (JSON), for score --weights."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON instead of tables.")] = False,
) -> int:
    """Say of each component of the proxies whether it steers: signal, noise, and whether it orders mixtures as the target does.

    Without --against, only what needs no target: signal and noise.
    """
    import json

    from harness.cli.table import say
    from harness.cli.validate_table import print_validation
    from harness.cli.visible import visible
    from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, DataError, SpecError
    from harness.core.journal import write_atomically
    from harness.run.scale import feed_path, read_scale
    from harness.run.validation import validated
    from harness.spec.weights import Weights

    names = [name for text in target or [] for name in re.split(r",(?![^\[]*\])", text) if name]
    if names and not against:
        raise SpecError("--target needs the feed of the large models: --against FEED")
    if output is not None and not against:
        raise SpecError("--output takes weights, which need a target: --against FEED --target COMPONENT,...")
    places = [feed_path(feed) for feed in [*proxies, *(against or [])]]
    if len(set(places)) < len(places):
        raise DataError("a feed is given twice, so its runs would count as repeats; name each feed once")
    small = read_scale(proxies, last=last)
    large = read_scale(against, last=last) if against else None
    made = validated(small, large, list(dict.fromkeys(names)), last=last, seed=seed)
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=2, allow_nan=False))
    else:
        print_validation(made)
    for words in made.remarks:
        say(visible(words))
    if output is None:
        return EXIT_OK
    if made.weights is None:
        say(f"{output} was not written")
        return EXIT_INCOMPLETE
    content = Weights(weights=dict(made.weights)).model_dump_json(by_alias=True, indent=2)
    write_atomically(output, content.encode() + b"\n")
    say(f"weights: {output}")
    return EXIT_OK
