"""A tokenizer's identity on disk is that of the tokenizer, and is looked for under everything that decides it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.known_tokenizers import _is_installed
from harness.checkpoints.open import Opener
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is kept, empty."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokenizers"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "model")


def identity(folder: Path, **options: bool) -> str:
    """As a new process finds it, without its tokenizer where it is known."""
    (checkpoint,) = find_checkpoints([str(folder)])
    with Opener(OpenOptions(dtype="auto", device="cpu", **options)).open(checkpoint) as subject:
        return subject.tokenizer_id()


def loaded(folder: Path) -> str:
    (checkpoint,) = find_checkpoints([str(folder)])
    return Opener(OpenOptions(dtype="auto", device="cpu")).tokenizers.load(checkpoint).identity


def files(kept: Path) -> int:
    return len(list(kept.iterdir())) if kept.exists() else 0


def poison(kept: Path) -> None:
    """Every identity that is kept is wrong now, though whole: whoever believes one is found out."""
    from harness.core.cached_file import CachedFile

    for path in kept.iterdir():
        CachedFile(path).write(b"sha256:kept")


def test_it_is_the_tokenizers_and_is_found_again_by_content(saved: Path, tmp_path: Path, kept: Path) -> None:
    assert identity(saved) == loaded(saved) and files(kept) == 1
    poison(kept)
    other = tiny.save(tmp_path / "elsewhere" / "checkpoint-7", tiny.llama(7))
    assert identity(other) == identity(saved) == "sha256:kept", "the same files in another place, beside other weights"
    assert loaded(saved) != "sha256:kept", "whoever has the tokenizer looks at the tokenizer"


def test_a_damaged_file_is_not_trusted(saved: Path, kept: Path) -> None:
    before = identity(saved)
    (path,) = kept.iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert identity(saved) == before


def changed_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_whatever_of_the_files_decides_it_is_looked_at(saved: Path, kept: Path) -> None:
    """One change after the other; each is another file, and none has the identity of the one before."""
    identity(saved)
    for change in (
        lambda: changed_json(saved / "tokenizer_config.json", eos_token="<|im_end|>"),
        lambda: changed_json(saved / "config.json", transformers_version="4.40.0"),
        lambda: (saved / "chat_template.jinja").write_text("{{ messages }}"),
        lambda: (saved / "chat_template.json").write_text('{"chat_template": "{{ messages[0] }}"}'),
        lambda: changed_json(saved / "tokenizer.json", normalizer={"type": "Lowercase"}),
    ):
        poison(kept)
        before = files(kept)
        change()
        assert identity(saved) == loaded(saved) != "sha256:kept"
        assert files(kept) == before + 1


def test_an_adapters_is_under_its_base_too(saved: Path, tmp_path: Path, kept: Path) -> None:
    folder = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama()), saved)
    tiny.tokenizer().save_pretrained(folder)
    identity(folder)
    poison(kept)
    assert identity(folder) == "sha256:kept"
    changed_json(saved / "config.json", tokenizer_class="GPT2Tokenizer")
    assert identity(folder) == loaded(folder) != "sha256:kept"


def test_an_adapters_own_configuration_is_looked_at(saved: Path, tmp_path: Path, kept: Path) -> None:
    """It comes before its base's, and decides the class of a tokenizer that names none."""
    folder = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama()), saved)
    tiny.tokenizer().save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": None}))
    found = [identity(folder)]
    for name in ("GPT2Tokenizer", "TokenizersBackend"):
        (folder / "config.json").write_text((saved / "config.json").read_text())
        changed_json(folder / "config.json", tokenizer_class=name)
        found.append(identity(folder))
        assert found[-1] == loaded(folder)
    assert found[1] not in (found[0], found[2])


def test_another_version_of_anything_installed_is_another(
    saved: Path, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity(saved)
    poison(kept)
    (tmp_path / "path" / "sentencepiece-99.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    assert identity(saved) != "sha256:kept" and files(kept) == 2
    assert not _is_installed("tiny"), "a module on the path has no version"


def test_code_of_its_own_is_never_known(saved: Path, kept: Path) -> None:
    (saved / "own.py").write_text(
        "from transformers import PreTrainedTokenizerFast\nclass Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    changed_json(saved / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own.Own"]})
    identity(saved, trust_remote_code=True)
    assert files(kept) == 0


def test_a_short_path_may_be_an_id_that_transformers_knows(
    saved: Path, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deepseek-ai").mkdir()
    (tmp_path / "deepseek-ai" / "deepseek-coder-1").symlink_to(saved)
    identity(saved)
    poison(kept)
    monkeypatch.chdir(tmp_path)
    assert identity(Path("deepseek-ai/deepseek-coder-1")) != "sha256:kept"


def test_a_tokenizer_that_cannot_be_loaded_is_an_error_each_time(saved: Path, kept: Path) -> None:
    (saved / "tokenizer.json").write_text('{"version": ')
    for _ in range(2):
        with pytest.raises(CheckpointError, match="cannot load the tokenizer in"):
            identity(saved)
    assert files(kept) == 0
