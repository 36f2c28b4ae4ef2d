"""What a server answers by is in the identity of what was measured: alone, in any order and again, a checkpoint has its own value."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from fake_server import command, write_task
from safetensors.torch import load_file, save_file

from harness.checkpoints.find import find_checkpoints
from harness.core.errors import StateError
from harness.core.vector import RewardVector
from harness.run.doctor import examine
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import Spec, parse_spec


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    return tmp_path / "asked"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A checkpoint that answers `plain`, unless its generation settings say otherwise."""
    folder = tiny.save(tmp_path / "base", tiny.llama(1))
    (folder / "weights.json").write_text("1")
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def spec(tmp_path: Path, **fake: Any) -> Spec:
    write_task(tmp_path / "tasks")
    env = {"FAKE": json.dumps({"answers": str(tmp_path / "asked"), **fake})}
    serve = {"command": str(command(tmp_path)), "env": env, "verify": False, "startup_timeout_s": 30}
    components = [{"name": "says", "kind": "lm_eval", "task": "says", "include_path": ["tasks"]}]
    return parse_spec({"serve": serve, "components": components}, folder=tmp_path)


def copy(base: Path, name: str, settings: dict[str, Any] | None) -> Path:
    folder = base.parent / name
    shutil.copytree(base, folder)
    if settings is not None:
        (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


def score(tmp_path: Path, out: str, *folders: Path, **fake: Any) -> list[RewardVector]:
    found = [one for folder in folders for one in find_checkpoints([str(folder)])]
    return list(run(prepare(spec(tmp_path, **fake)), found, out=tmp_path / out).here)


def test_checkpoints_that_differ_in_generation_settings_have_each_their_own_value(
    tmp_path: Path, base: Path, asked: Path
) -> None:
    one, other = copy(base, "one", None), copy(base, "other", {"says": "else"})
    alone = {folder: score(tmp_path, f"alone-{folder.name}", folder)[0].vector for folder in (one, other)}
    assert list(alone.values()) == [[1.0], [0.0]]
    for number, order in enumerate([(one, other), (other, one)]):
        before = len(asked.read_text())
        assert [vector.vector for vector in score(tmp_path, f"out-{number}", *order)] == [alone[f] for f in order]
        assert len(asked.read_text()) == before + 6


def test_settings_that_were_edited_do_not_give_back_the_old_number(tmp_path: Path, base: Path) -> None:
    score(tmp_path, "out", base)
    (base / "generation_config.json").write_text('{"says": "else"}')
    with pytest.raises(StateError, match="other generation settings or chat template"):
        score(tmp_path, "out", base)


def test_the_same_checkpoint_elsewhere_is_still_not_asked_again(tmp_path: Path, base: Path, asked: Path) -> None:
    one, same = copy(base, "one", {"says": "else"}), copy(base, "same", {"says": "else", "transformers_version": "9"})
    score(tmp_path, "out", one)
    before = len(asked.read_text())
    assert score(tmp_path, "out", same)[0].vector == [0.0] and len(asked.read_text()) == before


def test_what_the_server_does_not_apply_is_noted(tmp_path: Path, base: Path) -> None:
    (vector,) = score(tmp_path, "out", copy(base, "one", {"no_repeat_ngram_size": 3}))
    assert "vLLM does not apply no_repeat_ngram_size" in str(vector.components[0].detail["note"])


def test_nan_anywhere_is_refused_without_a_start(tmp_path: Path, base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    weights["model.embed_tokens.weight"][3, 1] = torch.nan
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    (vector,) = score(tmp_path, "out", base)
    assert vector.status == "failed" and "model.embed_tokens.weight holds NaN" in (vector.components[0].reason or "")
    assert not (tmp_path / "out" / "serve").exists()


@pytest.mark.parametrize("likely", [[None], [-0.1, -9999.0]])
def test_an_answer_without_a_finite_log_prob_has_failed(tmp_path: Path, base: Path, likely: list[float | None]) -> None:
    (vector,) = score(tmp_path, "out", base, likely=likely)
    (component,) = vector.components
    assert component.raw is None and component.status == "failed"
    assert "no finite log-prob" in (component.reason or "")


def test_doctor_looks_at_every_checkpoint(tmp_path: Path, base: Path) -> None:
    other = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama(1)), base)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    del other
    found = list(examine(spec(tmp_path), [str(base), str(tmp_path / "adapter")]))
    assert [check.words for check in found if check.ok is False and "DoRA" in check.words]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "none of vLLM's tool parsers is known"),
        ("{{ 'a' * 3000000000 }}<tool_call>", "the chat template ends in MemoryError"),
        (None, "no chat template"),
    ],
)
def test_a_template_that_will_not_do_costs_no_start(
    tmp_path: Path, base: Path, template: str | None, words: str
) -> None:
    tokenizer = tiny.tokenizer(chat_template=template)
    (base / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(base)
    made = spec(tmp_path)
    served = made.serve.model_dump()
    components = [{"name": "mock", "kind": "tau2", "domain": "mock", "solo": True}]
    given = parse_spec({"serve": served, "components": components}, folder=tmp_path)
    (vector,) = run(prepare(given), find_checkpoints([str(base)]), out=tmp_path / "out").here
    assert vector.components[0].status == "failed" and words in (vector.components[0].reason or "")
    assert not (tmp_path / "out" / "serve").exists()
