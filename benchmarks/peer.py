"""The peer: lm-eval's `hf` model given token ids, so that neither side tokenises."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from harness.core.tokens import TokenPair


class Peer:
    """HFLM around the very model object that we score, logits_cache as lm-eval has it by default."""

    def __init__(self, model: Any, *, device: str = "cpu", batch_size: int = 1) -> None:
        from lm_eval.models.huggingface import HFLM

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>")
        self._lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=device)

    def score(self, pairs: Sequence[TokenPair]) -> list[float]:
        """Summed nats per pair."""
        requests = [
            ((pair.id, ""), pair.ids[: pair.n_context].tolist(), pair.ids[pair.n_context :].tolist()) for pair in pairs
        ]
        return [value for value, _ in self._lm._loglikelihood_tokens(requests, disable_tqdm=True)]
