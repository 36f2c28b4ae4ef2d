"""Tokenise (q, r) pairs with the boundary of lm-eval 0.4.13, and with one of their own where lm-eval raises.

- Trailing white space of q belongs to r.
- r's tokens are what encode(q + r) has beyond the length of encode(q); the model reads encode(q) and then those.
- BOS (the special tokens that the tokenizer adds) stands once: not again where q already begins with it.
- A q that is empty, or all white space, becomes the BOS token, or EOS where there is no BOS.
Where a merge takes up r (encode(q + r) is no longer than encode(q)), lm-eval raises; here q and r are encoded separately
and counted (`n_boundary`). An EOS that the tokenizer appends is removed: lm-eval would score it in r's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.core.errors import CheckpointError, DataError
from harness.core.pair import Pair
from harness.core.tokens import TokenPair, TokenSet


class Boundary(NamedTuple):
    """The text that is conditioned on and the text that is scored, with the white space between them in r."""

    q: str
    r: str


def boundary(q: str, r: str) -> Boundary:
    """Move trailing white space of q to r."""
    head = q.rstrip()
    return Boundary(head, q[len(head) :] + r)


def encode(tokenizer: Any, pairs: Sequence[Pair]) -> TokenSet:
    """Token ids of every pair, in order. Raises DataError for a response without tokens, CheckpointError for a
    tokenizer with neither BOS nor EOS where a pair needs one."""
    split = [boundary(pair.q, pair.r) for pair in pairs]
    prefix_id = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    prefix_text = tokenizer.decode([prefix_id]) if prefix_id is not None else None
    with_question = [index for index, item in enumerate(split) if item.q]
    without = [index for index, item in enumerate(split) if not item.q]
    contexts: dict[int, list[int]] = {}
    responses: dict[int, list[int]] = {}
    n_boundary = 0

    wholes = _encode_all(tokenizer, [split[i].q + split[i].r for i in with_question], prefix_text)
    heads = _encode_all(tokenizer, [split[i].q for i in with_question], prefix_text)
    for index, whole, head in zip(with_question, wholes, heads, strict=True):
        contexts[index], responses[index] = head, whole[len(head) :]
        if not responses[index]:
            (responses[index],) = _ids(tokenizer, [split[index].r], special=False)
            n_boundary += 1
    if without:
        if prefix_id is None:
            raise CheckpointError(
                f"pair {pairs[without[0]].id} has an empty q, and the tokenizer has neither a BOS nor an EOS token to stand "
                "for it; set one in tokenizer_config.json"
            )
        plain = _ids(tokenizer, [split[i].r for i in without], special=False)
        for index, ids in zip(without, plain, strict=True):
            begins = not pairs[index].q and bool(ids) and ids[0] == prefix_id
            contexts[index], responses[index] = (ids[:1], ids[1:]) if begins else ([prefix_id], ids)

    encoded = []
    for index, pair in enumerate(pairs):
        context, response = contexts[index], responses[index]
        if not context or not response:
            part = "q" if not context else "r"
            raise DataError(f"pair {pair.id}: {part} has no tokens under this tokenizer; remove the pair")
        encoded.append(
            TokenPair(
                id=pair.id,
                ids=np.array(context + response, dtype=np.int32),
                n_context=len(context),
                n_bytes=len(split[index].r.encode()),
                cluster=f"item {index}" if pair.cluster is None else f"cluster {pair.cluster}",
            )
        )
    return TokenSet(pairs=tuple(encoded), n_boundary=n_boundary)


def _encode_all(tokenizer: Any, texts: list[str], prefix_text: str | None) -> list[list[int]]:
    """Encode with the tokenizer's own special tokens, except where a text already begins with them."""
    ids: list[list[int]] = [[] for _ in texts]
    for special in (True, False):
        chosen = [i for i, text in enumerate(texts) if _needs_special(text, prefix_text) is special]
        if not chosen:
            continue
        some = [texts[i] for i in chosen]
        around = _around(tokenizer, some[0]) if special else Around([], [])
        by_itself = special and not around.after
        encoded = _ids(tokenizer, some, special=by_itself)
        for i, item in zip(chosen, encoded, strict=True):
            ids[i] = list(item) if by_itself else [*around.before, *item]
    return ids


def _ids(tokenizer: Any, texts: list[str], *, special: bool) -> list[list[int]]:
    """Ids of texts. Raises CheckpointError for a text that a vocabulary without an unknown token does not have."""
    try:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
    except Exception as error:
        if len(texts) == 1:
            raise CheckpointError(
                f"the tokenizer cannot encode {texts[0][:60]!r} ({error}); remove the pair, or give it an unk_token"
            ) from error
        return [one for text in texts for one in _ids(tokenizer, [text], special=special)]
    return ids


def _needs_special(text: str, prefix_text: str | None) -> bool:
    return not (prefix_text and text.startswith(prefix_text))


class Around(NamedTuple):
    """The special tokens that a tokenizer adds around a text (most: BOS before, nothing after)."""

    before: list[int]
    after: list[int]


def _around(tokenizer: Any, example: str) -> Around:
    for text in ("a", example):  # a vocabulary without letters has no token for "a"
        try:
            bare, full = (_ids(tokenizer, [text], special=special)[0] for special in (False, True))
        except CheckpointError:
            continue
        for start in range(len(full) - len(bare) + 1) if bare else ():
            if full[start : start + len(bare)] == bare:
                return Around(full[:start], full[start + len(bare) :])
    return Around([], [])
