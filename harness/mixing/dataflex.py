"""DataFlex's mixer `harness`: at each update the model is scored and an agent chooses the next proportions.

Importing this module needs the package `dataflex` and registers the mixer; docs/mixing.md has the two files that use it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from dataflex.core.registry import register_mixer
from dataflex.train.mixer.base_mixer import Mixer

from harness.core.errors import SpecError
from harness.mixing.domains import Floats
from harness.mixing.ranks import by_first
from harness.mixing.steering import Steering
from harness.run.live import RewardEnvironment


@register_mixer("harness")
class HarnessMixer(Mixer):  # type: ignore[misc]
    """`spec`, `agent`: a spec's file and an agent's folder. `out`: the run folder; default: `rewards` in the training's output folder.

    With several processes the first one scores and sends the result to the others. Raises SpecError.
    """

    def __init__(
        self,
        mixture_manager: Any,
        agent: str | None = None,
        spec: str | None = None,
        out: str | None = None,
        trajectory: str = "dataflex",
        data_collator: Any = None,
        output_dir: str | None = None,
    ) -> None:
        super().__init__(mixture_manager)
        if agent is None:
            raise SpecError(
                "the mixer `harness` has no agent; name the folder that `harness mix fit` wrote as params.agent"
            )
        self._collator = data_collator
        folder = out or (None if output_dir is None else str(Path(output_dir) / "rewards"))
        self._steering = Steering(
            RewardEnvironment(spec, out=folder), agent, domains=list(mixture_manager.names), trajectory=trajectory
        )

    def mix(self, model: Any, step_id: int, **kwargs: Any) -> Floats:
        """The next proportions, in the order of the manager's names. Raises SpecError without a tokenizer."""
        tokenizer = getattr(kwargs.get("data_collator") or self._collator, "tokenizer", None)
        if tokenizer is None:
            raise SpecError("DataFlex's data collator has no tokenizer, and scoring needs it")
        shares = np.asarray(self.mixture_manager.probs, dtype=np.float64)
        return by_first(lambda: self._steering.next(model, tokenizer, step=step_id, trained_on=shares.tolist()))


def main() -> None:
    """`python -m harness.mixing.dataflex train.yaml`: DataFlex's own launcher, with the mixer registered."""
    from dataflex import launcher

    sys.argv = ["dataflex", *sys.argv[1:]]
    launcher.launch()


if __name__ == "__main__":
    main()
