"""Checks that a server serves the checkpoint: compares log-probs of a few tokens over HTTP with those of the in-process model.

Half precision rounds every logit, and logits of unlikely tokens are large: hence a bound on the mean difference and a wider one on the
worst token's, both wider in half precision.
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
"""For bfloat16, float16 and any other dtype; weights quantised by an option of the user's may need serve.verify: false."""


def probe_ids(folder: Path, *, max_len: int | None = None) -> list[int]:
    """Token ids within the vocabulary of the model in `folder`, the same at every call, fewer than `max_len`."""
    size = 256
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        size = int((config.get("text_config") or config)["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    draw = random.Random(0)
    return [draw.randrange(size) for _ in range(max(2, min(N_TOKENS, (max_len or N_TOKENS + 1) - 1)))]


def difference(served: Sequence[float], own: Sequence[float], dtype: str | None) -> str | None:
    """A message on how far log-probs (nats) differ; None where they agree within the tolerance of the dtype."""
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
    """Compares models on a server with their checkpoints; caches the checkpoints' own log-probs."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._own: dict[tuple[str, tuple[int, ...]], list[float]] = {}
        self._last: dict[str, tuple[str, list[float]]] = {}
        """Server and model name -> fingerprint of the checkpoint that was verified under it last, and its served log-probs."""

    def verify(self, api: Api, name: str, wanted: Servable, *, dtype: str | None, max_len: int | None) -> list[float]:
        """The served log-probs of the probe, checked to be finite and, if comparison is enabled, the checkpoint's own.

        Raises NotFiniteError, CheckpointError where they differ from its own, EngineError where the server gives none.
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
            # Weights one step apart may agree within the tolerance, but they do not give the same bits.
            past = self._own.get((before[0], tuple(ids)))
            if past is not None and past != own:
                raise CheckpointError(f"vLLM still serves the checkpoint before {wanted.label}")
        self._last[key] = wanted.fingerprint, served
        return served

    def prepare(self, wanted: Servable) -> None:
        """Load the checkpoint in process first, so that one that cannot be loaded or is broken is never put on a server.

        Raises CheckpointError or EngineError.
        """
        if self._enabled and wanted.logprobs is not None and not self.own_is_finite(wanted):
            raise CheckpointError(
                f"{wanted.label} gives log-probs that are not finite: its weights hold NaN or infinity, or overflow in this "
                "dtype; the checkpoint is broken"
            )

    def rendering(self, api: Api, name: str, wanted: Servable) -> str | None:
        """A message on how the server's prompts differ from the checkpoint's own; None where they agree, or comparison is disabled.

        Raises EngineError for a server that does not tokenize conversations.
        """
        return rendering_difference(api, name, wanted) if self._enabled and wanted.render is not None else None

    def own_is_finite(self, wanted: Servable) -> bool:
        """Whether the checkpoint's own log-probs are finite; False where comparison is disabled."""
        if not self._enabled or wanted.logprobs is None:
            return False
        return all(map(math.isfinite, self._own_of(wanted, probe_ids(wanted.model))))

    def _own_of(self, wanted: Servable, ids: Sequence[int]) -> list[float]:
        key = wanted.fingerprint, tuple(ids)
        if key not in self._own:
            assert wanted.logprobs is not None
            self._own[key] = list(wanted.logprobs(ids))
        return self._own[key]
