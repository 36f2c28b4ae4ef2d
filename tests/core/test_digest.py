"""Identities: the same content has one digest, other content another."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.digest import digest_bytes, digest_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_bytes_digest_is_sha256_of_the_parts_in_order() -> None:
    assert digest_bytes(b"a", b"b") == f"sha256:{hashlib.sha256(b'ab').hexdigest()}"


@given(JSON)
def test_formatting_and_key_order_do_not_change_a_digest(value: object) -> None:
    reordered = json.loads(json.dumps(value, indent=3, sort_keys=True, ensure_ascii=False))
    assert digest_json(reordered) == digest_json(value)


@given(st.dictionaries(st.text(), st.integers(), min_size=1, max_size=4), st.data())
def test_any_changed_value_changes_the_digest(value: dict[str, int], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    assert digest_json({**value, key: value[key] + 1}) != digest_json(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"deep": [-float("inf")]}])
def test_nan_has_no_identity(value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        digest_json(value)
