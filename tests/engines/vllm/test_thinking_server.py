"""A model with marks for its thoughts on a real vLLM: started with the parser that its template asks for, read as it writes."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tool_model import plays
from vllm_here import cpu_settings, needs_vllm

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.open import Opener
from harness.core.chat import ChatAnswer, ChatRequest
from harness.core.opening import OpenOptions
from harness.engines.chat.http_chat import HttpChat

pytestmark = needs_vllm


@pytest.fixture(scope="module")
def thinker(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that calls tools, with two tokens that it never writes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("thinker") / "checkpoint-1"
    tokenizer = AutoTokenizer.from_pretrained(tools)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template += "{# an answer may begin with <think> #}"
    model = AutoModelForCausalLM.from_pretrained(tools)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.get_output_embeddings().weight.data[-2:] = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_that_does_not_think_says_and_calls_what_it_did_without_a_parser(thinker: Path, tmp_path: Path) -> None:
    """Most parsers take an answer without marks for a thought that never ends, calls and all."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(thinker)
    (checkpoint,) = find_checkpoints([str(thinker)])
    options = OpenOptions(dtype="auto", device="cpu", serve=cpu_settings(max_model_len=2048))
    with closing(Opener(options, log_folder=tmp_path)) as opener, opener.open(checkpoint) as subject:
        endpoint = subject.endpoint()
        (log,) = tmp_path.glob("*.log")
        assert "'reasoning_parser': 'qwen3'" in log.read_text()
        assert endpoint.logprobs and not endpoint.opens_thought

        async def ask(requests: list[ChatRequest], **more: Any) -> list[ChatAnswer]:
            chat = HttpChat(
                name="checkpoint",
                model=endpoint.model,
                api_base=endpoint.api_base,
                api_key=endpoint.api_key,
                arguments={"temperature": 0.0, "max_tokens": 100, **more},
                timeout_s=120,
                logprobs=True,
            )
            try:
                return [await chat.answer(request) for request in requests]
            finally:
                await chat.close()

        heard = plays()
        answers = asyncio.run(ask([request for request, _ in heard]))
        close = tokenizer.convert_tokens_to_ids("</think>")
        (forced,) = asyncio.run(ask([heard[0][0]], logit_bias={str(close): 100.0}, max_tokens=3))
    for answer, (_, wanted) in zip(answers, heard, strict=True):
        assert answer.reasoning is None
        assert (answer.content or "").strip() == (wanted.content or "").strip()
        calls = [[(call.name, json.loads(call.arguments)) for call in one.tool_calls] for one in (answer, wanted)]
        assert calls[0] == calls[1]
    assert forced.content is None, "nothing but the end of a thought is nothing said"
