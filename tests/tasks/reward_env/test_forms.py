"""The forms of docs/fields.md, one file each in forms/: exactly the pairs that the authors train on, or a refusal."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
import zstandard
from form_records import ANSWER, FORMS, TEMPLATE, USER, WRONG, answers, fault, read, records, texts
from pyarrow import parquet

from harness.core.errors import CheckpointError, DataError

EXPECTED: dict[str, Any] = json.loads((FORMS / "expected.json").read_text(encoding="utf-8"))
DOCS = Path(__file__).parents[3] / "docs" / "fields.md"
LINES = [name for name, expected in EXPECTED.items() if name.endswith(".jsonl") and "pairs" in expected]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_form_gives_the_pairs_its_authors_train_on_or_is_refused(name: str) -> None:
    expected = EXPECTED[name]
    if "refused" in expected:
        with pytest.raises(DataError) as caught:
            read(FORMS / name)
        assert str(caught.value).replace(f"{FORMS}/", "") == expected["refused"]
        return
    field = read(FORMS / name)
    assert texts(field) == expected["pairs"]
    assert len(field) == len(expected["pairs"])
    counts = {
        key: field.source[key]
        for key in ("undesired_left_out", "rejected_left_out", "masked_turns")
        if key in field.source
    }
    assert counts == {key: count for key, count in expected.items() if key != "pairs"}


def test_every_row_of_the_table_of_forms_has_a_file_and_every_file_a_row() -> None:
    table = DOCS.read_text(encoding="utf-8").split("<!-- forms -->")[1]
    rows = re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)
    assert sorted(rows) == sorted(EXPECTED)
    described = json.loads((FORMS / "dataset_info.json").read_text(encoding="utf-8"))
    read_through_it = {entry["file_name"] for entry in described.values() if "file_name" in entry}
    files = {path.name for path in FORMS.iterdir()} - {"expected.json", "chat.jinja", "dataset_info.json"}
    assert files == {name for name in EXPECTED if "#" not in name} | read_through_it


@pytest.mark.parametrize("kind", ["json", "jsonl.gz", "jsonl.zst", "json.gz", "parquet", "parquet.gz"])
@pytest.mark.parametrize("name", LINES)
def test_a_form_reads_the_same_from_every_kind_of_file(tmp_path: Path, name: str, kind: str) -> None:
    content = (FORMS / name).read_bytes()
    values = [json.loads(line) for line in content.splitlines()]
    path = tmp_path / f"data.{kind}"
    if kind.startswith("json.") or kind == "json":
        content = json.dumps(values, indent=1).encode()
    if kind.startswith("parquet"):
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist(values), sink)
        content = sink.getvalue().to_pybytes()
    pack = {"gz": gzip.compress, "zst": zstandard.compress}.get(kind.rpartition(".")[2], bytes)
    path.write_bytes(pack(content))
    assert texts(read(path)) == EXPECTED[name]["pairs"]


@pytest.mark.parametrize(
    "name", ["kto_alpaca.jsonl", "completion_text.jsonl", "dpo_messages.jsonl", "messages_tools.jsonl"]
)
def test_a_form_reads_the_same_from_a_csv_file_with_messages_as_json_text(tmp_path: Path, name: str) -> None:
    values = [json.loads(line) for line in (FORMS / name).read_bytes().splitlines()]
    rows = [{k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in value.items()} for value in values]
    pandas.DataFrame(rows).to_csv(tmp_path / "data.csv", index=False)
    assert texts(read(tmp_path / "data.csv")) == EXPECTED[name]["pairs"]


def test_messages_that_pandas_wrote_to_csv_as_python_prints_them_are_refused(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"prompt": [[USER]], "completion": [[ANSWER]]})
    frame.to_csv(tmp_path / "data.csv", index=False)
    with pytest.raises(DataError, match="row 1: 'prompt' holds messages as Python prints them; save the file as JSON"):
        read(tmp_path / "data.csv")


TRAINED = (
    "weight",
    "loss",
    "loss_weight",
    "loss_scale",
    "loss_mask",
    "train",
    "training",
    "trainable",
    "train_on_turn",
)
MASKED = ("mask", "masked", "is_masked", "ignore_loss", "no_loss")


@pytest.mark.parametrize("key", [*TRAINED, *MASKED])
@pytest.mark.parametrize("sharegpt", [False, True])
@pytest.mark.parametrize("marked", [True, False])
def test_a_masked_turn_is_context_and_no_answer(tmp_path: Path, key: str, sharegpt: bool, marked: bool) -> None:
    yes = key in TRAINED
    wrong, right = {**WRONG, key: not yes}, {**ANSWER, **({key: yes} if marked else {})}
    turns = [USER, wrong, USER, right]
    record: dict[str, Any] = {"messages": turns}
    if sharegpt:
        speakers = {"user": "human", "assistant": "gpt"}
        rest = [{k: v for k, v in turn.items() if k not in ("role", "content")} for turn in turns]
        both = zip(turns, rest, strict=True)
        record = {"conversations": [{"from": speakers[t["role"]], "value": t["content"], **more} for t, more in both]}
    field = read(records(tmp_path, record))
    assert texts(field) == [
        ["[user] Hi<|im_end|>\n[assistant] Concrete.<|im_end|>\n[user] Hi<|im_end|>\n[assistant] ", "Hello.<|im_end|>"]
    ]
    assert field.source["masked_turns"] == 1


@pytest.mark.parametrize("mark", [0, 0.0, "false", "False"])
def test_a_mark_may_be_a_number_or_its_word(tmp_path: Path, mark: Any) -> None:
    assert answers(tmp_path, {"messages": [USER, {**WRONG, "train": mark}, USER, ANSWER]}) == ["Hello."]


@pytest.mark.parametrize(
    "mark", [{"unmasked": 0}, {"is_target": False}, {"backprop": False}, {"requires_grad": 0}, {"isTrained": False}]
)
def test_a_turn_is_masked_by_whatever_word_says_so(tmp_path: Path, mark: dict[str, Any]) -> None:
    assert answers(tmp_path, {"messages": [USER, {**WRONG, **mark}, USER, ANSWER]}) == ["Hello."]


@pytest.mark.parametrize(
    "beside",
    [
        {"avg_loss": 0.53},
        {"val_loss": 0},
        {"loss_value": 1.25},
        {"masked_pii": "My name is [NAME]."},
        {"training_data": "gsm8k"},
        {"grade": 0},
        {"weights": {"a": 1}},
    ],
)
def test_a_key_that_says_something_else_is_no_mark(tmp_path: Path, beside: dict[str, Any]) -> None:
    assert answers(tmp_path, {"messages": [USER, {**ANSWER, **beside}]}) == ["Hello."]


def test_a_masked_turn_may_be_empty_and_is_part_of_the_identity(tmp_path: Path) -> None:
    empty = {"role": "assistant", "content": "", "weight": 0}
    assert answers(tmp_path, {"messages": [USER, empty, USER, ANSWER]}) == ["Hello."]
    trained = read(records(tmp_path, {"messages": [USER, WRONG, USER, ANSWER]})).digest
    assert read(records(tmp_path, {"messages": [USER, {**WRONG, "weight": 0}, USER, ANSWER]})).digest != trained
    assert read(records(tmp_path, {"messages": [USER, {**WRONG, "weight": 1}, USER, ANSWER]})).digest == trained


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"weight": 0.5}, "'weight' of a turn is 0.5; a turn is scored or it is not, so write 0 or 1"),
        ({"loss": "some"}, "'loss' of a turn is 'some'"),
        ({"mask": 1}, "'mask' of a turn is 1; a turn is scored or it is not, so write true or false, or 'weight'"),
        ({"weight": 0, "train": True}, "'weight' and 'train' of a turn disagree"),
        ({"train_detail": [{"begin_offset": 0}]}, "'train_detail' marks parts of a turn"),
        ({"spans": [{"begin_offset": 0}]}, "'spans' marks parts of a turn"),
        ({"train_on_input": False}, "'train_on_input' of an answer is False, and whether it is trained is not clear"),
        ({"sftLossMask": [0, 1]}, "key 'sftLossMask' of a turn looks like a training mark that is not known"),
        ({"supervise": False}, "key 'supervise' of a turn looks like a training mark"),
        ({"reasoning_content": ["a"]}, "'reasoning_content' of an answer is list; it must be text"),
        ({"my_weight": 0}, "key 'my_weight' of a turn looks like a training mark that is not known"),
        ({"gradient": 0}, "key 'gradient' of a turn looks like a training mark that is not known"),
        ({"training_data": True}, "key 'training_data' of a turn looks like a training mark that is not known"),
        ({"loss_factor": 0}, "key 'loss_factor' of a turn looks like a training mark that is not known"),
        ({"optimised": "no"}, "key 'optimised' of a turn looks like a training mark that is not known"),
        ({"label": False}, "a turn is marked as not wanted; write 'weight': 0"),
        ({"images": ["a.png"]}, "a turn has 'images'; images, video and audio are not scored"),
    ],
)
def test_a_mark_of_a_turn_that_is_not_clear_is_refused_by_name(
    tmp_path: Path, answer: dict[str, Any], words: str
) -> None:
    message = fault(tmp_path, {"messages": [USER, ANSWER]}, {"messages": [USER, {**ANSWER, **answer}]})
    assert message.startswith("/data.jsonl line 2: ") and words in message


@pytest.mark.parametrize("key", ["train", "loss", "train_on_input", "loss_weight"])
def test_a_question_that_is_trained_is_refused(tmp_path: Path, key: str) -> None:
    assert f"{key!r} marks a turn that is not the assistant's as trained" in fault(
        tmp_path, {"messages": [{**USER, key: True}, ANSWER]}
    )
    assert answers(tmp_path, {"messages": [{**USER, key: False, "weight": 1}, ANSWER]}) == ["Hello."]


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({"images": ["a.png"]}, "'images' is not empty"),
        ({"videos": ["a.mp4"]}, "'videos' is not empty"),
        ({"audios": [{"bytes": ""}]}, "'audios' is not empty"),
        ({"image": "a.png"}, "'image' is not empty"),
        ({"rejected_images": ["a.png"]}, "'rejected_images' is not empty; images, video and audio are not scored"),
        ({"objects": {"ref": ["x"], "bbox": [[0, 1]]}}, "'objects' is not empty; images"),
        ({"loss_mask": [0, 1]}, "'loss_mask' is a list beside the turns"),
        ({"turn_weights": [0, 1]}, "'turn_weights' looks like a list of the turns that are trained"),
        ({"trainTurns": [3]}, "'trainTurns' looks like a list of the turns"),
        ({"mask_history": True}, "'mask_history' is True, so the last answer alone is trained"),
        ({"last_turn_only": True}, "'last_turn_only' is True, so the last answer alone"),
        ({"train_on_last_turn": "true"}, "'train_on_last_turn' is 'true', so the last answer alone"),
        ({"rejected_output": "x"}, "'rejected_output' looks like the answer that is not wanted"),
        ({"mask": "Assistant"}, "'mask' is 'Assistant', so the answers are not trained"),
        ({"weight": 0}, "'weight' is 0, so the record is not trained"),
        ({"train": False}, "'train' is False, so the record is not trained"),
        ({"masked": True}, "'masked' is True, so the record is not trained"),
        ({"train_on_input": True}, "only answers are scored, not questions"),
        ({"type": "TEXT_TO_VALUE"}, "puts labels into the prompt"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "sets the chat template, which is not applied here"),
        ({"kto_tag": "yes"}, "'kto_tag' is 'yes', and whether that marks a wanted answer is not clear"),
        ({"label": 0}, "'label' is 0, and whether that marks a wanted answer is not clear"),
        ({"label": "undesirable"}, "'label' is 'undesirable', and whether"),
        ({"label": False, "kto_tag": True}, "'kto_tag' and 'label' disagree"),
        ({"system": "Be brief.", "messages": [{"role": "system", "content": "Be long."}, USER, ANSWER]}, "two system"),
        ({"system_prompt": "Be brief."}, "'system_prompt' is not the first turn"),
        ({"label": True, "messages": [USER, ANSWER, USER]}, "the last turn is no answer"),
    ],
)
def test_a_record_with_a_key_that_cannot_be_followed_is_refused_by_name(
    tmp_path: Path, beside: dict[str, Any], words: str
) -> None:
    good = {"messages": [USER, ANSWER]}
    message = fault(tmp_path, good, {**good, **beside})
    assert message.startswith("/data.jsonl line 2: ") and words in message


@pytest.mark.parametrize(
    "beside",
    [
        {"images": [], "videos": None, "audios": ""},
        {"mask": "User", "label": "fruit"},
        {"weight": 1.0, "loss": 0.402, "label": 3},
        {"train_on_input": False, "kto_tag": None},
        {"losses": [2.5, 1.25], "train_loss_history": [1, 0], "mask_history": False, "history_length": 3},
    ],
)
def test_a_key_that_changes_nothing_is_passed_over(tmp_path: Path, beside: dict[str, Any]) -> None:
    field = read(records(tmp_path, {"messages": [USER, ANSWER], **beside}))
    assert field.digest == read(records(tmp_path, {"messages": [USER, ANSWER]})).digest
    assert field.source == {"file": "data.jsonl", "format": "messages"}


def test_a_file_without_an_answer_that_is_trained_says_what_was_left_out(tmp_path: Path) -> None:
    masked = {"messages": [USER, {**ANSWER, "weight": 0}]}
    undesired = {"messages": [USER, ANSWER], "label": False}
    message = fault(tmp_path, masked, undesired)
    assert (
        "no answer in /data.jsonl is one that its authors train on (1 undesired left out and 1 masked turns)" in message
    )


def test_ids_stay_those_of_the_records_where_some_are_left_out(tmp_path: Path) -> None:
    good, bad = {"q": "a", "r": "b", "label": True}, {"q": "a", "r": "c", "label": False}
    assert [item.id for item in read(records(tmp_path, bad, good, bad, good)).content] == ["1", "3"]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"prompt": "a", "completion": [ANSWER]}, "'prompt' and 'completion' must both be text or both be lists"),
        ({"prompt": "a", "completion": ""}, "completion is empty, so there is nothing to score"),
        (
            {"prompt": "a", "completion": "b", "system": "c"},
            "'system' goes with messages, but 'prompt' and 'completion'",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "tools": [{}]}, "'tools' goes with messages"),
        ({"prompt": [USER], "completion": [USER]}, "no assistant turn"),
        ({"prompt": [USER, ANSWER], "completion": [ANSWER]}, "the prompt ends with an assistant turn"),
        ({"prompt": [USER], "completion": []}, "'completion' must be a message or a list of messages"),
        (
            {"instruction": "a", "output": ["good", "bad"]},
            "'output' is a list of answers; give the wanted one as 'chosen'",
        ),
        ({"messages": [USER], "chosen": 1, "rejected": 2}, "'chosen' must be a message or a list of messages"),
        ({"chosen": [USER, ANSWER], "rejected": "x"}, "'chosen' is a whole conversation and 'rejected' is not"),
        ({"messages": "[{"}, "'messages': not valid JSON"),
        ({"conversations": [{"from": "function_call", "value": 'I go. {"name": }'}]}, "function_call: not valid JSON"),
    ],
)
def test_a_record_of_a_form_that_is_not_whole_is_refused(tmp_path: Path, record: dict[str, Any], words: str) -> None:
    message = fault(tmp_path, record)
    assert message.startswith("/data.jsonl line 1: ") and words in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"type": "text", "text": "a"}, {"type": "reasoning", "value": "b"}], "reasoning stands after text"),
        (
            [{"type": "tool_call", "value": '{"name": "f"}'}, {"type": "text", "text": "a"}],
            "text stands after a tool call",
        ),
        ([{"type": "refusal", "refusal": "no"}], "a part of type 'refusal' is not scored"),
        ([{"type": "text"}], "a part of the content has no text"),
        ([{"type": "text", "text": "a", "value": "b"}], "a part of the content has several texts"),
        ([{"type": "text", "text": "a", "image_url": "b"}], "images and audio are not scored"),
        ([{"type": "input_audio", "input_audio": {"data": ""}}], "images and audio are not scored"),
    ],
)
def test_content_that_is_no_text_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    assert words in fault(tmp_path, {"messages": [USER, {"role": "assistant", "content": content}]})


CHATML = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
NAMES_ONLY = CHATML.replace(
    "<|im_end|>", "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}<|im_end|>"
)
NO_TEXT_BESIDE_CALLS = (
    "{% for m in messages %}[{{ m.role }}] {% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}"
    "{% else %}{{ m.content.split('</think>')[-1] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
CALL = {"function": {"name": "lookup", "arguments": {"id": 1}}}


@pytest.mark.parametrize(
    ("answer", "template", "words"),
    [
        ({"content": "Hello.", "reasoning_content": "They greet me."}, CHATML, "'reasoning_content' of message 2"),
        ({"content": "Hello.", "thinking": "They greet me."}, CHATML, "'thinking' of message 2"),
        ({"content": "Hello.", "reasoning": "They greet me."}, CHATML, "'reasoning' of message 2"),
        ({"content": "Let me look.", "function_calls": "w(city='X')"}, CHATML, "'function_calls' of message 2"),
        ({"content": "Look.", "function_calls": [{"name": "w"}]}, CHATML, "'function_calls' of message 2"),
        (
            {"content": [{"type": "reasoning", "text": "hmm"}, {"type": "text", "text": "Hello."}]},
            CHATML,
            "'reasoning_con",
        ),
        ({"content": "", "refusal": "No."}, TEMPLATE, "'refusal' of message 2"),
        ({"content": "I look.", "tool_calls": [CALL]}, NO_TEXT_BESIDE_CALLS, "text of the content of message 2"),
        ({"content": "<think>Two.</think>It is 2."}, NO_TEXT_BESIDE_CALLS, "text of the content of message 2"),
        ({"content": "", "tool_calls": [CALL]}, CHATML, "the tool call 'lookup' of message 2"),
        ({"content": "", "tool_calls": [CALL]}, NAMES_ONLY, "the arguments of a tool call of message 2"),
    ],
)
def test_a_part_of_an_answer_that_the_template_leaves_out_is_refused(
    tmp_path: Path, answer: dict[str, Any], template: str, words: str
) -> None:
    field = read(records(tmp_path, {"messages": [USER, {"role": "assistant", **answer}]}))
    with pytest.raises(CheckpointError) as caught:
        texts(field, template)
    assert f"line 1: the chat template leaves out {words}" in str(caught.value)


@pytest.mark.parametrize("key", ["functions", "tools"])
def test_what_calls_gave_and_what_can_be_called_may_stand_in_turns_of_open_instruct_and_glm(
    tmp_path: Path, key: str
) -> None:
    system = {"role": "system", "content": "You have functions.", key: [{"name": "w"}]}
    field = read(
        records(tmp_path, {"messages": [system, USER, ANSWER, {"role": "environment", "content": "3"}, ANSWER]})
    )
    template = TEMPLATE.replace("m.functions", "m.tools") if key == "tools" else TEMPLATE
    assert texts(field, template)[1][0].endswith("[environment] 3<|im_end|>\n[assistant] ")
    with pytest.raises(CheckpointError, match=f"line 1: the chat template leaves out the '{key}' of message 1"):
        texts(field, CHATML)
    shared = [{"from": "system", "value": "You have functions.", key: [{"name": "w"}]}, USER, ANSWER]
    with pytest.raises(CheckpointError, match=f"line 1: the chat template leaves out the '{key}' of message 1"):
        texts(read(records(tmp_path, {"conversations": shared})), CHATML)


@pytest.mark.parametrize(
    "answer",
    [
        {"content": [{"type": "tool_use", "name": "w", "input": {"a": 1}, "caller": {"type": "direct"}}]},
        {"tool_calls": [{"function": {"name": "w", "arguments": {"a": 1}}, "extra_content": {"google": {"b": "c"}}}]},
        {"tool_calls": [{"function": {"name": "w", "arguments": {"a": 1}, "provider_specific_fields": {"b": "c"}}}]},
    ],
    ids=["Anthropic", "Google", "LiteLLM"],
)
def test_what_a_provider_sends_beside_a_call_is_no_part_of_it(tmp_path: Path, answer: dict[str, Any]) -> None:
    record = {"messages": [USER, {"role": "assistant", **answer}]}
    assert answers(tmp_path, record) == ['<call>{"name": "w", "arguments": {"a": 1}}</call>']


def test_functions_that_the_template_leaves_out_of_the_prompt_are_refused(tmp_path: Path) -> None:
    system = {"role": "system", "content": "You have functions.", "functions": '[{"name": "w"}]'}
    field = read(records(tmp_path, {"messages": [system, USER, ANSWER]}))
    assert '<functions>[{"name": "w"}]</functions>' in texts(field)[0][0]
    with pytest.raises(CheckpointError, match="line 1: the chat template leaves out the 'functions' of message 1"):
        texts(field, CHATML)


def test_white_space_and_marks_that_a_template_sets_around_a_thought_leave_nothing_out(tmp_path: Path) -> None:
    """Qwen3's way: the thought is taken out of the content and put on lines of its own."""
    qwen = (
        "{% for m in messages %}[{{ m.role }}] {% if '</think>' in m.content %}<think>\n"
        "{{ m.content.split('</think>')[0].split('<think>')[-1].strip() }}\n</think>\n\n"
        "{{ m.content.split('</think>')[-1].strip() }}{% else %}{{ m.content | trim }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    record = {"messages": [USER, {"role": "assistant", "content": "<think>Two.</think>  It is 2.\n"}]}
    ((_, r),) = texts(read(records(tmp_path, record)), qwen)
    assert r == "<think>\nTwo.\n</think>\n\nIt is 2.<|im_end|>"


@pytest.mark.parametrize(
    ("before", "content"),
    [("", ""), ("<think>{hm}</think>\n", "<think>{hm}</think>"), ("I [look] up {x}: ", "I [look] up {x}:")],
)
@pytest.mark.parametrize("many", [False, True])
def test_what_stands_before_a_call_is_content(tmp_path: Path, before: str, content: str, many: bool) -> None:
    call = {"name": "w", "arguments": {"city": "X"}}
    value = before + json.dumps([call, call] if many else call)
    record = {"conversations": [{"from": "human", "value": "?"}, {"from": "function_call", "value": value}]}
    call_text = f"<call>{json.dumps(call)}</call>"
    assert answers(tmp_path, record) == [content + call_text * (2 if many else 1)]


def test_an_answer_of_only_function_calls_is_scored(tmp_path: Path) -> None:
    turn = {"role": "assistant", "content": None, "function_calls": "w()"}
    assert answers(tmp_path, {"messages": [USER, turn]}) == ["<calls>w()</calls>"]


IDENTITIES: dict[str, tuple[Any, str]] = {
    "pairs": (
        {"q": "a", "r": "b", "id": 7, "cluster": 3},
        "sha256:73a3801f50dd20edc3c6e2d4b51c9365e6e4700fd54ca54729e143ecf2d9ab29",
    ),
    "messages": (
        {"messages": [USER, {**ANSWER, "weight": 1, "name": "x", "train": True}], "id": "c1", "tools": [{"name": "f"}]},
        "sha256:a30de989d03cf5ecd648e075974ee035952f6f254bfe1ea15c438b423c9d6b23",
    ),
    "sharegpt": (
        {
            "system": "s",
            "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo", "loss": True}],
        },
        "sha256:aa9d70e99559784cb6a2a274397f3fbfcbb4e261fa6151068b5ea045f25049d5",
    ),
    "alpaca": (
        {"instruction": "i", "input": "n", "output": "o", "system": "s", "history": [["a", "b"]], "label": 3},
        "sha256:33542bc32124b9dafec3064638dd34eb2253b77c9553c73a7094ad607f344239",
    ),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_identity_of_data_that_were_read_rightly_stays(tmp_path: Path, name: str) -> None:
    record, digest = IDENTITIES[name]
    assert read(records(tmp_path, record)).digest == digest


@pytest.mark.parametrize(
    "name",
    [
        *("reason", "scratchpad", "rationale", "think", "inner_thoughts", "internal_monologue", "reasoningContent"),
        *("Thought", "chain-of-thought", "reasoning_trace", "analysis"),
    ],
)
@pytest.mark.parametrize("sharegpt", [False, True])
def test_a_thought_under_another_name_is_refused_where_the_template_leaves_it_out(
    tmp_path: Path, name: str, sharegpt: bool
) -> None:
    record: dict[str, Any] = {"messages": [USER, {**ANSWER, name: "They greet me."}]}
    if sharegpt:
        record = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello.", name: "Hm."}]}
    with pytest.raises(CheckpointError, match=f"leaves out '{name}' of message 2"):
        texts(read(records(tmp_path, record)))
    shown = TEMPLATE.replace("{% if m.reasoning_content %}", f"{{{{ m['{name}'] }}}}{{% if m.reasoning_content %}}")
    assert texts(read(records(tmp_path, record)), shown)[0][1].endswith("Hello.<|im_end|>")


@pytest.mark.parametrize(
    "beside",
    [
        {"finish_reason": "stop"},
        {"reasoning_tokens": 12},
        {"reasoning_effort": "high"},
        {"thinking_signature": "abc"},
        {"channel": "final"},
        {"thought": "Hello."},
        {"reason": None},
    ],
)
def test_what_is_no_thought_or_stands_in_the_content_is_not_asked_for(tmp_path: Path, beside: dict[str, Any]) -> None:
    assert answers(tmp_path, {"messages": [USER, {**ANSWER, **beside}]}) == ["Hello."]


def test_a_thought_that_happens_to_stand_in_the_answer_is_still_missed(tmp_path: Path) -> None:
    turn = {"role": "assistant", "content": "It is 2", "reasoning_content": "2"}
    with pytest.raises(CheckpointError, match="leaves out 'reasoning_content' of message 2"):
        texts(read(records(tmp_path, {"messages": [USER, turn]})), CHATML)


@pytest.mark.parametrize(
    "copy", [{"reasoning": "Two."}, {"thinking_blocks": [{"type": "thinking", "thinking": "Two."}]}]
)
def test_a_thought_that_stands_twice_is_printed_once(tmp_path: Path, copy: dict[str, Any]) -> None:
    turn = {"role": "assistant", "content": "2", "reasoning_content": "Two.", **copy}
    assert answers(tmp_path, {"messages": [USER, turn]}) == ["<think>Two.</think>2"]


def test_a_thought_that_gpt_oss_puts_into_a_channel_is_no_answer(tmp_path: Path) -> None:
    turn = {**ANSWER, "channel": "analysis"}
    with pytest.raises(CheckpointError, match="leaves out 'channel' of message 2"):
        texts(read(records(tmp_path, {"messages": [USER, turn]})))


def test_each_of_several_calls_must_be_printed(tmp_path: Path) -> None:
    calls = [{"function": {"name": "f", "arguments": {"a": number}}} for number in (1, 2)]
    record = {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": calls}]}
    assert len(answers(tmp_path, record)) == 1
    first = TEMPLATE.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")
    with pytest.raises(CheckpointError, match="leaves out the tool call 'f' of message 2"):
        texts(read(records(tmp_path, record)), first)
    names = TEMPLATE.replace("c.function | tojson", "c.function.name if loop.index > 1 else c.function | tojson")
    with pytest.raises(CheckpointError, match="leaves out the arguments of a tool call of message 2"):
        texts(read(records(tmp_path, record)), names)


@pytest.mark.parametrize(
    "call",
    [
        {"name": "f", "parameters": {"a": 1}},
        {"name": "f", "args": {"a": 1}, "id": "x", "type": "tool_call"},
        {"name": "f", "input": {"a": 1}},
        {"type": "function", "function": {"name": "f", "parameters": {"a": 1}}},
        {"type": "function", "function": {"name": "f", "arguments": {}}, "weight": 0},
    ],
)
def test_arguments_under_another_name_are_refused(tmp_path: Path, call: dict[str, Any]) -> None:
    key = next(key for key in ("parameters", "args", "input", "weight") if key in {**call, **call.get("function", {})})
    for turn in (
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"from": "function_call", "value": json.dumps(call)},
        {"role": "assistant", "content": [{"type": "tool_call", "value": json.dumps(call)}]},
    ):
        asked = {"from": "human", "value": "?"} if "from" in turn else USER
        record = {"conversations" if "from" in turn else "messages": [asked, turn]}
        assert f"line 1: tool call 'f' has the key {key!r}" in fault(tmp_path, record)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "tool_use", "name": "f", "parameters": {"a": 1}}, "tool call 'f' has the key 'parameters'"),
        ({"type": "text", "text": "a", "weight": 0}, "'weight' marks a part of a turn"),
        ({"type": "text", "text": "a", "train": False}, "'train' marks a part of a turn"),
    ],
)
def test_a_part_of_the_content_that_says_more_than_is_read_is_refused(
    tmp_path: Path, part: dict[str, Any], words: str
) -> None:
    assert words in fault(tmp_path, {"messages": [USER, {"role": "assistant", "content": [part]}]})


@pytest.mark.parametrize("arguments", ['"{\\"a\\": 1}"', "3", "true"])
def test_arguments_that_are_no_object_are_refused(tmp_path: Path, arguments: str) -> None:
    call = {"function": {"name": "f", "arguments": arguments}}
    record = {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [call]}]}
    assert "arguments of tool call 'f' are" in fault(tmp_path, record)


LEAVES_OUT = {
    "tools": ("the tools on offer", TEMPLATE.split("{% endif %}", 1)[1]),
    "system": (r"message 1 \(system\)", TEMPLATE.replace("in messages %}", "in messages if m.role != 'system' %}")),
    "developer": (
        r"message 1 \(developer\)",
        TEMPLATE.replace("in messages %}", "in messages if m.role != 'developer' %}"),
    ),
    "tool": (r"message 4 \(tool\)", TEMPLATE.replace("in messages %}", "in messages if m.role != 'tool' %}")),
}


@pytest.mark.parametrize("what", LEAVES_OUT)
def test_a_template_that_leaves_out_what_an_answer_follows_from_is_refused(tmp_path: Path, what: str) -> None:
    opening = {"role": "developer" if what == "developer" else "system", "content": "Be brief."}
    called = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    turns = [opening, USER, called, {"role": "tool", "content": "42"}, ANSWER]
    field = read(
        records(tmp_path, {"messages": turns, "tools": [{"type": "function", "function": {"name": "lookup"}}]})
    )
    assert len(texts(field)) == 2
    words, template = LEAVES_OUT[what]
    with pytest.raises(CheckpointError, match=f"line 1: the chat template leaves out {words}"):
        texts(field, template)


def test_a_template_that_prints_the_system_prompt_with_the_last_question_alone_shows_it(tmp_path: Path) -> None:
    """Mistral's way: after a tool's result the system prompt is gone, and so it is where the model is used."""
    mistral = (
        "{% set user = messages | selectattr('role', 'equalto', 'user') | list | last %}"
        "{% for m in messages if m.role != 'system' %}[{{ m.role }}] "
        "{% if loop.last and m == user and messages[0].role == 'system' %}{{ messages[0].content }} {% endif %}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    called = {"role": "assistant", "content": "", "tool_calls": [CALL], "weight": 0}
    turns = [{"role": "system", "content": "Be brief."}, USER, called, {"role": "tool", "content": "42"}, ANSWER]
    assert [r for _, r in texts(read(records(tmp_path, {"messages": turns})), mistral)] == ["Hello.<|im_end|>"]


@pytest.mark.parametrize("key", ["train", "trainable", "isTrained", "masked", "weight", "loss_mask"])
@pytest.mark.parametrize("table", [False, True])
def test_a_record_that_is_marked_as_not_trained_in_words_is_refused(tmp_path: Path, key: str, table: bool) -> None:
    mark = {"masked": "True", "weight": "0", "loss_mask": "0.0"}.get(key, "False")
    if table:
        (tmp_path / "data.csv").write_text(f"q,r,{key}\na,b,{mark}\n")
        with pytest.raises(DataError, match=f"row 1: '{key}' is '{mark}', so the record is not trained"):
            read(tmp_path / "data.csv")
    else:
        message = fault(tmp_path, {"messages": [USER, ANSWER], key: mark})
        assert f"{key!r} is {mark!r}, so the record is not trained" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, False) for key in ("is_chosen", "chosen", "accepted", "preferred", "thumbs_up", "ktoTag", "Label")],
        *[(key, True) for key in ("undesirable", "rejected", "is_rejected", "unwanted", "thumbs_down")],
        *[("is_chosen", "False"), ("rejected", "true")],
    ],
)
def test_an_answer_that_is_unwanted_in_other_words_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    message = fault(tmp_path, {"messages": [USER, ANSWER], key: value})
    assert f"{key!r} is {value!r}, which looks like an answer that is not wanted; write 'label': false" in message


@pytest.mark.parametrize("key", ["chosen", "rejected"])
def test_one_answer_of_a_pair_without_the_other_is_refused(tmp_path: Path, key: str) -> None:
    record = {"messages": [USER, ANSWER, USER], key: "Concrete."}
    assert f"line 1: {key!r} stands without its counterpart" in fault(tmp_path, record)


@pytest.mark.parametrize("key", ["system_message", "systemPrompt", "System", "sys", "developer", "system_instruction"])
def test_a_system_prompt_under_another_name_is_refused(tmp_path: Path, key: str) -> None:
    assert f"{key!r} is not the first turn" in fault(tmp_path, {"messages": [USER, ANSWER], key: "Be brief."})
    apart = [{"role": "system", "content": "Be kind."}, USER, ANSWER]
    assert f"{key!r} is not the first turn" in fault(tmp_path, {"messages": apart, key: "Be brief."})
    within = [{"role": "system", "content": "Reasoning: low\n\nBe brief."}, USER, ANSWER]
    assert answers(tmp_path, {"messages": within, key: "Be brief."}) == ["Hello."]
    assert f"{key!r} goes with messages" in fault(tmp_path, {"prompt": "a", "completion": "b", key: "Be brief."})


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({"role": "assistant", "from": "human", "content": "a"}, "a turn has 'role' 'assistant' and 'from' 'human'"),
        ({"role": "assistant", "content": "a", "value": "b"}, "a turn has 'value' and 'content', and they differ"),
        ({"from": "gpt", "content": "a", "value": "b"}, "a turn has 'value' and 'content', and they differ"),
    ],
)
def test_a_turn_that_says_two_things_is_refused(tmp_path: Path, turn: dict[str, Any], words: str) -> None:
    assert words in fault(tmp_path, {"messages": [USER, turn]})
    alike = {"role": "assistant", "from": "gpt", "content": "Hello.", "value": "Hello."}
    assert answers(tmp_path, {"messages": [USER, alike]}) == ["Hello."]


def parquet_of(path: Path, table: Any) -> Path:
    parquet.write_table(table, path)
    return path


def test_arguments_that_parquet_holds_as_a_map_are_an_object(tmp_path: Path) -> None:
    function = pyarrow.struct(
        [("name", pyarrow.string()), ("arguments", pyarrow.map_(pyarrow.string(), pyarrow.string()))]
    )
    turn = pyarrow.struct(
        [
            ("role", pyarrow.string()),
            ("content", pyarrow.string()),
            ("tool_calls", pyarrow.list_(pyarrow.struct([("function", function)]))),
        ]
    )
    call = {"function": {"name": "f", "arguments": [("a", "1"), ("b", "2")]}}
    turns = [USER, {"role": "assistant", "content": "", "tool_calls": [call]}]
    table = pyarrow.table({"messages": pyarrow.array([turns], type=pyarrow.list_(turn))})
    ((_, r),) = texts(read(parquet_of(tmp_path / "data.parquet", table)))
    assert r == '<call>{"name": "f", "arguments": {"a": "1", "b": "2"}}</call><|im_end|>'


@pytest.mark.parametrize("value", [b"1", float("nan")])
def test_arguments_that_parquet_holds_and_json_cannot_are_refused(tmp_path: Path, value: Any) -> None:
    call = {"function": {"name": "f", "arguments": {"a": value}}}
    table = pyarrow.Table.from_pylist(
        [{"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [call]}]}]
    )
    with pytest.raises(DataError, match="row 1: arguments of tool call 'f': holds what JSON does not have"):
        read(parquet_of(tmp_path / "data.parquet", table))


def test_a_template_that_is_endless_for_these_conversations_alone_renders_nothing(tmp_path: Path) -> None:
    bomb = TEMPLATE + "{% if messages | length > 7 %}{{ messages[0].role * 3000000000 }}{% endif %}"
    short, long = {"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER] * 5}
    assert len(texts(read(records(tmp_path, short)), bomb)) == 1
    with pytest.raises(CheckpointError, match="ends in MemoryError for a conversation of the data"):
        texts(read(records(tmp_path, long)), bomb)
