"""Where a checkpoint answers over HTTP. Records only: who starts, swaps and watches servers is the engines' business."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

How = Literal["start", "restart", "reload", "adapter", "kept", "external"]
"""The way a checkpoint came onto its server: the server was started with it, weights were reloaded, an adapter was
loaded beside others, it was there already, or the server is the user's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible server that has one checkpoint loaded. `api_base` ends in /v1; `model` is what requests name.

    `max_model_len`: tokens of a prompt and its answer together, None where the server does not say. The key is not
    part of what is printed. `parallel`: requests the server can usefully have in flight. `note`: what a reader of numbers
    should know about the server, such as that it could not be compared with the checkpoint. `own_length`: tokens of the model's own
    context where the server was set to fewer, so that an overflow is the setting's and not the model's. `logprobs`: whether the
    server says how likely each token of an answer was, which is asked for so that an answer made of NaN is seen.
    `opens_thought`: whether the chat template's prompts end within a thought.
    """

    api_base: str
    model: str
    how: How
    api_key: str | None = field(default=None, repr=False)
    engine: str = "vllm"
    dtype: str | None = None
    device: str | None = None
    max_model_len: int | None = None
    parallel: int = 64
    version: str | None = None
    note: str | None = None
    own_length: int | None = None
    logprobs: bool = False
    opens_thought: bool = False
