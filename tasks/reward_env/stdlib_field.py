"""Two domains of real text that every machine with Python has: the standard library's code and its prose.

Modules and topics are split once, by a hash of their name, into a training part (for the demo's proxies) and a
held-out part (for the fields). Content depends on the Python version, which the source records.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from harness.core.errors import DataError
from harness.core.pair import Pair
from harness.tasks.reward_env.field import PairField
from harness.tasks.reward_env.passage_store import StoredPassages

Domain = Literal["code", "prose"]
Split = Literal["train", "held_out"]

RULES = 1
"""Raised when the functions below would choose other passages."""
N_PAIRS = 128
MAX_BYTES = 480
"""q and r together, so that a pair fits a context of 512 even when every byte is a token."""
MIN_CHARS = 160
HELD_OUT_OF = 6
SKIPPED = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "site-packages",
    "dist-packages",
    "ensurepip",
    "turtledemo",
    "pydoc_data",
}


def load_stdlib_field(domain: Domain, *, name: str) -> PairField:
    """N_PAIRS pairs of the held-out part: q the beginning of a function or paragraph, r the rest. The same on every call.
    Raises DataError for another domain."""
    if domain not in get_args(Domain):
        raise DataError(f"field {name!r}: the standard library has {', '.join(get_args(Domain))}, not {domain!r}")
    chosen = _chosen(domain)
    source: dict[str, Any] = {"stdlib": domain, "python": platform.python_version()}
    pairs = tuple(_pair(index, text, domain) for index, text in enumerate(chosen))
    return PairField(name=name, source=source, content=pairs)


@cache
def _chosen(domain: Domain) -> tuple[str, ...]:
    """The field's passages, from the cache on disk where it has them."""
    root, files = _root(), list(_files("held_out"))
    topics = root / "pydoc_data" / "topics.py"
    from_files = [*files, *([topics] if topics.exists() else [])]
    rules = (RULES, N_PAIRS, MAX_BYTES, MIN_CHARS, HELD_OUT_OF)
    stored = StoredPassages(domain, root=root, files=from_files, rules=rules)
    known = stored.read()
    if known is not None:
        return tuple(known)
    passages = {_beginning(text) for text in passages_of(domain, "held_out") if len(text) >= MIN_CHARS}
    chosen = sorted(passages, key=lambda text: hashlib.sha256(text.encode()).digest())[:N_PAIRS]
    stored.write(chosen)
    return tuple(chosen)


def passages_of(domain: Domain, split: Split) -> Iterator[str]:
    """Functions and classes without docstrings and comments (code), or paragraphs of documentation (prose).

    Some passages stand in several modules or topics: one that is held out is not in the training part.
    """
    if split == "held_out":
        yield from _passages(domain, split)
        return
    held_out = {_beginning(text) for text in _passages(domain, "held_out")}
    yield from (text for text in _passages(domain, split) if _beginning(text) not in held_out)


def _passages(domain: Domain, split: Split) -> Iterator[str]:
    for tree in _modules(split):
        if domain == "code":
            yield from (ast.unparse(node) for node in tree.body if isinstance(node, _DEFINITIONS) and _strip(node))
        else:
            yield from (paragraph for text in _docstrings(tree) for paragraph in _paragraphs(text))
    if domain == "prose":
        for name, text in _topics().items():
            if split_of(name) == split:
                yield from _paragraphs(text)


def _beginning(text: str) -> str:
    """The first MAX_BYTES bytes of a passage, without a broken character at the end."""
    return text.encode(errors="ignore")[:MAX_BYTES].decode(errors="ignore")


def split_of(name: str) -> Split:
    """Which part a module or topic belongs to: one in six is held out."""
    return "held_out" if _scatter(name)[0] % HELD_OUT_OF == 0 else "train"


def _scatter(name: str) -> bytes:
    """A sort key that orders names by a hash, so that the first ones are a sample of all."""
    return hashlib.sha256(name.encode()).digest()


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _files(split: Split) -> Iterator[Path]:
    """The modules of a split, in the fixed order."""
    root = _root()
    found = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in SKIPPED and (folder != str(root) or name.isidentifier())]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    for path in sorted(found, key=lambda path: _scatter(path.relative_to(root).as_posix())):
        relative = path.relative_to(root)
        skipped = SKIPPED & set(relative.parts) or not relative.parts[0].removesuffix(".py").isidentifier()
        if not skipped and split_of(relative.as_posix()) == split:
            yield path


def _modules(split: Split) -> Iterator[ast.Module]:
    for path in _files(split):
        try:
            source = path.read_text(encoding="utf-8")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue
        yield tree


@cache
def _topics() -> dict[str, str]:
    """The language reference as `help()` shows it. Some distributions leave it out."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return {}
    return dict(topics)


def _strip(node: ast.AST) -> ast.AST:
    """Take the docstrings out, in place."""
    for inner in ast.walk(node):
        if isinstance(inner, _DEFINITIONS) and ast.get_docstring(inner, clean=False) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    return node


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, *_DEFINITIONS)):
            text = ast.get_docstring(node)
            if text:
                yield text


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs that read as English: long enough, mostly letters, no doctest."""
    for block in text.split("\n\n"):
        paragraph = " ".join(block.split())
        letters = sum(character.isalpha() or character == " " for character in paragraph)
        if len(paragraph) >= MIN_CHARS // 2 and letters >= 0.9 * len(paragraph) and ">>>" not in paragraph:
            yield paragraph


def _pair(index: int, text: str, domain: Domain) -> Pair:
    """Cut after a third, at a line break in code and at a word in prose; r begins with the white space."""
    for mark in ("\n", " ") if domain == "code" else (" ",):
        cut = text.find(mark, len(text) // 3)
        if 0 < cut < len(text) - 20:
            break
    else:
        cut = len(text) // 2
    return Pair(id=str(index), q=text[:cut], r=text[cut:].rstrip() or text[cut:])
