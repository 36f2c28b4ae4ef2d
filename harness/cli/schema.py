"""harness schema: the formats, as JSON Schema or as tables."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    spec: Annotated[bool, typer.Option("--spec", help="Of the spec instead of the reward vector.")] = False,
    keys: Annotated[
        bool, typer.Option("--keys", help="Every key of a spec and of a policy as Markdown tables instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of a reward vector, or of a spec."""
    import json

    if keys:
        from harness.spec.keys_page import keys_page

        typer.echo(keys_page(), nl=False)
        return
    if spec:
        from harness.spec.spec import spec_json_schema

        document = spec_json_schema()
    else:
        from harness.core.vector import RewardVector

        document = RewardVector.model_json_schema(by_alias=True, mode="serialization")
    typer.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **document}, indent=2))
