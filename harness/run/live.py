"""The reward environment as a trainer calls it: a model in memory goes in, its reward vector comes out (Algorithm 2)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from harness.checkpoints.fingerprint import live_fingerprint
from harness.core.checkpoint import Checkpoint
from harness.core.endpoint import Endpoint
from harness.core.errors import DataError, SpecError
from harness.core.measurement import describe
from harness.core.vector import CheckpointRecord, ComponentRecord, Mixture, RewardVector
from harness.feed.feed import Feed
from harness.run.ledger import Ledger, open_run
from harness.run.measure import measure_component
from harness.run.observer import Observer
from harness.run.vectors import RunVectors
from harness.spec.prepared import Prepared, prepare
from harness.spec.spec import Spec, default_spec, load_spec, override
from harness.track.tracking import Tracking

OnAlarm = Callable[[RewardVector, ComponentRecord], None]
"""Called with a vector and the source component in it that lost more than it may."""


def _count(name: str, value: Any) -> int:
    """The value as an int: one of numpy or torch is as good. Raises DataError."""
    try:
        count = operator.index(value)
    except TypeError:
        count = -1
    if count < 0:
        raise DataError(f"{name} is {value!r}; it must be a whole number, not negative")
    return count


class LiveSubject:
    """A Subject that is already in memory."""

    def __init__(self, model: Any, tokenizer: Any, tokenizer_id: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._tokenizer_id = tokenizer_id

    def model(self) -> Any:
        """The model as it is; scoring leaves it as it was."""
        return self._model

    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self._tokenizer

    def tokenizer_id(self) -> str:
        """Its tokenizer's identity."""
        return self._tokenizer_id

    def notes(self) -> list[str]:
        """Nothing that a reader should know."""
        return []

    def endpoint(self) -> Endpoint:
        """A model in memory is on no server. Raises SpecError."""
        raise SpecError("a live model is on no server; save it and use `harness score`, or leave served components out")


class RewardEnvironment:
    """Scores a live model after each step and remembers the trajectory.

    `spec` is a Spec, one made ready, the path of one, or nothing for the offline default. With `out`, measurements and vectors go to
    that folder as `harness score` would write them, and a restarted training continues its feed; without, they are
    kept in memory. Fields are read on construction. `on_alarm` is called for every source component that has lost more than
    it may (`allowed_loss`) since its best step. `track`: trackers in place of the spec's; `close`, or the end of a `with` block, ends
    their runs. Raises SpecError or DataError.
    """

    def __init__(
        self,
        spec: Spec | Prepared | str | Path | None = None,
        *,
        out: str | Path | None = None,
        run: str | None = None,
        on_alarm: OnAlarm | None = None,
        track: str | Sequence[str] | None = None,
    ) -> None:
        if spec is None:
            spec = default_spec()
        elif not isinstance(spec, Spec | Prepared):
            spec = load_spec(spec)
        if track is not None:
            whole = spec.spec if isinstance(spec, Prepared) else spec
            spec = override(whole, track=[track] if isinstance(track, str) else list(track))
        self.prepared = spec if isinstance(spec, Prepared) else prepare(spec)
        spec = self.prepared.spec
        if spec.vary:
            raise SpecError("a live model gives one vector a step, so its spec cannot have `vary`")
        served = [component.config.name for component in self.prepared.components if component.served]
        if served:
            raise SpecError(
                f"{', '.join(served)} need a checkpoint on a server, and a live model is on none; "
                "leave them out of this spec, and measure them on saved checkpoints with `harness score`"
            )
        self.out = None if out is None else Path(out)
        self.run = run or self.prepared.run
        self.on_alarm = on_alarm
        self._ledger: Ledger | None = None
        self._tracking = Tracking(spec.track, folder=self.out, tell=Observer().warning)
        self._vectors = RunVectors(self.prepared, run_name=self.run, feed=None, tracking=self._tracking)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the trackers' runs, and wait for that; `feedback` afterwards continues them. Does nothing without trackers."""
        self._tracking.close()

    @property
    def feed(self) -> Feed:
        """Every vector so far (with `out`, those of earlier processes too, once `feedback` was called)."""
        return Feed(self._vectors.all)

    def feedback(
        self,
        model: Any,
        tokenizer: Any,
        *,
        step: int,
        mixture: Mixture | Mapping[str, Any] | None = None,
        trajectory: str = "live",
        tokens_seen: int | None = None,
        path: str = "live",
    ) -> RewardVector:
        """Score `model` where it is and return its reward vector.

        Same numbers as scoring the folder `model.save_pretrained` would write (unless the model was cast by
        `model.bfloat16()`, which also rounds rotary frequencies that no folder holds). Train/eval state of every module,
        gradients, hooks and random state are left as they were. What cannot be measured is a failed component in the
        vector, not an exception. The same weights at the same step return the vector already written; other weights at a
        step that was measured before take its place, and the gains after it follow.
        Raises SpecError for a dtype that is not the model's, DataError for a malformed mixture or step, EngineError
        for what is no transformers model, StateError for `out`.
        """
        from harness.engines.models.live import unwrap
        from harness.engines.models.load import dtype_name
        from harness.engines.models.tokenizer_identity import tokenizer_digest
        from harness.engines.scoring.products import fix_products

        model = unwrap(model)
        wanted = self.prepared.spec.dtype
        if wanted not in ("auto", dtype_name(model)):
            raise SpecError(
                f"the spec asks for dtype {wanted}, but the live model is {dtype_name(model)}; set dtype: auto"
            )
        step = _count("step", step)
        tokens_seen = None if tokens_seen is None else _count("tokens_seen", tokens_seen)
        try:
            rho = None if mixture is None else Mixture.parse(mixture)
        except (ValidationError, TypeError) as error:
            words = describe(error, Mixture) if isinstance(error, ValidationError) else str(error)
            raise DataError(f"mixture at step {step}: {words}") from error
        tokenizer_id = tokenizer_digest(tokenizer)
        record = CheckpointRecord(
            path=path,
            kind="live",
            fingerprint=live_fingerprint(model),
            tokenizer=tokenizer_id,
            tokens_seen=tokens_seen,
        )
        checkpoint = Checkpoint(
            label=path,
            folder=Path(path),
            kind="live",
            trajectory=trajectory,
            step=step,
            mixture=rho,
            tokens_seen=tokens_seen,
        )
        subject = LiveSubject(model, tokenizer, tokenizer_id)
        if self.out is None:
            return self._feedback(subject, checkpoint, record, None)
        dump = self.prepared.spec.as_json()
        known = self._ledger
        with open_run(self.out, run=self.run, spec_digest=self.prepared.digest, spec=dump, known=known) as ledger:
            if known is None:
                self._ledger = ledger
                self._vectors = RunVectors(self.prepared, run_name=self.run, feed=ledger.feed, tracking=self._tracking)
            else:
                self._vectors.refresh()
            self._vectors.products = ledger.products(fix_products)
            return self._feedback(subject, checkpoint, record, ledger)

    def _feedback(
        self, subject: LiveSubject, checkpoint: Checkpoint, record: CheckpointRecord, ledger: Ledger | None
    ) -> RewardVector:
        (row,) = self.prepared.rows
        place = row.place(checkpoint)
        known = self._vectors.at(place)
        weights = (record.fingerprint, record.tokenizer)
        if known and known.status != "failed" and (known.checkpoint.fingerprint, known.checkpoint.tokenizer) == weights:
            self._vectors.mix(known, checkpoint)
        else:
            entries = [
                measure_component(row, component, subject, record, ledger, Observer()) for component in row.components
            ]
            self._vectors.add(row, checkpoint, record, entries)
        self._vectors.settle()
        for alarming, component in self._vectors.alarms():
            if self.on_alarm is not None:
                self.on_alarm(alarming, component)
        vector = self._vectors.at(place)
        assert vector is not None
        return vector
