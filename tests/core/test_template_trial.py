"""A chat template that takes all memory or no end of time is refused before it is rendered here; others are as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from harness.core.errors import CheckpointError
from harness.core.template_trial import endless, is_plain
from harness.lm_eval.generation import render_chat
from harness.tasks.reward_env.conversation import ConversationField
from harness.tasks.reward_env.file_field import read_field

BOMB = "{{ 'a' * 3000000000 }}"
LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
DOUBLING = (
    "{% set ns = namespace(x='aaaaaaaa') %}{% for m in messages %}{% for n in 'aaaaaaaa' %}"
    "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{% endfor %}{{ ns.x }}"
)


@pytest.mark.parametrize(
    "template",
    [
        BOMB,
        LOOP,
        DOUBLING,
        "{{ '%3000000000d' % 1 }}",
        "{{ 'a'|center(3000000000) }}",
        "{{ 'a'['ljust'](3000000) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% if tools %}" + BOMB + "{% endif %}",
    ],
)
def test_what_does_not_come_back_is_found_out(template: str) -> None:
    assert not is_plain(template)
    assert "chat template" in (endless(template) or "")


def test_every_template_of_several_is_tried() -> None:
    assert endless({"default": "{{ messages }}", "tool_use": BOMB})


@pytest.mark.parametrize(
    "template",
    [
        "{{ '-' * 20 }}",
        "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(messages) }}",
        "{{ raise_exception('no') }}{% for i in range(3) %}{% endfor %}",
    ],
)
def test_what_only_looks_like_it_passes(template: str) -> None:
    assert not is_plain(template) and endless(template) is None


def test_a_plain_template_costs_no_process() -> None:
    assert is_plain(tiny.CHAT_TEMPLATE) and endless(tiny.CHAT_TEMPLATE) is None and endless(None) is None


def test_whoever_renders_asks_first(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(chat_template=BOMB)
    with pytest.raises(CheckpointError, match="the chat template ends in MemoryError"):
        render_chat(tokenizer, [{"role": "user", "content": "x"}])
    path = tmp_path / "c.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n')
    field = read_field(path, name="c")
    assert isinstance(field, ConversationField)
    with pytest.raises(CheckpointError, match="the chat template ends in MemoryError"):
        field.pairs(tokenizer)


LONG = [{"role": "assistant" if turn % 2 else "user", "content": f"zebra {turn}"} for turn in range(12)]


@pytest.mark.parametrize(
    "template",
    [
        "{% set n = 300000000 %}{% for m in messages %}{{ m.content }}{% endfor %}"
        "{% if messages | length > 7 %}{{ messages[0].role * n }}{% endif %}",
        "{{ messages[0].content }}{% if 'zebra' in messages[0].content %}{{ messages[0].role.ljust(3000000000) }}{% endif %}",
        "{% if tools and tools | length > 1 %}{{ messages[0].role * 3000000000 }}{% endif %}x",
    ],
)
def test_a_template_that_is_endless_for_the_data_alone_is_refused(template: str) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "ab"]
    assert endless(template) is None
    assert endless(template, [(LONG[:2], None, [1])]) is None or "zebra" in template
    assert "for a conversation of the data" in (endless(template, [(LONG, tools, [1, 11])]) or "")


@pytest.mark.parametrize("bomb", ["'a' * 3000000000", "'a' | center(3000000000)", "'%3000000000d' % 1"])
def test_constants_that_jinja_would_compute_when_it_compiles_are_refused_in_any_branch(bomb: str) -> None:
    template = "{{ messages[0].content }}{% if messages | length > 1000 %}{{ " + bomb + " }}{% endif %}"
    assert endless(template) == "the chat template ends in MemoryError when it is compiled"


def test_a_template_that_is_harmless_for_the_data_is_rendered() -> None:
    template = "{% for m in messages %}{{ loop.index0 % 2 }}{{ m.content }}{% endfor %}"
    assert not is_plain(template)
    assert endless(template, [(LONG, None, [1, 11])] * 3) is None
