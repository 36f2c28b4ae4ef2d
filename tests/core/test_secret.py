"""A key is in no text, however it was written; text without one stays as it is."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.secret import hide, hide_in

KEY = "sk-Proj/a+b=42&<Zürich>~0123456789"
WAYS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": str.upper,
    "quoted": lambda key: urllib.parse.quote(key, safe=""),
    "plus": urllib.parse.quote_plus,
    "twice": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "with Bearer": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "as a user": lambda key: base64.urlsafe_b64encode(f"me:{key}!".encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "json": json.dumps,
    "html": html.escape,
    "escapes": lambda key: "".join(f"\\u{ord(letter):04x}" for letter in key),
    "backwards": lambda key: key[::-1],
    "cut": lambda key: key[:12],
    "the end of it": lambda key: key[-12:],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_no_way_of_writing_a_key_shows_it(way: Callable[[str], str]) -> None:
    written = way(KEY)
    said = hide(f"Incorrect key {written} provided.", [None, "", KEY])
    assert said.startswith("Incorrect key ") and said.endswith(" provided.") and "***" in said
    assert not any(written[at : at + 12].lower() in said.lower() for at in range(len(written) - 12))


def test_every_text_of_a_body_is_cleared() -> None:
    body = {"error": [{KEY: 1, "message": f"no {KEY}"}], "n": 3, "ok": None}
    assert hide_in(body, [KEY]) == {"error": [{"***": 1, "message": "no ***"}], "n": 3, "ok": None}


@pytest.mark.parametrize("key", ["EMPTY", "none", "password", "token-abc123", "not-needed"])
def test_what_a_model_said_does_not_depend_on_a_placeholder_for_a_key(key: str) -> None:
    body = {
        "choices": [{"message": {"content": "Your password is empty, none is needed; token."}}],
        "error": f"bad {key}",
    }
    assert hide_in(body, [key]) == {**body, "error": "bad ***"}


@pytest.mark.parametrize("text", ["", "the model does not exist", "İstanbul \u212a", "x" * 100])
def test_other_text_stays(text: str) -> None:
    assert hide(text, [KEY]) == text
    assert hide(text, ["x", None]) == text


@given(st.text(max_size=40), st.text(min_size=4, max_size=60), st.text(max_size=40))
def test_a_key_is_hidden_wherever_it_stands(before: str, key: str, after: str) -> None:
    said = hide(f"{before}{key}{after}", [key])
    assert key not in said or key in "***"
