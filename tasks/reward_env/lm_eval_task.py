"""The functions that this folder's YAML tasks name for lm-eval 0.4.13: the same pairs, and their per-token log-prob.

lm-eval gives a task neither tokenizer nor model. It passes the model's arguments as metadata, so the tokenizer is loaded
by those to count the tokens of each response.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.core.errors import SpecError
from harness.tasks.reward_env.catalog import load_field
from harness.tasks.reward_env.encode import boundary, encode
from harness.tasks.reward_env.hub_field import expand_files


def load(**metadata: Any) -> dict[str, Any]:
    """lm-eval's `custom_dataset`: split `test` with columns id, q, r, n_tokens, n_bytes.

    Reads `dataset_revision`, `data_files` (local copies: a pattern, or field name -> pattern), `tokenizer`,
    `pretrained`, `revision` and `subfolder` (both the model's) from the metadata that lm-eval merges from the YAML,
    --model_args and --metadata. Raises SpecError without a tokenizer, and what `load_field` raises.
    """
    import datasets
    from transformers import AutoTokenizer

    field_path = str(metadata["config_source"])
    name = Path(field_path).stem
    files = metadata.get("data_files") or []
    if isinstance(files, dict):
        files = files.get(name) or []
    field = load_field(
        field_path,
        name=name,
        revision=metadata.get("dataset_revision"),
        data_files=expand_files([files] if isinstance(files, str) else files, Path()),
    )
    source = metadata.get("tokenizer") or metadata.get("pretrained")
    if not isinstance(source, str):
        raise SpecError(
            f"task {name}: a per-token score needs the model's tokenizer; pass --model_args pretrained=DIR, or "
            '--metadata \'{"tokenizer": "DIR"}\' with a model that has no such argument'
        )
    # `revision` and `subfolder` are the model's (from --model_args): they hold for its tokenizer, never for the data.
    tokenizer = AutoTokenizer.from_pretrained(
        source,
        revision=str(metadata.get("revision") or "main"),
        subfolder=str(metadata.get("subfolder") or ""),
        trust_remote_code=bool(metadata.get("trust_remote_code", False)),
    )
    pairs = field.pairs(tokenizer)
    tokens = encode(tokenizer, pairs)
    rows = [
        {"id": pair.id, "q": text.q, "r": text.r, "n_tokens": item.n_tokens, "n_bytes": item.n_bytes}
        for pair, text, item in zip(pairs, (boundary(pair.q, pair.r) for pair in pairs), tokens.pairs, strict=True)
    ]
    return {"test": datasets.Dataset.from_list(rows)}


def process_results(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, Any]:
    """Eq. 1's summand for one pair: nats per token; also nats per byte, and (nats, bytes) for the field's bits per byte."""
    logprob, _ = results[0]
    return {
        "logprob_per_token": logprob / doc["n_tokens"],
        "logprob_per_byte": logprob / doc["n_bytes"],
        "bits_per_byte": (logprob, doc["n_bytes"]),
    }
