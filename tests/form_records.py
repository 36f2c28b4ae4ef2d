"""Records of training data written to a file and read as a field, with the template that the samples in forms/ are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from harness.core.errors import DataError
from harness.tasks.reward_env.conversation import ConversationField
from harness.tasks.reward_env.field import PairField
from harness.tasks.reward_env.file_field import read_field

FORMS = Path(__file__).parent / "tasks" / "reward_env" / "forms"
TEMPLATE = (FORMS / "chat.jinja").read_text(encoding="utf-8")
USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}
WRONG = {"role": "assistant", "content": "Concrete."}


def read(path: Path, **options: Any) -> PairField | ConversationField:
    return read_field(path, name="mine", **options)


def texts(field: PairField | ConversationField, template: str = TEMPLATE) -> list[list[str]]:
    return [[pair.q, pair.r] for pair in field.pairs(tiny.tokenizer(bos=False, chat_template=template))]


def records(tmp_path: Path, *values: Any) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def fault(tmp_path: Path, *values: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(records(tmp_path, *values))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(tmp_path), "")


def answers(tmp_path: Path, *values: Any) -> list[str]:
    return [r.removesuffix("<|im_end|>") for _, r in texts(read(records(tmp_path, *values)))]
