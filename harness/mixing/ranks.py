"""The first process of a distributed training decides, and broadcasts the result, or its failure, to the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from harness.core.errors import EngineError

Answer = TypeVar("Answer")


def by_first(decide: Callable[[], Answer]) -> Answer:
    """The result of `decide` in the first process, in every process; all have to call this. With one process just `decide()`.

    Raises what `decide` raises; in the other processes EngineError, so that none of them waits without end.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return decide()
    told: list[Answer | str | None] = [None, None]
    failure: Exception | None = None
    if dist.get_rank() == 0:
        try:
            told[0] = decide()
        except Exception as error:  # noqa: BLE001 - raised below, once the others know
            failure, told[1] = error, f"{type(error).__name__}: {error}"
    dist.broadcast_object_list(told, src=0)
    if failure is not None:
        raise failure
    if told[1] is not None:
        raise EngineError(f"the first process of the training could not score: {told[1]}")
    return told[0]  # type: ignore[return-value]
