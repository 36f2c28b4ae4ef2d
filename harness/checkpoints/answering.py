"""What decides a checkpoint's answers besides its weights and its tokenizer: generation settings, and templates of a processor.

Reads small JSON and template files; knows no server. A log-probability depends on none of it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.checkpoints.fingerprint import tokenizer_files
from harness.core.digest import digest_bytes, digest_json
from harness.core.errors import CheckpointError

SETTINGS = "generation_config.json"
TEMPLATES = ("chat_template.json", "processor_config.json", "preprocessor_config.json", "additional_chat_templates/*")
"""Files that a chat template may come from besides the tokenizer's own, as patterns."""
NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_p": 1.0,
    "typical_p": 1.0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "min_length": 0,
    "max_length": 20,
    "length_penalty": 1.0,
    "diversity_penalty": 0.0,
    "num_beam_groups": 1,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "early_stopping": False,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    "guidance_scale": 1.0,
}
"""Settings of transformers' `generate` -> the value that changes nothing: its own default."""
SILENT = {
    "_from_model_config",
    "transformers_version",
    "_commit_hash",
    "_name_or_path",
    "use_cache",
    "do_sample",
    "cache_implementation",
    "cache_config",
    "return_legacy_cache",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "pad_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    "max_time",
    "chat_format",
    "prefill_chunk_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "target_lookbehind",
    "disable_compile",
    "compile_config",
    "low_memory",
    "is_assistant",
}
"""Settings that change no token of an answer to a given prompt; whether to sample is set in every request."""
APPLIED = {
    "eos_token_id",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
}
"""Settings that vLLM takes from the file; a request's own value wins over them."""
SAMPLING = {"temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"}
"""Settings of sampling, which every request sets itself."""


def generation_settings(folder: Path) -> dict[str, Any]:
    """What a model folder's generation_config.json sets that changes an answer; empty without one. Raises CheckpointError."""
    path = folder / SETTINGS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    known = {
        key: value
        for key, value in found.items()
        if key not in SILENT and value is not None and NEUTRAL.get(key) != value
    }
    if "eos_token_id" in known and _ids(known["eos_token_id"]) == _ids(_own_eos(folder)):
        del known["eos_token_id"]
    return known


def _ids(value: Any) -> set[Any]:
    return {json.dumps(one) for one in (value if isinstance(value, list) else [value])}


def _own_eos(folder: Path) -> Any:
    """The end token of a model's configuration."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        inner = config.get("text_config")
        own = config.get("eos_token_id")
        return inner.get("eos_token_id") if own is None and isinstance(inner, Mapping) else own
    return None


def template_files(folder: Path) -> list[Path]:
    """Files besides the tokenizer's own that a chat template may come from."""
    return sorted({path for pattern in TEMPLATES for path in folder.glob(pattern) if path.is_file()})


def files_digest(folder: Path) -> str:
    """Digest of every file that a tokenizer or a chat template is loaded from. Raises CheckpointError."""
    paths = sorted({*tokenizer_files(folder), *template_files(folder)})
    try:
        return digest_json([[str(path.relative_to(folder)), digest_bytes(path.read_bytes())] for path in paths])
    except OSError as error:
        raise CheckpointError(f"cannot read the tokenizer in {folder}: {error.strerror or error}") from error


def answering_digest(model: Path, tokenizer: Path) -> str | None:
    """What changes answers besides weights and tokenizer, as a digest; None where nothing does. Raises CheckpointError.

    `model` is the folder that a server reads its generation settings from, `tokenizer` the one of its chat template.
    """
    sets = generation_settings(model)
    templates: list[list[str]] = []
    for path in template_files(tokenizer):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
        if path.suffix == ".json":
            with contextlib.suppress(ValueError, AttributeError):  # what cannot be parsed counts as it is
                template = json.loads(content).get("chat_template")
                if template is None:
                    continue
                content = json.dumps(template, sort_keys=True).encode()
        templates.append([str(path.relative_to(tokenizer)), digest_bytes(content)])
    return digest_json([sets, templates]) if sets or templates else None


def unapplied(model: Path) -> list[str]:
    """The settings of a model folder that transformers' `generate` applies and vLLM does not, by name."""
    return sorted(key for key in generation_settings(model) if key not in APPLIED | SAMPLING)


def note_on(model: Path) -> str | None:
    """A sentence about the settings that vLLM does not apply; None where it applies all."""
    names = unapplied(model)
    return f"vLLM does not apply {', '.join(names)} of its {SETTINGS}" if names else None
