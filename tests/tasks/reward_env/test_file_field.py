"""A field from the user's own file: forms recognised, identities, and one clear message per fault."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny

from harness.core.errors import DataError
from harness.core.pair import Pair
from harness.tasks.reward_env.conversation import ConversationField
from harness.tasks.reward_env.field import PairField
from harness.tasks.reward_env.file_field import read_field

FORMS: dict[str, dict[str, Any]] = {
    "pairs": {"q": "1 + 1 =", "r": " 2"},
    "messages": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    "alpaca": {"instruction": "Greet me", "output": "Hello"},
}


def jsonl(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def read(path: Path, **options: Any) -> PairField | ConversationField:
    return read_field(path, name="mine", **options)


def fault(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("as_array", [False, True])
def test_each_form_is_recognised_by_its_keys(tmp_path: Path, form: str, as_array: bool) -> None:
    path = jsonl(tmp_path / "data.json", [[FORMS[form], FORMS[form]]] if as_array else [FORMS[form], FORMS[form]])
    field = read(path)
    assert field.source == {"file": "data.json", "format": form}
    assert isinstance(field, PairField if form == "pairs" else ConversationField)
    assert len(field) == 2
    assert len(field.pairs(tiny.tokenizer())) == 2


def test_pairs_keep_their_text_exactly(tmp_path: Path) -> None:
    rows = [
        {"q": "  lead\n\ttail \n", "r": " \n x "},
        {"q": "", "r": "\u2028"},
        {"q": "日本🙂", "r": "ñ", "id": 7, "cluster": 3},
    ]
    field = read(jsonl(tmp_path / "x.jsonl", rows))
    assert field.pairs(None) == (
        Pair(id="0", q="  lead\n\ttail \n", r=" \n x "),
        Pair(id="1", q="", r="\u2028"),
        Pair(id="7", q="日本🙂", r="ñ", cluster="3"),
    )


def test_windows_line_ends_leave_no_carriage_return_in_a_pair(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"q": "a", "r": "b"}\r\n{"q": "c", "r": "d"}\r\n')
    assert [(pair.q, pair.r) for pair in read(path).pairs(None)] == [("a", "b"), ("c", "d")]


def test_identity_is_the_content_and_not_the_file(tmp_path: Path) -> None:
    rows = [{"q": "a", "r": "b"}, {"q": "c", "r": "d"}]
    one, array = jsonl(tmp_path / "one.jsonl", rows), jsonl(tmp_path / "two.json", [rows])
    assert read(one).digest == read(array).digest
    assert read(one).digest != read(jsonl(tmp_path / "swapped.jsonl", rows[::-1])).digest
    left, right = [{"q": "a", "r": "bc"}], [{"q": "ab", "r": "c"}]
    assert read(jsonl(tmp_path / "left.jsonl", left)).digest != read(jsonl(tmp_path / "right.jsonl", right)).digest


@pytest.mark.parametrize("content", ["", "\n\n", "[]"])
def test_an_empty_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text(content)
    assert fault(path) == f"field 'mine' is empty: {path} holds no records"


def test_an_empty_response_is_named_with_its_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"q": "a", "r": "b"}, {"q": "a", "r": ""}])
    assert fault(path) == f"{path} line 2: r is empty, so there is nothing to score; remove the pair"


def test_a_missing_key_is_named_with_its_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"q": "a", "r": "b"}, {"q": "a", "response": "b"}])
    assert fault(path) == f"{path} line 2: key 'r' is missing; every record of a pairs file has 'q' and 'r'"


def test_records_of_two_forms_are_not_mixed(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [FORMS["messages"], FORMS["sharegpt"]])
    assert "line 2: key 'messages' is missing; every record of a messages file has 'messages'" in fault(path)


def test_an_unknown_form_lists_the_known_ones(tmp_path: Path) -> None:
    message = fault(jsonl(tmp_path / "x.jsonl", [{"prompt": "a", "answer": "b"}]))
    assert "line 1: keys ['answer', 'prompt'] are of no known form" in message
    assert "pairs: 'q' and 'r'; messages: 'messages'; sharegpt: 'conversations'; alpaca: 'instruction'" in message


def test_a_given_form_overrules_recognition(tmp_path: Path) -> None:
    both = {**FORMS["pairs"], **FORMS["messages"]}
    path = jsonl(tmp_path / "x.jsonl", [both])
    assert isinstance(read(path), PairField)
    assert isinstance(read(path, file_format="messages"), ConversationField)
    assert "key 'conversations' is missing" in fault(path, file_format="sharegpt")


@pytest.mark.parametrize("row", [{"q": 1, "r": "b"}, {"q": "a", "r": None}, {"q": ["a"], "r": "b"}])
def test_q_and_r_must_be_text(tmp_path: Path, row: dict[str, Any]) -> None:
    path = jsonl(tmp_path / "x.jsonl", [row])
    assert fault(path).startswith(f"{path} line 1: q and r must be text, found ")


def test_an_id_that_stands_twice_is_named(tmp_path: Path) -> None:
    rows = [{"q": "a", "r": "b", "id": "x"}, {"q": "a", "r": "b", "id": "y"}, {"q": "a", "r": "b", "id": "x"}]
    path = jsonl(tmp_path / "x.jsonl", rows)
    assert fault(path) == f"{path}: id 'x' stands twice; ids must be unique, or left out"
    path = jsonl(tmp_path / "chats.jsonl", [{**FORMS["messages"], "id": 1}, {**FORMS["messages"], "id": "1"}])
    assert fault(path) == f"{path}: id '1' stands twice; ids must be unique, or left out"


@pytest.mark.parametrize("form", FORMS)
def test_an_id_of_null_is_an_id_left_out(tmp_path: Path, form: str) -> None:
    field = read(jsonl(tmp_path / "x.jsonl", [{**FORMS[form], "id": None}, {**FORMS[form], "id": None}]))
    assert [item.id for item in field.content] == ["0", "1"]


def test_a_chat_template_does_not_go_with_pairs(tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("x")
    message = fault(jsonl(tmp_path / "x.jsonl", [FORMS["pairs"]]), chat_template=template)
    assert message.startswith("field 'mine': chat_template goes with conversations")


def test_a_chat_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [FORMS["messages"]])
    assert f"cannot read chat template {tmp_path / 'none.jinja'}" in fault(path, chat_template=tmp_path / "none.jinja")


@pytest.mark.parametrize("folder", ["with space", "[1]", "é日本", "a*b?", "%20#!", "dots.in.name", "{x}"])
def test_odd_characters_in_a_path_are_only_characters(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    field = read(jsonl(tmp_path / folder / "my data.v1.jsonl", [FORMS["pairs"]]))
    assert field.source["file"] == "my data.v1.jsonl"


def test_head_takes_the_first_pairs_and_whole_conversations(tmp_path: Path) -> None:
    pairs = read(jsonl(tmp_path / "x.jsonl", [{"q": str(n), "r": "b"} for n in range(5)]))
    assert [pair.q for pair in pairs.head(2).pairs(None)] == ["0", "1"]
    assert pairs.head(2).digest != pairs.digest
    two_turns = {"messages": FORMS["messages"]["messages"] * 2}
    chats = read(jsonl(tmp_path / "chats.jsonl", [two_turns] * 3))
    assert len(chats) == 6
    assert len(chats.head(3)) == 4
    assert len(chats.head(100)) == 6
