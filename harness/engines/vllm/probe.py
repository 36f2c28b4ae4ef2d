"""Is what is served the checkpoint? Its log-probs of a few tokens over HTTP, beside its own.

Half precision rounds every logit, and logits of unlikely tokens are large: hence a bound that grows with what is compared,
on the mean, and one for the worst token.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.core.errors import CheckpointError
from harness.core.serving import Servable
from harness.engines.vllm.api import Api
from harness.engines.vllm.rendering import rendering_difference

N_TOKENS = 32
"""Length of the probe, in tokens."""


class Tolerance(NamedTuple):
    """Nats per token by which served and own log-probs may differ: on average, and at the worst token."""

    mean: float
    worst: float


TOLERANCES = {"float32": Tolerance(0.005, 0.02)}
HALF = Tolerance(0.1, 1.0)
"""Of bfloat16, float16 and whatever else; weights quantised by an option of the user's may need serve.verify: false."""


def probe_ids(folder: Path, *, max_len: int | None = None) -> list[int]:
    """Token ids below the vocabulary of the model in `folder`, the same at every call."""
    size = 256
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        size = int((config.get("text_config") or config)["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    draw = random.Random(0)
    return [draw.randrange(size) for _ in range(max(2, min(N_TOKENS, (max_len or N_TOKENS + 1) - 1)))]


def difference(served: Sequence[float], own: Sequence[float], dtype: str | None) -> str | None:
    """In words, how far apart they are; None where they agree within what the dtype allows."""
    if not all(map(math.isfinite, own)):
        return "the checkpoint's own log-probs are not finite"
    tolerance = TOLERANCES.get(dtype or "", HALF)
    apart = [abs(a - b) for a, b in zip(served, own, strict=True)]
    mean, worst = sum(apart) / len(apart), max(apart)
    if mean <= tolerance.mean and worst <= tolerance.worst:
        return None
    return (
        f"its log-probs differ from the checkpoint's own by {mean:.3g} nats per token, {worst:.3g} at worst "
        f"({tolerance.mean:g} and {tolerance.worst:g} are allowed in {dtype or 'half precision'})"
    )


class Verifier:
    """Compares models on a server with their checkpoints; remembers what checkpoints say of themselves."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._own: dict[tuple[str, tuple[int, ...]], list[float]] = {}
        self._last: dict[str, tuple[str, list[float]]] = {}
        """Model name on the server -> the checkpoint that was verified under it last, and what it said."""

    def verify(self, api: Api, name: str, wanted: Servable, *, dtype: str | None, max_len: int | None) -> list[float]:
        """The served log-probs of the probe, finite and, where it can be known, the checkpoint's own.

        Raises NotFiniteError, CheckpointError where they are another's, EngineError where the server gives none.
        """
        ids = probe_ids(wanted.model, max_len=max_len)
        served = api.logprobs(name, ids)
        if not self._enabled or wanted.logprobs is None:
            return served
        own = self._own_of(wanted, ids)
        apart = difference(served, own, dtype)
        if apart is not None:
            raise CheckpointError(f"what vLLM serves as {wanted.label} is not it: {apart}")
        key = f"{api.root} {name}"
        before = self._last.get(key)
        if before is not None and before[0] != wanted.fingerprint and before[1] == served:
            # Weights a step apart may lie within the tolerance; but other weights do not give the same bits.
            past = self._own.get((before[0], tuple(ids)))
            if past is not None and past != own:
                raise CheckpointError(f"vLLM still serves the checkpoint before {wanted.label}")
        self._last[key] = wanted.fingerprint, served
        return served

    def prepare(self, wanted: Servable) -> None:
        """Ask the checkpoint itself, before a server is asked to load what cannot be loaded or is broken.

        Raises CheckpointError or EngineError.
        """
        if self._enabled and wanted.logprobs is not None and not self.own_is_finite(wanted):
            raise CheckpointError(
                f"{wanted.label} gives log-probs that are not finite: its weights hold NaN or infinity, or overflow in this "
                "dtype; the checkpoint is broken"
            )

    def rendering(self, api: Api, name: str, wanted: Servable) -> str | None:
        """How the server's prompts differ from the checkpoint's own, in words; None where they agree or nobody compares.

        Raises EngineError for a server that does not tokenize conversations.
        """
        return rendering_difference(api, name, wanted) if self._enabled and wanted.render is not None else None

    def own_is_finite(self, wanted: Servable) -> bool:
        """Whether the checkpoint itself gives finite log-probs, as far as that can be known."""
        if not self._enabled or wanted.logprobs is None:
            return False
        return all(map(math.isfinite, self._own_of(wanted, probe_ids(wanted.model))))

    def _own_of(self, wanted: Servable, ids: Sequence[int]) -> list[float]:
        key = wanted.fingerprint, tuple(ids)
        if key not in self._own:
            assert wanted.logprobs is not None
            self._own[key] = list(wanted.logprobs(ids))
        return self._own[key]
