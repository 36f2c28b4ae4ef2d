"""The options that make a spec, or change one, as the verbs that measure take them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.spec.spec import Spec

Field = Annotated[
    list[str] | None,
    typer.Option("--field", "-f", help="Instead of a spec: a named field or a data file. Repeatable."),
]
Standardize = Annotated[str | None, typer.Option("--standardize", help="none, running, or a reference file.")]
Overflow = Annotated[
    str | None, typer.Option("--overflow", help="A pair longer than the context: fail, skip or truncate.")
]
Dtype = Annotated[str | None, typer.Option("--dtype", help="auto, float32, bfloat16, float16 or float64.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
BatchTokens = Annotated[int | None, typer.Option("--batch-tokens", help="Tokens per pack, or per padded batch.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run model code that comes with a checkpoint.")
]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="Load .bin weights, which can run code.")]


def chosen_spec(
    spec: Path | None,
    field: list[str] | None,
    *,
    weights: Path | None,
    standardize: str | None,
    overflow: str | None,
    dtype: str | None,
    device: str | None,
    batch_tokens: int | None,
    trust_remote_code: bool,
    allow_pickle: bool,
    code_execution: bool,
    track: list[str] | None,
) -> Spec:
    """The spec that the options make. Raises SpecError."""
    from harness.core.errors import SpecError
    from harness.spec.spec import allow_code_execution, default_spec, load_spec, override, spec_of_fields
    from harness.spec.weights import read_weights, weighted

    if spec is not None and field:
        raise SpecError("--spec and --field exclude each other; name the field in the spec")
    chosen = override(
        load_spec(spec) if spec else spec_of_fields(field) if field else default_spec(),
        standardize=standardize,
        overflow=overflow,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        trust_remote_code=trust_remote_code or None,
        allow_pickle=allow_pickle or None,
        track=track or None,
    )
    if weights is not None:
        chosen = weighted(chosen, read_weights(weights), where=str(weights))
    return allow_code_execution(chosen) if code_execution else chosen
