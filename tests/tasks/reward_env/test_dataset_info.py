"""LLaMA-Factory's dataset_info.json: the columns and words that an entry names, read as LLaMA-Factory reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from harness.core.errors import DataError
from harness.spec.spec import spec_of_fields
from harness.tasks.reward_env.catalog import load_field
from harness.tasks.reward_env.conversation import ConversationField
from harness.tasks.reward_env.dataset_info import is_dataset_info

OPENAI = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "system_tag": "system",
}


def described(tmp_path: Path, entry: dict[str, Any], *records: dict[str, Any], **others: Any) -> Path:
    (tmp_path / "data.json").write_text(json.dumps(list(records)), encoding="utf-8")
    info = {"mine": {"file_name": "data.json", **entry}, **others}
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps(info), encoding="utf-8")
    return path


def answers(path: Path | str) -> list[tuple[str, str]]:
    field = load_field(str(path))
    assert isinstance(field, ConversationField)
    found = field.pairs(tiny.tokenizer(bos=False))
    return [(pair.q.removesuffix("<|im_start|>assistant\n"), pair.r.removesuffix("<|im_end|>")) for pair in found]


def fault(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        load_field(str(path))
    message = str(caught.value)
    assert "\n" not in message
    return message


def said(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


ALPACA = {"instruction": "Name", "input": "a fruit.", "output": "An apple.", "system": "Be brief."}


def test_an_entry_without_columns_has_the_usual_ones_and_no_system(tmp_path: Path) -> None:
    assert answers(described(tmp_path, {}, ALPACA)) == [(said("user", "Name\na fruit."), "An apple.")]


def test_a_column_that_the_entry_does_not_name_is_not_read(tmp_path: Path) -> None:
    columns = {"prompt": "instruction", "response": "output", "system": "system"}
    assert answers(described(tmp_path, {"columns": columns}, ALPACA)) == [
        (said("system", "Be brief.") + said("user", "Name"), "An apple.")
    ]


def test_a_label_that_the_entry_does_not_name_is_no_tag(tmp_path: Path) -> None:
    assert len(answers(described(tmp_path, {}, {**ALPACA, "label": False}, {**ALPACA, "label": True}))) == 2


def test_preferences_of_both_formats(tmp_path: Path) -> None:
    alpaca = {"ranking": True, "columns": {"prompt": "ask", "chosen": "good", "rejected": "bad"}}
    record = {"ask": "Name a fruit.", "good": "An apple.", "bad": "Concrete."}
    expected = [(said("user", "Name a fruit."), "An apple.")]
    assert answers(described(tmp_path, alpaca, record)) == expected
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    sharegpt = {"formatting": "sharegpt", "ranking": True, "columns": columns}
    turns = [{"from": "human", "value": "Name a fruit."}]
    record = {
        "conversations": turns,
        "chosen": {"from": "gpt", "value": "An apple."},
        "rejected": {"from": "gpt", "value": "Concrete."},
    }
    assert answers(described(tmp_path, sharegpt, record)) == expected


@pytest.mark.parametrize("formatting", ["sharegpt", "openai"])
def test_messages_of_other_words_with_calls_and_marks(tmp_path: Path, formatting: str) -> None:
    call = {"function": {"name": "lookup", "arguments": {"id": 1}}}
    messages = [
        {"role": "user", "content": "Find"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "found"},
        {"role": "assistant", "content": "Wrong.", "loss_weight": 0},
        {"role": "user", "content": "No."},
        {"role": "assistant", "content": "There."},
    ]
    entry = {"formatting": formatting, "columns": {"messages": "messages"}, "tags": OPENAI}
    first, last = answers(described(tmp_path, entry, {"messages": messages}))
    assert first[1] == '<tool_call>{"name": "lookup", "arguments": {"id": 1}}</tool_call>'
    assert last[1] == "There." and said("assistant", "Wrong.") in last[0]


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        (["user"], "the turns are human, and"),
        (["user", "assistant", "user"], "the turns are human, gpt, human, and"),
        (["assistant", "user", "assistant"], "the turns are gpt, human, gpt, and"),
        (["user", "user", "assistant"], "the turns are human, human, gpt, and"),
        (["user", "assistant", "system", "assistant"], "the turns are human, gpt, system, gpt, and"),
    ],
)
@pytest.mark.parametrize("formatting", ["sharegpt", "openai"])
def test_a_record_that_llama_factory_leaves_out_is_refused(
    tmp_path: Path, roles: list[str], words: str, formatting: str
) -> None:
    entry = {"formatting": formatting, "columns": {"messages": "messages"}, "tags": OPENAI}
    messages = [{"role": role, "content": "Hi"} for role in roles]
    path = described(tmp_path, entry, {"messages": messages})
    assert f"item 1: {words} LLaMA-Factory leaves out a record" in fault(path)
    whole = [{"role": "system", "content": "S"}, *({"role": r, "content": r} for r in ("user", "assistant"))]
    assert answers(described(tmp_path, entry, {"messages": whole})) == [
        (said("system", "S") + said("user", "user"), "assistant")
    ]


def test_results_in_a_row_and_text_beside_calls_are_as_llama_factory_has_them(tmp_path: Path) -> None:
    call = {"function": {"name": "lookup", "arguments": {}}}
    messages = [
        {"role": "user", "content": "Find"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "a"},
        {"role": "tool", "content": "b"},
        {"role": "assistant", "content": "There."},
    ]
    entry = {"formatting": "openai", "columns": {"messages": "messages"}, "tags": OPENAI}
    assert len(answers(described(tmp_path, entry, {"messages": messages}))) == 2
    spoken = [messages[0], {**messages[1], "content": "I look."}, *messages[2:]]
    assert "item 1: a turn has text beside 'tool_calls', which LLaMA-Factory" in fault(
        described(tmp_path, entry, {"messages": spoken})
    )
    assert "leaves out a record" in fault(
        described(tmp_path, {**entry, "formatting": "sharegpt"}, {"messages": messages})
    )


def test_one_of_several_entries_is_named_and_the_only_one_need_not_be(tmp_path: Path) -> None:
    path = described(tmp_path, {}, ALPACA)
    assert answers(path) == answers(f"{path}#mine")
    path = described(tmp_path, {}, ALPACA, other={"hf_hub_url": "a/b"})
    assert answers(f"{path}#mine") and load_field(f"{path}#mine").source["dataset_info"] == "mine"
    assert fault(path) == f"{path} has 2 data sets (mine, other); name one: {path}#mine"
    assert fault(f"{path}#yours") == f"{path} has no data set 'yours'; it has mine, other"
    assert "'other' is not a local file (hf_hub_url); give a local copy" in fault(f"{path}#other")


def test_two_data_sets_of_one_file_are_two_components(tmp_path: Path) -> None:
    path = described(tmp_path, {}, ALPACA, other={"file_name": "data.json"})
    spec = spec_of_fields([f"{path}#mine", f"{path}#other", "x.v1.jsonl"])
    assert [component.name for component in spec.components] == ["mine", "other", "x.v1"]


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    path = described(tmp_path, {"file_name": "parts"})
    (tmp_path / "parts").mkdir()
    for name, output in (("b.jsonl", "two"), ("a.jsonl", "one")):
        (tmp_path / "parts" / name).write_text(json.dumps({**ALPACA, "output": output}) + "\n")
    assert [r for _, r in answers(path)] == ["one", "two"]


@pytest.mark.parametrize(
    ("entry", "record", "words"),
    [
        ({"columns": {"prompt": "ask", "response": "output"}}, ALPACA, "item 1: key 'ask' is missing, which 'mine' of"),
        ({"columns": {"prompt": "instruction"}}, ALPACA, "columns name no 'response'"),
        ({"columns": {"prompt": "instruction", "answer": "output"}}, ALPACA, "['answer'] is none of them"),
        ({"columns": {"response": "output"}}, ALPACA, "columns name no 'prompt'"),
        ({"tags": {"role": "from"}}, ALPACA, "tags are names of role_tag,"),
        ({"ranking": True}, ALPACA, "ranking needs the columns 'chosen' and 'rejected'"),
        ({"formatting": "chatml"}, ALPACA, "formatting 'chatml' is none of alpaca, sharegpt, openai"),
        ({"num_samples": 5}, ALPACA, "num_samples is a random sample, which is not drawn here"),
        (
            {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"}},
            {**ALPACA, "good": "yes"},
            "item 1: 'good' is 'yes'; it must be true or false",
        ),
        (
            {"columns": {"prompt": "instruction", "response": "output", "images": "pictures"}},
            {**ALPACA, "pictures": ["a.png"]},
            "item 1: 'images' is not empty",
        ),
        (
            {"formatting": "sharegpt"},
            {"conversations": [{"from": "user", "value": "Hi"}]},
            "item 1: 'from' is 'user', which is none of human, gpt, observation, function_call, system",
        ),
        ({"formatting": "sharegpt"}, {"conversations": 5}, "item 1: 'conversations' must be a list of objects"),
    ],
)
def test_an_entry_that_cannot_be_followed_is_refused(
    tmp_path: Path, entry: dict[str, Any], record: dict[str, Any], words: str
) -> None:
    assert words in fault(described(tmp_path, entry, record))


@pytest.mark.parametrize("content", ["[]", "{}", '{"a": 1}', "{"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text(content)
    assert fault(path).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("dataset_info.json", True),
        ("a#b/my_dataset_info.json#x y", True),
        ("data/x#dataset.json", False),
        ("dataset_info.jsonl", False),
    ],
)
def test_its_name_tells_the_file(path: str, is_one: bool) -> None:
    assert is_dataset_info(path) is is_one
