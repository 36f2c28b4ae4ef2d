"""A transformers Trainer callback: every save becomes a reward vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from harness.core.errors import SpecError
from harness.core.vector import Mixture, RewardVector
from harness.run.live import RewardEnvironment

MixtureSource = Mixture | Mapping[str, Any] | Callable[[int], Mixture | Mapping[str, Any] | None] | None


class RewardCallback(TrainerCallback):  # type: ignore[misc]
    """Calls `environment.feedback` on every save, on the main process only.

    `mixture` is what the trainer trains on, or a function of the step. `trajectory` defaults to the name of the
    output folder. `on_feedback` receives each vector, for an agent that decides the next mixture. Alarms (a source component
    that lost too much) are in `vector.alarms`, and are passed to `RewardEnvironment(on_alarm=...)`.
    """

    def __init__(
        self,
        environment: RewardEnvironment,
        *,
        mixture: MixtureSource = None,
        trajectory: str | None = None,
        on_feedback: Callable[[RewardVector], None] | None = None,
    ) -> None:
        self.environment = environment
        self.mixture = mixture
        self.trajectory = trajectory
        self.on_feedback = on_feedback

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the model as saved at this step.

        Raises SpecError without a tokenizer, and what `RewardEnvironment.feedback` raises.
        """
        if not state.is_world_process_zero:
            return
        tokenizer = kwargs.get("processing_class")
        if tokenizer is None:
            raise SpecError(
                "the Trainer has no tokenizer, and scoring needs it; pass Trainer(processing_class=tokenizer)"
            )
        output = Path(args.output_dir)
        mixture = self.mixture(state.global_step) if callable(self.mixture) else self.mixture
        vector = self.environment.feedback(
            kwargs["model"],
            tokenizer,
            step=state.global_step,
            mixture=mixture,
            trajectory=self.trajectory or output.resolve().name,
            tokens_seen=int(getattr(state, "num_input_tokens_seen", 0)) or None,
            path=str(output / f"checkpoint-{state.global_step}"),
        )
        if self.on_feedback is not None:
            self.on_feedback(vector)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the runs of the environment's trackers."""
        if state.is_world_process_zero:
            self.environment.close()
