"""Greedy text completions from a transformers model, for ScriptedServer: a server for machines without vLLM. Slow, exact."""

from __future__ import annotations

import threading
from typing import Any

import torch

from harness.engines.scripted.server import TextAnswer, TextRequest


class TransformersCompleter:
    """Answers with what `model` writes, one request at a time. A stop string ends the text and is not part of it."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._lock = threading.Lock()

    def __call__(self, request: TextRequest) -> TextAnswer:
        """The completion of one prompt."""
        ids = self._tokenizer.encode(request.prompt) if isinstance(request.prompt, str) else list(request.prompt)
        stop = [mark for mark in request.stop if mark]
        options: dict[str, Any] = {"stop_strings": stop, "tokenizer": self._tokenizer} if stop else {}
        with self._lock, torch.no_grad():
            prompt = torch.tensor([ids], device=next(self._model.parameters()).device)
            made = self._model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=request.max_tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                **options,
            )[0, len(ids) :].tolist()
        text = self._tokenizer.decode(made, skip_special_tokens=True)
        stopped = any(mark in text for mark in stop) or made[-1:] == [self._tokenizer.eos_token_id]
        for mark in stop:
            text = text.split(mark)[0]
        return TextAnswer(text=text, finish_reason="stop" if stopped else "length", n_tokens=len(made))
