"""Identity of a tokenizer by what it does: equal identities encode every text alike and render conversations alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from harness.core.digest import digest_bytes
from harness.core.errors import CheckpointError

TEXTS = (
    "The quick brown fox jumps over 13 lazy dogs.",
    "  two before\tand\nafter  ",
    "def f(x):\n    return x ** 2  # 3.14159, 1000000\n\n",
    "Straße, naïve, \u65e5\u672c\u8a9e, \u041f\u0440\u0438\u0432\u0435\u0442, \U0001f642\u200d\u2642\ufe0f",
    "e\u0301 \u00e9 \ufb01 \u2460 DON'T don't we\u2019ll",
    "<s></s><pad><|im_start|>user<|im_end|>[INST]",
    "",
)
"""Texts whose ids tell tokenizers apart; a text with each tokenizer's own special tokens is added."""
UNREADABLE = [-1]
"""In the place of the ids of a text that a tokenizer cannot encode."""


def probe_ids(tokenizer: Any) -> list[list[int]]:
    """Ids of some texts, with and without the special tokens that the tokenizer adds by itself."""
    special = "".join(f"a{token}b {token} " for token in _special_tokens(tokenizer))
    texts = [text for text in (*TEXTS, special) if text]
    return [
        _ids(partial(tokenizer, text, add_special_tokens=added, verbose=False))
        for added in (True, False)
        for text in texts
    ]


def _ids(encode: Callable[[], Any]) -> list[int]:
    """The ids; UNREADABLE where a vocabulary without an unknown token lacks a part of the text."""
    try:
        encoded = encode()
    except Exception:  # noqa: BLE001 - the backend raises the plain class
        return UNREADABLE
    return list(encoded["input_ids"] if hasattr(encoded, "keys") else encoded.ids)


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of vocabulary, merges, rules, special tokens and chat template. If a tokenizer's ids differ from those of its serialised
    fast backend (`split_special_tokens`, code of its own), or it is a slow one, also of the ids of the probe texts.

    Raises CheckpointError for one that encodes at random.
    """
    _check_settled(tokenizer)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    special = {key: str(value) for key, value in sorted(tokenizer.special_tokens_map.items())}
    if backend is None:
        return digest_bytes(json.dumps([_slow(tokenizer), special, tokenizer.chat_template], sort_keys=True).encode())
    # Padding and truncation are call options that a fast tokenizer happens to remember.
    state = json.loads(backend.to_str())
    state.update(padding=None, truncation=None)
    core = json.dumps(state, sort_keys=True)
    parts: list[Any] = [core, special, tokenizer.chat_template]
    ids = probe_ids(tokenizer)
    if ids != _backend_ids(tokenizer, core):
        parts.append({"ids": ids, "split_special_tokens": bool(getattr(tokenizer, "split_special_tokens", False))})
    return digest_bytes(json.dumps(parts, sort_keys=True).encode())


def _check_settled(tokenizer: Any) -> None:
    """Refuse random encoding (BPE dropout, sampled pieces), which is for training only. Raises CheckpointError."""
    dropout = getattr(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), "dropout", None)
    if dropout or probe_ids(tokenizer) != probe_ids(tokenizer):
        what = f"merges are dropped at random (dropout {dropout:g})" if dropout else "two calls give other ids"
        raise CheckpointError(
            f"the tokenizer encodes a text in another way each time: {what}, so a score would be one of many; "
            "save it without dropout or sampling"
        )


def _backend_ids(tokenizer: Any, core: str) -> list[list[int]]:
    """The probe by the backend alone."""
    from tokenizers import Tokenizer

    alone = Tokenizer.from_str(core)
    special = "".join(f"a{token}b {token} " for token in _special_tokens(tokenizer))
    texts = [text for text in (*TEXTS, special) if text]
    return [_ids(partial(alone.encode, text, add_special_tokens=added)) for added in (True, False) for text in texts]


def _special_tokens(tokenizer: Any) -> list[str]:
    return sorted(map(str, tokenizer.all_special_tokens))


def _slow(tokenizer: Any) -> dict[str, Any]:
    """Everything that decides how a tokenizer without a fast backend encodes: class, vocabulary, merges, options."""
    model: Any = getattr(tokenizer, "sp_model", None)
    ranks = getattr(tokenizer, "bpe_ranks", None)
    options = {
        key: str(value) for key, value in sorted(getattr(tokenizer, "init_kwargs", {}).items()) if key not in PLACES
    }
    return {
        "class": type(tokenizer).__name__,
        "vocabulary": tokenizer.get_vocab(),
        "merges": [list(map(str, pair)) for pair in ranks] if ranks else None,
        "pieces": digest_bytes(model.serialized_model_proto()) if hasattr(model, "serialized_model_proto") else None,
        "options": options,
        "ids": probe_ids(tokenizer),
    }


PLACES = (
    "name_or_path",
    "vocab_file",
    "merges_file",
    "tokenizer_file",
    "spm_file",
    "special_tokens_map_file",
    "chat_template",
)
"""Options of a slow tokenizer that are paths, or that are part of the digest already."""
