"""A checkpoint that really calls tools: a small model overfitted on the reference plays of tau2's mock domain.

`save(folder)` trains and writes it, in half a minute on two cores; `trained()` does so once per process. It answers the user whom
harness.tau2.simulate.reference_play.ReferencePlay plays, in hermes' format, at temperature 0.
"""

from __future__ import annotations

import functools
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from tau2_online import plan, run_plan
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.core.chat import ChatAnswer, ChatRequest
from harness.engines.scripted.chat import ScriptedChat
from harness.tasks.tau2.sources import open_domain
from harness.tau2.simulate.reference_play import ReferencePlay

TEMPLATE = """{%- if messages[0].role == 'system' or tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}
{%- if tools %}

# Tools
<tools>
{%- for tool in tools %}
{{ tool.function | tojson }}
{%- endfor %}
</tools>
Call one with <tool_call>{"name": ..., "arguments": ...}</tool_call>{% endif %}<|im_end|>
{% endif %}
{%- for message in messages %}{% if message.role != 'system' %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def plays() -> list[tuple[ChatRequest, ChatAnswer]]:
    """Every request the agent gets in the mock domain's tasks when all goes by the reference, with its answer."""
    play = ReferencePlay(open_domain("mock").tasks())
    heard: list[tuple[ChatRequest, ChatAnswer]] = []

    def agent(request: ChatRequest) -> ChatAnswer:
        answer = play(request)
        heard.append((request, answer))
        return answer

    with tempfile.TemporaryDirectory() as folder:
        run_plan(plan("mock"), Path(folder) / "run", ScriptedChat(agent), ScriptedChat(play))
    return heard


def wire(answer: ChatAnswer) -> dict[str, Any]:
    """An answer as a message."""
    calls = [
        {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
        for call in answer.tool_calls
    ]
    return {"role": "assistant", "content": answer.content or "", **({"tool_calls": calls} if calls else {})}


def conversation(request: ChatRequest) -> list[dict[str, Any]]:
    """The messages with the arguments of calls as objects, as vLLM hands them to a template."""
    messages = json.loads(json.dumps(list(request.messages)))
    for message in messages:
        for call in message.get("tool_calls") or ():
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return messages


def tokenizer(texts: list[str], *, vocab_size: int = 1500) -> Any:
    """A byte-level BPE tokenizer of these texts, with the template above. It merges across words: the long system prompt, the
    same in every dialogue, becomes few tokens, and training quick."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
            max_token_length=48,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:],
        chat_template=TEMPLATE,
    )


def encode(tok: Any, request: ChatRequest, answer: ChatAnswer) -> tuple[list[int], int]:
    """The ids of prompt and answer, and where the answer begins."""
    settings = {"tools": list(request.tools) or None, "tokenize": False}
    messages = conversation(request)
    before = tok.apply_chat_template(messages, add_generation_prompt=True, **settings)
    after = tok.apply_chat_template([*messages, wire(answer)], **settings).removesuffix("\n")
    assert after.startswith(before)
    prompt = tok(before, add_special_tokens=False)["input_ids"]
    return prompt + tok(after[len(before) :], add_special_tokens=False)["input_ids"], len(prompt)


def train(pairs: list[tuple[list[int], int]], vocab_size: int, *, steps: int = 120, seed: int = 0) -> Any:
    """A model that gives every answer of the pairs, by greedy decoding, with some margin."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            tie_word_embeddings=False,  # the CPU build keeps a packed copy of a tied head, which no reload reaches
            bos_token_id=None,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    width = max(len(ids) for ids, _ in pairs)
    ids = torch.zeros(len(pairs), width, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, (sequence, start) in enumerate(pairs):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        labels[row, start : len(sequence)] = ids[row, start : len(sequence)]
    model.train()
    for _ in range(3):  # a round that did not suffice is followed by another
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / 20) * (1.05 + math.cos(math.pi * step / steps)) / 2
        )
        for _ in range(steps):
            loss = model(input_ids=ids, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if knows(model, pairs):
            return model.eval()
    raise AssertionError(f"the model did not learn its lines (loss {loss.item():.3g})")


def knows(model: Any, pairs: list[tuple[list[int], int]]) -> bool:
    """Whether every token of every answer is the likeliest."""
    with torch.no_grad():
        return all(
            model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].argmax(-1).tolist() == ids[start:]
            for ids, start in pairs
        )


def save(folder: Path, *, seed: int = 0) -> Path:
    """Train it and write it in Hugging Face format."""
    heard = plays()
    unique = dict(
        sorted(((json.dumps([list(r.messages), wire(a)]), (r, a)) for r, a in heard), key=lambda item: item[0])
    )
    texts = [str(m.get("content")) for r, _ in unique.values() for m in r.messages]
    texts += [json.dumps(list(r.tools)) for r, _ in unique.values()] + [json.dumps(wire(a)) for _, a in unique.values()]
    tok = tokenizer(texts)
    pairs = [encode(tok, request, answer) for request, answer in unique.values()]
    model = train(pairs, len(tok), seed=seed)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


@functools.cache
def trained() -> Path:
    """The folder of one, made once per process and kept as long; $HARNESS_TOOL_MODEL names one that is there already."""
    if given := os.environ.get("HARNESS_TOOL_MODEL"):
        return Path(given)
    folder = tempfile.TemporaryDirectory(prefix="tool-model-")
    _KEPT.append(folder)
    return save(Path(folder.name))


_KEPT: list[Any] = []
