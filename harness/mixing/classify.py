"""Domains of texts by a classifier, and with it an estimate of the start state of a model whose training data is not known: the texts
that it generates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from harness.core.errors import DataError
from harness.mixing.domains import Floats

BATCH = 32


class Classifier(Protocol):
    """Assigns one of its `labels` to each text."""

    labels: Sequence[str]

    def classify(self, texts: Sequence[str]) -> list[int]:
        """Positions in `labels`, one per text."""
        ...


class PipelineClassifier:
    """A text classifier of transformers, from a local folder or a hub id, such as nvidia/domain-classifier's 26 classes."""

    def __init__(self, model: str, *, device: str = "cpu") -> None:
        from transformers import pipeline

        try:
            self._pipeline: Any = pipeline("text-classification", model=model, device=device)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot load the classifier {model}: {str(error).splitlines()[0]}") from error
        by_id: Mapping[int, str] = self._pipeline.model.config.id2label
        self.labels: Sequence[str] = [by_id[position] for position in sorted(by_id)]

    def classify(self, texts: Sequence[str]) -> list[int]:
        """Positions in `labels`; texts longer than the classifier's context are cut."""
        padded = self._pipeline.tokenizer.pad_token_id is not None
        found = self._pipeline(list(texts), batch_size=BATCH if padded else 1, truncation=True)
        return [self.labels.index(one["label"]) for one in found]


class KeywordClassifier:
    """The label whose words a text has most of, the first where several do: small, for demonstrations and tests."""

    def __init__(self, words: Mapping[str, Sequence[str]]) -> None:
        self.labels = list(words)
        self._words = [{word.lower() for word in some} for some in words.values()]

    def classify(self, texts: Sequence[str]) -> list[int]:
        """Positions in `labels`, by the counts of their words."""
        counts = [
            [sum(word in some for word in re.findall(r"\w+", text.lower())) for some in self._words] for text in texts
        ]
        return [int(np.argmax(one)) for one in counts]


def shares_of(texts: Sequence[str], classifier: Classifier) -> Floats:
    """Shares of the classifier's labels among texts, shape [labels]; sums to 1. Raises DataError without texts."""
    if not texts:
        raise DataError("no texts to classify")
    found = np.bincount(classifier.classify(texts), minlength=len(classifier.labels)).astype(np.float64)
    shares: Floats = found / found.sum()
    return shares


def sample_texts(
    model: Any, tokenizer: Any, *, number: int, length: int = 128, batch: int = 64, seed: int = 0
) -> list[str]:
    """Texts that a causal LM generates after its BOS token at temperature 1: a sample of the data that it was trained on.

    EOS where there is no BOS; raises DataError where there is neither. `length` in tokens.
    """
    import torch

    start = next((one for one in (tokenizer.bos_token_id, tokenizer.eos_token_id) if one is not None), None)
    if start is None:
        raise DataError("the tokenizer has neither a BOS nor an EOS token to begin a text with")
    texts: list[str] = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        while len(texts) < number:
            ids = torch.full((min(batch, number - len(texts)), 1), start, device=model.device)
            written = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=length,
                pad_token_id=start,
            )  # fmt: skip
            texts += tokenizer.batch_decode(written[:, 1:], skip_special_tokens=True)
    return texts
