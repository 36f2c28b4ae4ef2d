"""What is thought and what is said are told apart by marks, wherever they stand, and a text without marks is said whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.thoughts import MARKS, OPENS, apart, opens_thought


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
        ("a</think>One<think>b", "a\n\nb", "One"),
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
        ("Yes.", None, "Yes."),
        ("  two lines\n", None, "  two lines\n"),
        ("I think so < 5 > 4", None, "I think so < 5 > 4"),
        ("", None, ""),
        (None, None, None),
    ],
)
def test_where_thoughts_stand(text: str | None, thought: str | None, said: str | None) -> None:
    assert apart(text) == (thought, said)


@given(st.lists(st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "a", " ", "b\n"]), max_size=9))
def test_nothing_between_marks_is_ever_said(parts: list[str]) -> None:
    said = apart("".join(parts)).said or ""
    assert not any(mark in said for mark in OPENS), "no thought is left in what is said"


@given(st.text())
def test_a_text_without_marks_is_left_alone(text: str) -> None:
    if not any(mark.lower() in text.lower() for pair in MARKS for mark in pair):
        assert apart(text) == (None, text)


@pytest.mark.parametrize("n", [2, 20_000])
def test_a_model_that_writes_nothing_but_marks_is_read_to_the_end(n: int) -> None:
    """As one that repeats itself does, up to its limit: each mark is looked at once."""
    assert apart("<think>a</think>b" * n) == ("\n\n".join("a" * n), "b" * n)
    assert apart("<think>" * n) == ("<think>" * (n - 1), None)
    assert apart("a" + "</think>" * n) == ("a", "</think>" * (n - 1))
    assert apart("<think>" * n + "a" + "</think>" * n + "b") == ("<think>" * (n - 1) + "a" + "</think>" * (n - 1), "b")


def test_a_prompt_that_ends_within_a_thought_is_seen() -> None:
    assert opens_thought("<|im_start|>assistant\n<think>\n")
    assert not opens_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opens_thought("<|im_start|>assistant\n")
