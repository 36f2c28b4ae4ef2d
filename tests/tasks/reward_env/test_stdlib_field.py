"""The offline fields: the same on every call, small enough for any model, and never what a proxy trained on."""

from __future__ import annotations

import ast
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.errors import DataError
from harness.tasks.reward_env.field import PairField
from harness.tasks.reward_env.passage_store import StoredPassages
from harness.tasks.reward_env.stdlib_field import Domain, load_stdlib_field, passages_of

DOMAINS: tuple[Domain, ...] = ("code", "prose")


@pytest.fixture(scope="module", params=DOMAINS)
def domain(request: pytest.FixtureRequest) -> Domain:
    chosen: Domain = request.param
    return chosen


@pytest.fixture(scope="module")
def field(domain: Domain) -> PairField:
    return load_stdlib_field(domain, name=f"stdlib_{domain}")


def test_each_call_gives_the_same_128_pairs(field: PairField, domain: Domain) -> None:
    again = load_stdlib_field(domain, name="other name")
    assert len(field) == 128
    assert again.content == field.content
    assert again.digest == field.digest
    assert [pair.id for pair in field.content] == [str(n) for n in range(128)]
    assert field.source == {"stdlib": domain, "python": platform.python_version()}


def test_pairs_fit_512_tokens_even_byte_by_byte_and_both_parts_say_something(field: PairField) -> None:
    for pair in field.content:
        assert len((pair.q + pair.r).encode()) + 1 <= 512
        assert pair.q.strip()
        assert len(pair.r.strip()) >= 10
        assert pair.r == pair.r.rstrip()
        assert pair.r[0].isspace()
        assert pair.q == pair.q.rstrip() or pair.q.endswith("\n")


def test_no_pair_stands_twice(field: PairField) -> None:
    assert len({pair.q + pair.r for pair in field.content}) == 128


@pytest.mark.slow
def test_nothing_held_out_is_in_the_training_part(field: PairField, domain: Domain) -> None:
    train = list(passages_of(domain, "train"))
    held_out = set(passages_of(domain, "held_out"))
    assert len(train) > 4 * len(held_out) > 0
    assert not held_out.intersection(train)
    everything = "\0".join(train)
    for pair in field.content:
        assert pair.q + pair.r not in everything


def test_code_is_python_without_docstrings_and_prose_is_english() -> None:
    for passage in list(passages_of("code", "held_out"))[:50]:
        (definition,) = ast.parse(passage).body
        assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        assert ast.get_docstring(definition) is None
    for passage in list(passages_of("prose", "held_out"))[:50]:
        assert "\n" not in passage
        assert ">>>" not in passage


def test_an_unknown_domain_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="field 'x': the standard library has code, prose, not 'music'"):
        load_stdlib_field("music", name="x")  # type: ignore[arg-type]


def test_the_passages_are_chosen_once_and_a_damaged_file_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    code = (
        "import sys\n"
        "from harness.tasks.reward_env.stdlib_field import load_stdlib_field\n"
        "print(load_stdlib_field('prose', name='x').digest, 'pydoc_data.topics' in sys.modules)"
    )

    def said() -> list[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    digest = load_stdlib_field("prose", name="x").digest
    assert said() == [digest, "True"]  # parsed
    assert said() == [digest, "False"]  # read
    (stored,) = (tmp_path / "passages").iterdir()
    content = bytearray(stored.read_bytes())
    content[-9] ^= 1
    stored.write_bytes(content)
    assert said() == [digest, "True"]
    assert said() == [digest, "False"]


def test_passages_of_another_library_or_by_other_rules_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    module = tmp_path / "module.py"
    module.write_text("def a(): ...")

    def stored(*, domain: str = "code", rules: tuple[int, ...] = (1, 128)) -> StoredPassages:
        return StoredPassages(domain, root=tmp_path, files=[module], rules=rules)

    stored().write(["a"])
    assert stored().read() == ["a"]
    assert stored(domain="prose").read() is None and stored(rules=(1, 64)).read() is None
    module.write_text("def another(): ...")
    assert stored().read() is None
