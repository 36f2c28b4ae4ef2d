"""kind: entropy. How undecided a checkpoint is: mean entropy of its next token over the lines of a text file, in nats."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.plugin import (
    BaseComponent,
    ComponentConfig,
    DataError,
    Defaults,
    Engine,
    Measurement,
    Outcome,
    Progress,
    Subject,
    clustered_mean,
    digest_json,
    failed,
)

METRIC = "entropy"


class EntropyConfig(ComponentConfig):
    """Keys of the component in a spec."""

    kind: Literal["entropy"]
    texts: str = Field(description="a text file, one text a line, relative to the spec")


class EntropyComponent(BaseComponent):
    """The lines of a file, ready to be read by any checkpoint."""

    Config = EntropyConfig
    metric = METRIC
    higher_is_better = False

    def __init__(self, config: EntropyConfig, texts: list[str]) -> None:
        self.config = config
        self.texts = texts
        self.n_items = len(texts)
        # Equal definitions give comparable numbers: over the content, never over names and paths.
        self.definition = {"metric": METRIC, "content": digest_json(list(texts))}
        self.task = {"file": Path(config.texts).name}

    @staticmethod
    def resolve(config: EntropyConfig, folder: Path) -> EntropyConfig:
        """The file is relative to the spec."""
        return config.model_copy(update={"texts": str(folder / config.texts)})

    @classmethod
    def load(cls, config: EntropyConfig, defaults: Defaults) -> EntropyComponent:
        """Read the lines. Raises DataError."""
        try:
            texts = [line for line in Path(config.texts).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {config.texts}: {error}") from error
        if not texts:
            raise DataError(f"{config.texts} has no line with text")
        return cls(config, texts)

    def measure(self, subject: Subject, progress: Progress, scratch: Path) -> Outcome:
        """Mean over lines of each line's mean entropy, lines being the items. Raises HarnessError."""
        import torch

        model, tokenizer = subject.model(), subject.tokenizer()
        values: list[float] = []
        for text in self.texts:
            ids = torch.tensor([tokenizer(text)["input_ids"]], device=model.device)
            with torch.no_grad():
                logprob = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), dim=-1)
            values.append(float(-(logprob.exp() * logprob).sum(dim=-1).mean()))
            progress.advance(items=1, tokens=ids.shape[1])
        engine = Engine(name="torch", dtype=str(model.dtype).removeprefix("torch."), device=model.device.type)
        ids_of = [f"line {number}" for number in range(1, len(values) + 1)]
        return Outcome(
            measurement=self._measurement(values), engine=engine, items={"id": ids_of, "value": _finite(values)}
        )

    def _measurement(self, values: list[float]) -> Measurement:
        scored = [value for value in values if value == value]  # NaN is no value
        if not scored:
            return failed(METRIC, "no entropy is finite; are the weights?", n_items=len(values), higher_is_better=False)
        mean, stderr = clustered_mean(scored, range(len(scored)))
        return Measurement(
            metric=METRIC,
            higher_is_better=False,
            raw=mean,
            stderr=stderr,
            n_items=len(values),
            n_scored=len(scored),
            status="ok" if len(scored) == len(values) else "partial",
            reason=None
            if len(scored) == len(values)
            else f"{len(values) - len(scored)} line(s) gave no finite entropy",
        )


def _finite(values: list[float]) -> list[Any]:
    return [value if value == value else None for value in values]
