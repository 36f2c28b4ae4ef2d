"""How a server of one checkpoint is started: the Launch made of a checkpoint and the settings."""

from __future__ import annotations

from harness.core.serving import Servable, ServeSettings
from harness.engines.vllm.command import Launch, rank_room
from harness.engines.vllm.layout import adapter_rank, saved_dtype
from harness.engines.vllm.loadable import check_length, check_loadable

NAME = "checkpoint"
"""What requests call the full model on a managed server; an adapter has a name of its own."""


def launch_for(
    wanted: Servable,
    settings: ServeSettings,
    *,
    dtype: str,
    name: str = NAME,
    host: str = "127.0.0.1",
    gpu_memory_utilization: float | None = None,
    trust_remote_code: bool = False,
    dev: bool = False,
) -> Launch:
    """How a server of this checkpoint is started: with `dtype` auto in the saved type, and with room for its adapter.

    Raises CheckpointError for an adapter that vLLM cannot load, or a context that the model does not have.
    """
    check_loadable(wanted)
    check_length(wanted.model, settings)
    rank = None if wanted.adapter is None else rank_room(adapter_rank(wanted.adapter))
    chosen = saved_dtype(wanted.model) if dtype == "auto" else dtype
    return Launch(
        model=wanted.model,
        name=name,
        tokenizer=None if wanted.tokenizer == wanted.model else wanted.tokenizer,
        dtype=None if chosen == "float64" else chosen,
        max_rank=rank,
        max_loras=settings.max_loras,
        gpu_memory_utilization=gpu_memory_utilization,
        trust_remote_code=trust_remote_code,
        dev=dev,
        host=host,
    )
