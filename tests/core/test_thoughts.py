"""What is thought and what is said are told apart by marks, wherever they stand, and a text without marks is said whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.thoughts import MARKS, apart, opens_thought


@pytest.mark.parametrize(("opens", "closes"), MARKS)
def test_a_thought_before_the_words(opens: str, closes: str) -> None:
    assert apart(f"{opens}\nHm. Yes?\n{closes}\n\nYes.") == ("Hm. Yes?", "Yes.")


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("Hm.</think>Yes.", "Hm.", "Yes."),  # its mark stood in the prompt
        ("<think>cut off in the mid", "cut off in the mid", None),
        ("<think></think>Yes.", "", "Yes."),
        ("<think>\n\n</think>\n\n", "", None),
        ("One moment. <think>Hm.</think> Yes.", "Hm.", "One moment.  Yes."),
        ("<think>a</think>One<think>b</think>Two", "a\n\nb", "OneTwo"),
        ("<think>a <tool_call>x</tool_call></think>Yes.", "a <tool_call>x</tool_call>", "Yes."),
        ("<THINK>a</THINK>Yes.", "a", "Yes."),
        ("<Think>a</think>Yes.", "a", "Yes."),
        ("<think>a<think>b</think>c</think>Yes.", "a<think>b</think>c", "Yes."),
        ("<think>The mark <think> opens one.</think>Yes.", "The mark <think> opens one.", "Yes."),
        ("<think>a <think> b</think>One<think>c</think>Two", "a <think> b\n\nc", "OneTwo"),
        ("<|channel>thought\na<channel|>Yes.", "a", "Yes."),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
            "a",
            "Yes.",
        ),
        ("<|channel|>analysis<|message|>cut off", "cut off", None),
        ("<|channel|>final<|message|>Yes.", None, "Yes."),
        (
            "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>analysis<|message|>a",
            "a",
            "I look.",
        ),
        ("Here is my thought process:\na\n\nHere is my response:\nYes.", "a", "Yes."),
        ("Here is my thought process: it is long.", None, "Here is my thought process: it is long."),
        ("Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>", "Hm.", "Yes."),
        ("analysisHm.assistantfinalYes.", "Hm.", "Yes."),  # by a server that leaves out special tokens
        ("analysisHm, cut off", "Hm, cut off", None),
        ("analysis of variance", None, "analysis of variance"),
        ("  \n<think>cut off", "cut off", None),
        ("<think>a</think>\n<think>cut off", "a\n\ncut off", None),
        ("Yes.", None, "Yes."),
        ("  two lines\n", None, "  two lines\n"),
        ("I think so < 5 > 4", None, "I think so < 5 > 4"),
        ("", None, ""),
        (None, None, None),
    ],
)
def test_where_thoughts_stand(text: str | None, thought: str | None, said: str | None) -> None:
    assert apart(text) == (thought, said)


@pytest.mark.parametrize(
    "text",
    [
        "Qwen writes <think> before it answers.",
        "Use `<think>` to open a thought.",
        "It closes with `</think>`, always.",
        "Write `<think>...</think>` before the answer.",
        'The mark is "<think>", in quotes.',
        "The marks are **<think>** and **</think>** (<think> is the first).",
        '```python\nopens, closes = "<think>", "</think>"\n```\nDone.',
        "```\n<think>\nHm.\n</think>\n```\nThat is its form.",
        "~~~xml\n<think>\n~~~\nThat opens one.",
        "1. So:\n      ```\n      <think>Hm.</think>\n      ```\n   That is its form.",
        "````md\n```\n<think>Hm.</think>\n```\n````\nThat is a page with it.",
        "    return text.split('</think>')[-1]",
        're.sub(r"<think>.*?</think>", "", text)',
        "A message is <|channel|>analysis<|message|>x<|end|> there.",
    ],
)
def test_a_mark_that_is_spoken_of_is_a_word(text: str) -> None:
    assert apart(text) == (None, text) and apart(f"<think>a</think>{text}").said == text.strip()


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("One moment. <think>Hm, the", "Hm, the", "One moment."),
        ("One moment.\n<think>\nHm, the", "Hm, the", "One moment."),
        ("a</think>One<think>b", "a\n\nb", "One"),
        ("Here is my thought process: it is", "it is", None),
        ("The <think> mark opens", None, "The <think> mark opens"),
        ("Use `<think>` to", None, "Use `<think>` to"),
        ("```\n<think>\n```\nopens", None, "```\n<think>\n```\nopens"),
    ],
)
def test_a_thought_that_was_cut_off_later_is_not_said_and_a_word_is(
    text: str, thought: str | None, said: str | None
) -> None:
    assert apart(text, cut=True) == (thought, said)


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("Hm, cut off", "Hm, cut off", None),
        ("Hm.</think>Yes.", "Hm.", "Yes."),
        ("Then `</think>` ends it.</think>Yes.", "Then `</think>` ends it.", "Yes."),
        ("The <think> mark.</think>Yes.", "The <think> mark.", "Yes."),
        ("<think>\nHm.</think>Yes.", "<think>\nHm.", "Yes."),
        ("a<think>b</think>c</think>Yes.", "a<think>b</think>c", "Yes."),
        ("```\nx = 1</think>Yes:\n```\nx\n```", "```\nx = 1", "Yes:\n```\nx\n```"),
        ('He said "hi"</think>"Hello," she said.', 'He said "hi"', '"Hello," she said.'),
    ],
)
def test_a_text_that_the_prompt_began_within_a_thought(text: str, thought: str, said: str | None) -> None:
    assert apart(text, opened=True) == (thought, said)
    if said is not None and "<think>" not in text:
        assert apart(text) == (thought, said), "it is seen where nobody says so"


WORDS = st.lists(st.sampled_from(["a", " ", "b.\n", "```\n", "don't ", "</think>", "[/THINK]"]), max_size=9).map(
    "".join
)


@given(WORDS, WORDS, st.booleans())
def test_a_thought_that_opens_a_text_is_never_said(thought: str, after: str, cut: bool) -> None:
    """However it goes on, and wherever it was broken off."""
    assert "SECRET" not in (apart(f"\n<think>SECRET{thought}</think>{after}", cut=cut).said or "")
    broken = thought.replace("</think>", "").replace("[/THINK]", "")
    assert apart(f"<think>SECRET{broken}", cut=cut).said is None
    assert apart(f"SECRET{broken}", opened=True, cut=cut).said is None
    assert "SECRET" not in (apart(f"SECRET{thought}</think>{after}", opened=True).said or "")


@given(st.lists(st.sampled_from(["a", " ", "b.\n", "don't "]), max_size=5).map("".join), WORDS)
def test_a_thought_that_is_closed_is_never_said_wherever_it_stands(before: str, after: str) -> None:
    assert "SECRET" not in (apart(f"{before}<think>SECRET</think>{after}").said or "")


@given(st.text())
def test_a_text_without_marks_is_left_alone(text: str) -> None:
    if not any(mark.lower() in text.lower() for pair in MARKS for mark in pair):
        assert apart(text) == (None, text)


@pytest.mark.parametrize("n", [2, 20_000])
def test_a_model_that_writes_nothing_but_marks_is_read_to_the_end(n: int) -> None:
    """As one that repeats itself does, up to its limit: each mark is looked at once."""
    assert apart("`<think>" * n).said == "`<think>" * n
    assert apart("```\n<think>\n" * n).said == "```\n<think>\n" * n
    assert apart("<think>a</think>b" * n) == ("\n\n".join("a" * n), "b" * n)
    assert apart("<think>" * n) == ("<think>" * (n - 1), None)
    assert apart("a" + "</think>" * n) == ("a", "</think>" * (n - 1))
    assert apart("<think>" * n + "a" + "</think>" * n + "b") == ("<think>" * (n - 1) + "a" + "</think>" * (n - 1), "b")


def test_a_prompt_that_ends_within_a_thought_is_seen() -> None:
    assert opens_thought("<|im_start|>assistant\n<think>\n")
    assert not opens_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opens_thought("<|im_start|>assistant\n")
    assert opens_thought("<|start|>assistant<|channel|>analysis<|message|>")
    assert opens_thought("<|start_of_role|>assistant<|end_of_role|>\nHere is my thought process:")
