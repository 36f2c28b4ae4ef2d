"""Credentials in places that end in files: refused without being shown, wherever settings are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.cli import run
from harness.core.chat_config import ChatConfig
from harness.core.errors import SpecError
from harness.core.serving import ServeSettings
from harness.engines.chat.open import ChatSettings, open_chat
from harness.engines.vllm.settings import key_of

KEY = "sk-Zq8Wv3LmT5xR7nB2"
ADDRESSES = [
    f"http://bob:{KEY}@host/v1",
    f"http://{KEY}@host/v1",
    f"http://host/v1?api_key={KEY}",
    f"http://host/v1#{KEY}",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_a_credential_is_refused_and_not_shown(address: str) -> None:
    for made in (lambda: ChatConfig(model="openai/m", api_base=address), lambda: ServeSettings(url=address)):
        with pytest.raises(ValidationError, match="which would end in files; give the address alone") as caught:
            made()
        assert KEY not in str(caught.value) and KEY not in repr(caught.value)
    with pytest.raises(SpecError, match="api base of openai/m holds a user name") as refused:
        open_chat(ChatSettings(model="openai/m", api_base=address))
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000/v1", "https://[::1]:80/v1", "http://host/~bob/v1"])
def test_a_plain_address_stays_as_it_is(address: str) -> None:
    assert ChatConfig(model="openai/m", api_base=address).api_base == address
    assert ServeSettings(url=address).url == address


def test_a_key_where_the_name_of_its_variable_belongs_is_not_shown() -> None:
    for name in (KEY, "key with blanks", "4711"):
        for made in (lambda: ChatConfig(model="m", api_key_env=name), lambda: ServeSettings(api_key_env=name)):  # noqa: B023
            with pytest.raises(ValidationError, match="is no name of an environment variable") as caught:
                made()
            assert name not in str(caught.value)
    hidden = "abcdef0123456789abcdef"  # could be a variable's name, and looks like none
    for ask in (ChatConfig(model="m", api_key_env=hidden).key, lambda: key_of(ServeSettings(api_key_env=hidden))):
        with pytest.raises(SpecError, match="not shown") as refused:
            ask()
        assert hidden not in str(refused.value)
    with pytest.raises(SpecError, match="variable NOBODY_SET_THIS is not set"):
        ChatConfig(model="m", api_key_env="NOBODY_SET_THIS").key()


@pytest.mark.parametrize(
    "arguments",
    [
        ["tau2", "rescore", "FILE", "--reviewer", "openai/m", "--reviewer-api-base", ADDRESSES[0]],
        ["tau2", "rescore", "FILE", "--reviewer", "openai/m", "--reviewer-api-key-env", KEY],
        [
            "tau2",
            "run",
            "-d",
            "mock",
            "--agent-llm",
            "openai/m",
            "--user-llm",
            "openai/m",
            "-o",
            "OUT",
            "--agent-api-base",
            ADDRESSES[2],
        ],
        [
            "tau2",
            "run",
            "-d",
            "mock",
            "--agent-llm",
            "openai/m",
            "--user-llm",
            "openai/m",
            "-o",
            "OUT",
            "--user-api-key-env",
            KEY,
        ],
        ["doctor", "--spec", "SPEC"],
        ["score", "nowhere", "--spec", "SPEC", "-o", "OUT"],
        ["score", "nowhere", "--spec", "SPEC", "-o", "OUT", "--dry-run"],
    ],
)
def test_no_verb_shows_a_misplaced_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (tmp_path / "r.jsonl").write_text('{"id": "a", "task_id": "create_task_1", "domain": "mock"}\n')
    (tmp_path / "spec.yaml").write_text(
        f"schema: 1\nserve: {{url: '{ADDRESSES[0]}', api_key_env: '{KEY}'}}\n"
        "components:\n  - {kind: logprob, field: stdlib_code}\n"
    )
    places = {"FILE": tmp_path / "r.jsonl", "SPEC": tmp_path / "spec.yaml", "OUT": tmp_path / "out"}
    assert run([str(places.get(word, word)) for word in arguments]) != 0
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err and "Traceback" not in printed.err
    assert not any(KEY in path.read_text() for path in tmp_path.glob("out/**/*") if path.is_file())
