"""A transformers Trainer callback: every `every` steps the model is scored and the stream that it trains on re-weighted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from harness.core.errors import SpecError
from harness.mixing.baselines import Policy
from harness.mixing.ranks import by_first
from harness.mixing.steering import Steering
from harness.mixing.stream import MixedStream
from harness.run.live import RewardEnvironment


class MixingCallback(TrainerCallback):  # type: ignore[misc]
    """Scores before the first step and after every `every` steps, and sets the stream's shares to the policy's mixture.

        stream = MixedStream({"web": web, "code": code})
        callback = MixingCallback(RewardEnvironment("spec.yaml", out="results/live"), stream, "agent/", every=100)
        Trainer(model=model, args=TrainingArguments(max_steps=8000, ...), train_dataset=stream, callbacks=[callback])

    A training that is resumed from a checkpoint continues its trajectory, with the shares that it had; the Trainer itself decides which
    part of the stream is read again. `on_mixture(step, shares)` is called with each mixture. With several processes the first one scores
    and sends the result to the others. Raises SpecError for `every` below 1, and what `Steering` raises.
    """

    def __init__(
        self,
        environment: RewardEnvironment,
        stream: MixedStream,
        policy: Policy | str | Path,
        *,
        every: int,
        trajectory: str = "training",
        on_mixture: Callable[[int, list[float]], None] | None = None,
    ) -> None:
        if every < 1:
            raise SpecError(f"every is {every}; give a number of steps from 1 on")
        self.stream = stream
        self.every = every
        self.on_mixture = on_mixture
        self._steering = Steering(environment, policy, domains=stream.domains, trajectory=trajectory)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the initial model. Raises SpecError where no process has the whole model."""
        if args.world_size > 1 and (getattr(args, "fsdp", None) or getattr(args, "deepspeed", None)):
            raise SpecError(
                "MixingCallback scores in one process, and FSDP and DeepSpeed may spread a model over several; save "
                "checkpoints, and mix by `harness watch` and `harness mix next`"
            )
        self._steer(state, kwargs, begun=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score and re-weight after every `every` steps."""
        if state.global_step % self.every == 0:
            self._steer(state, kwargs, begun=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the runs of the environment's trackers."""
        self._steering.environment.close()

    def _steer(self, state: Any, kwargs: dict[str, Any], *, begun: bool) -> None:
        tokenizer = kwargs.get("processing_class")
        if tokenizer is None:
            raise SpecError(
                "the Trainer has no tokenizer, and scoring needs it; pass Trainer(processing_class=tokenizer)"
            )
        step = int(state.global_step)
        if step % self.every:  # resumed between two feedbacks
            chosen = by_first(lambda: self._steering.chosen_before(step))
            if chosen is not None:
                self.stream.set_shares(chosen.tolist())
            return
        trained_on = self.stream.shares if begun else self._steering.trained_on(step)
        chosen = by_first(
            lambda: self._steering.next(
                kwargs["model"],
                tokenizer,
                step=step,
                trained_on=trained_on,
                tokens_seen=int(getattr(state, "num_input_tokens_seen", 0)) or None,
            )
        )
        self.stream.set_shares(chosen.tolist())
        if self.on_mixture is not None:
            self.on_mixture(step, self.stream.shares)
