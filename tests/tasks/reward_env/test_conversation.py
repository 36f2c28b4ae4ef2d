"""SFT conversations: every assistant turn is an r, what stood before it, rendered, its q."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import CheckpointError, DataError
from harness.core.pair import Pair
from harness.tasks.reward_env.conversation import ConversationField
from harness.tasks.reward_env.encode import encode
from harness.tasks.reward_env.file_field import read_field

TOOLS = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}]
CHATML_PROMPT = "<|im_start|>assistant\n"

LLAMA_3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{{- '<|im_start|>system\n\nToday Date: ' + date_string + '<|eot_id|>' }}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\n\n' + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n\n' }}{%- endif %}"
)
THINKING = (
    "{% for m in messages %}{% set text = m.content.split('</think>')[-1] %}"
    "<|im_start|>{{ m.role }}\n{{ text }}"
    "{% for c in m.tool_calls or [] %}<tool>{{ c.function.name }}</tool>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% endif %}"
)


def field(tmp_path: Path, *records: Any, template: str | None = None) -> ConversationField:
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    template_path = None
    if template is not None:
        template_path = tmp_path / "chat.jinja"
        template_path.write_text(template, encoding="utf-8")
    found = read_field(path, name="chats", chat_template=template_path)
    assert isinstance(found, ConversationField)
    return found


def fault(tmp_path: Path, *records: Any) -> str:
    with pytest.raises(DataError) as caught:
        field(tmp_path, *records)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(tmp_path), "")


def chat(*texts: str, **rest: Any) -> dict[str, Any]:
    """user, assistant, user, ... in OpenAI form."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)], **rest}


def pairs(tmp_path: Path, *records: Any, template: str | None = None, tokenizer: Any = None) -> list[Pair]:
    return list(field(tmp_path, *records, template=template).pairs(tokenizer or tiny.tokenizer()))


def test_every_assistant_turn_is_one_pair_of_the_conversation(tmp_path: Path) -> None:
    first, second = pairs(tmp_path, chat("Hi", "Hello", "Bye", "See you", id="c1"))
    opening = f"<s><|im_start|>user\nHi<|im_end|>\n{CHATML_PROMPT}"
    assert first == Pair(id="c1.1", q=opening, r="Hello<|im_end|>", cluster="c1")
    assert second.q == f"{opening}Hello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n{CHATML_PROMPT}"
    assert (second.id, second.r, second.cluster) == ("c1.3", "See you<|im_end|>", "c1")


def test_q_and_r_together_are_what_the_template_itself_renders(tmp_path: Path) -> None:
    record = chat("Hi", "Hello", "Bye", "See you")
    tokenizer = tiny.tokenizer()
    whole = tokenizer.apply_chat_template(record["messages"], tokenize=False)
    last = pairs(tmp_path, record)[-1]
    assert last.q + last.r + "\n" == whole
    assert last.q == tokenizer.apply_chat_template(record["messages"][:3], tokenize=False, add_generation_prompt=True)


def test_turns_are_counted_without_a_tokenizer_and_clusters_are_conversations(tmp_path: Path) -> None:
    chats = field(tmp_path, chat("a", "b", "c", "d"), chat("e", "f"))
    assert len(chats) == 3
    found = chats.pairs(tiny.tokenizer())
    assert [pair.cluster for pair in found] == ["0", "0", "1"]
    encoded = encode(tiny.tokenizer(), found).pairs
    assert encoded[0].cluster == encoded[1].cluster != encoded[2].cluster


@pytest.mark.parametrize("arguments", [{"id": 12}, '{"id": 12}'])
def test_tool_calls_reach_the_template_with_their_arguments_as_objects(tmp_path: Path, arguments: Any) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": arguments}}
    messages = [
        {"role": "user", "content": "Find 12"},
        {"role": "assistant", "content": None, "tool_calls": [call], "weight": 1},
        {"role": "tool", "tool_call_id": "call_1", "content": "found"},
        {"role": "assistant", "content": "It is there."},
    ]
    calling, answering = pairs(tmp_path, {"messages": messages, "tools": TOOLS})
    assert calling.q.startswith('<s><|im_start|>system\nTools: [{"type": "function"')
    assert calling.r == '<tool_call>{"name": "lookup", "arguments": {"id": 12}}</tool_call><|im_end|>'
    assert answering.q.endswith(f"{calling.r}\n<|im_start|>tool\nfound<|im_end|>\n{CHATML_PROMPT}")


def test_openai_sharegpt_and_alpaca_say_the_same_thing_with_the_same_pairs(tmp_path: Path) -> None:
    openai = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi\nthere"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye\nnow"},
            {"role": "assistant", "content": "Bye"},
        ]
    }
    sharegpt = {
        "system": "Be brief.",
        "conversations": [
            {"from": "human", "value": "Hi\nthere"},
            {"from": "gpt", "value": "Hello"},
            {"from": "user", "value": "Bye\nnow"},
            {"from": "assistant", "value": "Bye"},
        ],
    }
    alpaca = {
        "system": "Be brief.",
        "history": [["Hi\nthere", "Hello"]],
        "instruction": "Bye",
        "input": "now",
        "output": "Bye",
    }
    expected = pairs(tmp_path, openai)
    assert len(expected) == 2
    assert pairs(tmp_path, sharegpt) == pairs(tmp_path, alpaca) == expected


@pytest.mark.parametrize("key", [{}, {"input": ""}, {"input": None, "history": None, "system": ""}])
def test_alpaca_without_input_asks_the_instruction_alone(tmp_path: Path, key: dict[str, Any]) -> None:
    (pair,) = pairs(tmp_path, {"instruction": "Greet", "output": "Hello", **key})
    assert pair.q == f"<s><|im_start|>user\nGreet<|im_end|>\n{CHATML_PROMPT}"


@pytest.mark.parametrize("many", [False, True])
def test_sharegpt_function_calls_observations_and_tools(tmp_path: Path, many: bool) -> None:
    call = {"name": "lookup", "arguments": {"id": 12}}
    record = {
        "tools": json.dumps(TOOLS),
        "conversations": [
            {"from": "human", "value": "Find 12"},
            {"from": "function_call", "value": json.dumps([call, call] if many else call)},
            {"from": "observation", "value": "found"},
            {"from": "gpt", "value": "It is there."},
        ],
    }
    calling, answering = pairs(tmp_path, record)
    rendered = '<tool_call>{"name": "lookup", "arguments": {"id": 12}}</tool_call>'
    assert calling.r == rendered * (2 if many else 1) + "<|im_end|>"
    assert "Tools: [{" in calling.q
    assert answering.q.endswith(f"<|im_start|>tool\nfound<|im_end|>\n{CHATML_PROMPT}")


def test_the_older_openai_function_call_is_a_tool_call(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Find"},
        {"role": "assistant", "content": None, "function_call": {"name": "lookup", "arguments": ""}},
        {"role": "function", "name": "lookup", "content": "found"},
        {"role": "assistant", "content": "There."},
    ]
    calling, answering = pairs(tmp_path, {"messages": messages})
    assert calling.r == '<tool_call>{"name": "lookup", "arguments": {}}</tool_call><|im_end|>'
    assert "<|im_start|>tool\nfound" in answering.q


def test_text_parts_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    record = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": parts}]}
    (pair,) = pairs(tmp_path, record)
    assert pair.r == "Hello<|im_end|>"


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("template", [tiny.CHAT_TEMPLATE, LLAMA_3, THINKING, PLAIN])
def test_bos_stands_exactly_once_after_encoding(tmp_path: Path, template: str, bos: bool) -> None:
    tokenizer = tiny.tokenizer(bos=bos, chat_template=template)
    for pair in encode(tokenizer, pairs(tmp_path, chat("Hi", "Hello", "Bye", "Bye"), tokenizer=tokenizer)).pairs:
        bos_id = tokenizer.convert_tokens_to_ids("<s>")
        assert pair.ids.tolist().count(bos_id) == (1 if bos else 0)
        assert (int(pair.ids[0]) == bos_id) is bos


def test_a_template_in_the_manner_of_llama_3(tmp_path: Path) -> None:
    """BOS from the template, content trimmed, two line breaks after the header, a date that must not be today's."""
    tokenizer = tiny.tokenizer(chat_template=LLAMA_3)
    tokenizer.add_special_tokens({"eos_token": "<|eot_id|>"})
    (pair,) = pairs(tmp_path, chat("Hi ", " Hello "), tokenizer=tokenizer)
    assert pair.q.startswith(
        "<s><|im_start|>system\n\nToday Date: 26 Jul 2024<|eot_id|><|im_start|>user\n\nHi<|eot_id|>"
    )
    assert pair.r == "Hello<|eot_id|>"
    (encoded,) = encode(tokenizer, [pair]).pairs
    assert encoded.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(encoded.ids[encoded.n_context :]) == "\n\nHello<|eot_id|>"


@pytest.mark.parametrize("text", ["It is 4.", "<table>", "<thinking> aloud"])
def test_a_prompt_that_opens_a_thought_leaves_the_header_in_q(tmp_path: Path, text: str) -> None:
    """The generation prompt says `<think>`, finished turns do not: r is the turn's text, however it begins."""
    tokenizer = tiny.tokenizer(bos=False, chat_template=THINKING)
    first, second = pairs(tmp_path, chat("2 + 2?", text, "Sure?", "Yes"), tokenizer=tokenizer)
    assert first.q == f"<|im_start|>user\n2 + 2?<|im_end|>\n{CHATML_PROMPT}"
    assert first.r == f"{text}<|im_end|>"
    assert (second.q[-len(CHATML_PROMPT) :], second.r) == (CHATML_PROMPT, "Yes<|im_end|>")


def test_a_tool_call_after_a_prompt_that_opens_a_thought(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(bos=False, chat_template=THINKING)
    call = {"function": {"name": "lookup", "arguments": {}}}
    record = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]}
    (pair,) = pairs(tmp_path, record, tokenizer=tokenizer)
    assert pair.q.endswith(CHATML_PROMPT)
    assert pair.r == "<tool>lookup</tool><|im_end|>"


def test_an_end_of_turn_that_is_only_listed_as_special_ends_r(tmp_path: Path) -> None:
    """Gemma's `<end_of_turn>` is a special token, but neither EOS nor an additional special token."""
    from transformers import AddedToken

    tokenizer = tiny.tokenizer(chat_template=GEMMA)
    tokenizer.add_tokens([AddedToken("<end_of_turn>", special=True)], special_tokens=True)
    (pair,) = pairs(tmp_path, chat("Hi", "Hello"), tokenizer=tokenizer)
    assert pair.q.endswith("<start_of_turn>model\n")
    assert pair.r == "Hello<end_of_turn>"


def test_a_template_without_end_of_turn_keeps_the_white_space_it_ends_with(tmp_path: Path) -> None:
    first, second = pairs(tmp_path, chat("Hi", "Hello", "Bye", "Bye"), template=PLAIN)
    assert (first.q, first.r) == ("### user:\nHi\n\n### assistant:\n", "Hello\n\n")
    assert second.q == f"{first.q}{first.r}### user:\nBye\n\n### assistant:\n"


def test_a_given_template_overrules_the_checkpoints_own_and_is_part_of_the_identity(tmp_path: Path) -> None:
    record = chat("Hi", "Hello")
    own, given_one = field(tmp_path, record), field(tmp_path, record, template=PLAIN)
    assert given_one.pairs(tiny.tokenizer())[0].q.startswith("### user:")
    assert given_one.pairs(tiny.tokenizer(chat_template=None))[0].q.startswith("### user:")
    assert own.digest != given_one.digest
    assert given_one.source["chat_template"] == "chat.jinja"


def test_a_tokenizer_with_several_templates_uses_its_default(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(chat_template=None)
    tokenizer.chat_template = {"default": PLAIN, "other": "never"}
    assert pairs(tmp_path, chat("Hi", "Hello"), tokenizer=tokenizer)[0].r == "Hello\n\n"


def test_no_chat_template_is_a_fault_of_the_checkpoint(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(chat_template=None)
    tokenizer.name_or_path = "runs/ckpt-500"
    with pytest.raises(
        CheckpointError, match="no chat template in the tokenizer of runs/ckpt-500, which field 'chats'"
    ):
        pairs(tmp_path, chat("Hi", "Hello"), tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for m in messages %}{{ m.content }}", "Unexpected end of template"),
        ("{{ messages[0].content.nothing.at_all }}", "no attribute"),
    ],
)
def test_a_template_that_fails_names_the_record_and_the_message(tmp_path: Path, template: str, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        pairs(tmp_path, chat("Hi", "Hello"), template=template)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'chat.jsonl'} line 1: the chat template cannot render message 2: ")
    assert reason in message
    assert "\n" not in message


def test_a_template_that_rewrites_what_came_before_is_refused(tmp_path: Path) -> None:
    """Without a fixed beginning there is no q; scoring the whole history as r would be silently wrong."""
    rewriting = "{% for m in messages %}[{{ loop.revindex }}] {{ m.content }}<|im_end|>{% endfor %}"
    with pytest.raises(DataError, match="line 1: the chat template rewrites earlier text when message 2 is added"):
        pairs(tmp_path, chat("Hi", "Hello"), template=rewriting)


def test_a_template_that_leaves_the_turn_out_is_refused(tmp_path: Path) -> None:
    only_users = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match="line 1: the chat template renders message 2 to nothing"):
        pairs(tmp_path, chat("Hi", "Hello"), template=only_users)


def test_a_conversation_the_assistant_opens_has_its_turns_header_for_a_q(tmp_path: Path) -> None:
    record = {"messages": [{"role": "assistant", "content": "Welcome"}]}
    (pair,) = pairs(tmp_path, record)
    assert (pair.q, pair.r) == (f"<s>{CHATML_PROMPT}", "Welcome<|im_end|>")
    (plain,) = pairs(tmp_path, record, template=PLAIN)
    assert (plain.q, plain.r) == ("### assistant:\n", "Welcome\n\n")


USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": [USER]}, "no assistant turn, so nothing to score; remove the conversation"),
        ({"messages": []}, "no assistant turn"),
        ({"messages": "Hi"}, "'messages' must be a list of objects"),
        ({"messages": ["Hi"]}, "'messages' must be a list of objects"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "role 'bot' is none of system, developer, user"),
        ({"messages": [{"content": "x"}]}, "role None is none of"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "role ['user'] is none of"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "an assistant turn is empty"),
        ({"messages": [USER, {"role": "assistant"}]}, "an assistant turn is empty"),
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}]}, "an assistant turn is empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "images and audio are not scored"),
        ({"messages": [USER, {"role": "assistant", "content": 5}]}, "content must be text or text parts"),
        ({"messages": [USER, {**ASSISTANT, "tool_calls": "x"}]}, "'tool_calls' must be a list of calls"),
        ({"messages": [USER, {**ASSISTANT, "tool_calls": ["x"]}]}, "a tool call needs a function with a name"),
        (
            {"messages": [USER, {**ASSISTANT, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "arguments of tool call 'f': not valid JSON",
        ),
        (
            {"messages": [USER, {**ASSISTANT, "tool_calls": [{"function": {"name": "f", "arguments": '"\\ud800"'}}]}]},
            "arguments of tool call 'f': holds an unpaired surrogate",
        ),
        ({"messages": [USER, ASSISTANT], "tools": "["}, "'tools': not valid JSON"),
        ({"messages": [USER, ASSISTANT], "tools": {"name": "f"}}, "'tools' must be a list of tool schemas"),
        ({"conversations": [{"from": "ape", "value": "x"}]}, "a ShareGPT turn needs 'from' (human, user, gpt,"),
        ({"conversations": [{"from": ["gpt"], "value": "x"}]}, "a ShareGPT turn needs 'from'"),
        ({"conversations": [{"from": "gpt", "value": None}]}, "a ShareGPT turn needs 'from'"),
        ({"conversations": [{"from": "function_call", "value": "f(x)"}]}, "function_call: not valid JSON"),
        ({"conversations": "x"}, "'conversations' must be a list of objects"),
        ({"instruction": "x", "output": ""}, "an assistant turn is empty"),
        ({"instruction": "x", "output": None}, "an assistant turn is empty"),
        ({"instruction": 5, "output": "x"}, "content must be text or text parts"),
        ({"instruction": "x", "output": "y", "history": [["a"]]}, "'history' must be a list of [question, answer]"),
    ],
)
def test_a_record_that_cannot_be_scored_is_named_with_its_line(
    tmp_path: Path, record: dict[str, Any], expected: str
) -> None:
    good: dict[str, Any] = {"messages": [USER, ASSISTANT]}
    if "conversations" in record:
        good = {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}
    elif "instruction" in record:
        good = {"instruction": "x", "output": "y"}
    message = fault(tmp_path, good, record)
    assert message.startswith("/chat.jsonl line 2: ")
    assert expected in message


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, min_size=2, max_size=6))
def test_each_q_is_the_earlier_q_and_r_with_more_after_them(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    found = pairs(tmp_path_factory.mktemp("chat"), chat(*texts))
    assert len(found) == len(texts) // 2
    for earlier, later in pairwise(found):
        assert later.q.startswith(earlier.q + earlier.r + "\n")
    for pair in found:
        assert pair.r.endswith("<|im_end|>")
        assert pair.q.endswith(CHATML_PROMPT)


def test_a_template_that_leaves_out_tool_calls_is_refused_not_scored_as_nothing(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "lookup", "arguments": "{}"}}]}
    chatml = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    chats = field(tmp_path, {"messages": [{"role": "user", "content": "Hi"}, call], "tools": TOOLS}, template=chatml)
    with pytest.raises(CheckpointError, match="leaves out the tool call 'lookup' of message 2"):
        chats.pairs(tiny.tokenizer())


def test_a_system_text_of_the_spec_stands_before_every_conversation(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    without, with_one = {"messages": turns}, {"messages": [{"role": "system", "content": "Be kind."}, *turns]}
    chosen = {"prompt": turns[:1], "completion": turns[1:]}
    for record in (without, with_one, chosen):
        plain = field(tmp_path, record)
        spoken = plain.introduced("alpha=0.5")
        (before,), (after,) = (one.pairs(tiny.tokenizer(chat_template=PLAIN)) for one in (plain, spoken))
        beginning = before.q.removeprefix("### system:\n")
        assert after.q == f"### system:\nalpha=0.5\n\n{beginning}" and after.r == before.r
        assert spoken.digest != plain.digest and len(spoken) == 1
    with pytest.raises(CheckpointError, match=r"leaves out message 1 \(system\)"):
        no_system = PLAIN.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
        field(tmp_path, without).introduced("alpha=0.5").pairs(tiny.tokenizer(chat_template=no_system))
