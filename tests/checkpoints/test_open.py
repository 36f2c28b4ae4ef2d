"""Opening real folders: what loads scores with the weights as saved, and what cannot says why in one line."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from harness.checkpoints.find import find_checkpoints
from harness.checkpoints.fingerprint import tokenizer_files_digest
from harness.checkpoints.open import Opener
from harness.core.component import SilentProgress
from harness.core.errors import CheckpointError
from harness.core.opening import OpenOptions
from harness.core.pair import Pair
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.score import score
from harness.tasks.reward_env.encode import encode

WEIGHTS = "model.safetensors"
PAIRS = [Pair(id="1", q="def add(a, b):", r="\n    return a + b"), Pair(id="2", q="The quick brown", r=" fox jumps")]


def values(model: Any, tokenizer: Any) -> np.ndarray[Any, Any]:
    tokens = encode(tokenizer, PAIRS).pairs
    return score(model, PackPlan(tokens), progress=SilentProgress()).logprob / np.array(
        [item.n_tokens for item in tokens]
    )


def open_values(folder: Path, *, base: Path | None = None, **options: Any) -> np.ndarray[Any, Any]:
    """Per-token log-probs of a folder, found and opened as the pipeline does it."""
    (checkpoint,) = find_checkpoints([str(folder)], base=None if base is None else str(base))
    opener = Opener(OpenOptions(**{"dtype": "auto", "device": "cpu", **options}))
    opener.identifier.identify(checkpoint)
    with opener.open(checkpoint) as subject:
        return values(subject.model(), subject.tokenizer())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "saved")


def fails(folder: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_values(folder, **options)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    return message


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    weights = {**load_file(folder / WEIGHTS), **{name.replace("__", "."): value for name, value in changes.items()}}
    kept = {name: value for name, value in weights.items() if value is not None}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ["llama", "qwen2 tied", "gpt_neox", "opt", "mixtral"])
def test_a_saved_model_scores_as_the_live_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = tiny.family(name)
    folder = tiny.save(tmp_path / "m", model)
    # AutoTokenizer gives Qwen2 models Qwen2's own pre-tokenizer whatever was saved, so the one it loads is compared.
    assert open_values(folder).tolist() == values(model, AutoTokenizer.from_pretrained(folder)).tolist()


def test_loading_says_nothing_and_leaves_logging_as_it_was(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    open_values(saved)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (verbosity, bars)
    logging.disable_progress_bar()
    try:
        open_values(saved)
        assert not logging.is_progress_bar_enabled()
    finally:
        if bars:
            logging.enable_progress_bar()


def test_dtype_is_as_saved_unless_asked_for(saved: Path, tmp_path: Path) -> None:
    half = tiny.save(tmp_path / "half", tiny.llama().bfloat16())
    for folder, asked, expected in (
        (saved, "auto", torch.float32),
        (saved, "bfloat16", torch.bfloat16),
        (half, "auto", torch.bfloat16),
        (half, "float32", torch.float32),
    ):
        (checkpoint,) = find_checkpoints([str(folder)])
        with Opener(OpenOptions(dtype=asked, device="cpu")).open(checkpoint) as subject:
            assert {value.dtype for value in subject.model().parameters()} == {expected}
    assert np.abs(open_values(saved, dtype="bfloat16") - open_values(saved)).max() < 0.05


def test_memory_is_given_back(saved: Path) -> None:
    (checkpoint,) = find_checkpoints([str(saved)])
    opener = Opener(OpenOptions(dtype="auto", device="cpu"))
    with opener.open(checkpoint) as subject:
        model = weakref.ref(subject.model())
        assert subject.model() is model()
    opener.close()
    gc.collect()
    assert model() is None


def test_a_failed_load_is_remembered_not_repeated(saved: Path) -> None:
    (checkpoint,) = find_checkpoints([str(saved)])
    change_config(saved, model_type="nonesuch")
    with Opener(OpenOptions(dtype="auto", device="cpu")).open(checkpoint) as subject:
        with pytest.raises(CheckpointError) as first:
            subject.model()
        with pytest.raises(CheckpointError) as second:
            subject.model()
    assert first.value is second.value


# What is not whole is refused.


def test_a_missing_tokenizer_says_how_to_save_one(saved: Path) -> None:
    for path in saved.glob("*token*"):
        path.unlink()
    assert "save the tokenizer beside the weights" in fails(saved)


def test_a_corrupt_tokenizer_is_named(saved: Path) -> None:
    (saved / "tokenizer.json").write_text('{"version": ')
    assert "cannot load the tokenizer in" in fails(saved)


@pytest.mark.parametrize("content", ["{", "[]", '{"hidden_size": 32}', '{"model_type": "nonesuch"}'])
def test_a_configuration_that_cannot_be_used_is_named(saved: Path, content: str) -> None:
    (saved / "config.json").write_text(content)
    fails(saved)


def test_a_model_that_is_no_causal_lm_is_named(saved: Path) -> None:
    (saved / "config.json").write_text('{"model_type": "vit"}')
    assert "cannot load the model in" in fails(saved)


def test_a_weight_missing_from_the_files_is_refused_not_random(saved: Path) -> None:
    change_weights(saved, model__layers__1__mlp__down_proj__weight=None)
    assert "weights missing from the files, which would be random: model.layers.1.mlp.down_proj.weight" in fails(saved)


def test_a_missing_head_of_an_untied_model_is_refused(saved: Path) -> None:
    change_weights(saved, lm_head__weight=None)
    assert "lm_head.weight" in fails(saved)


def test_a_weight_of_another_shape_is_refused(saved: Path) -> None:
    change_weights(saved, lm_head__weight=torch.zeros(405, 32))
    message = fails(saved)
    assert "weights of another shape than the configuration says" in message and "lm_head.weight" in message


def test_more_layers_than_saved_are_refused(saved: Path) -> None:
    change_config(saved, num_hidden_layers=3)
    assert "model.layers.2" in fails(saved)


# Code and pickle run only when asked to.

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_remote_code_is_refused_unless_asked_for(saved: Path, tmp_path: Path) -> None:
    (saved / "modeling_own.py").write_text(f"{CODE}\nfrom pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()")
    auto_map = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    change_config(saved, model_type="own", architectures=["OwnModel"], auto_map=auto_map)
    assert "pass --trust-remote-code" in fails(saved)
    assert not (tmp_path / "ran").exists()
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_open import *; "
        "print(open_values(Path(sys.argv[1]), trust_remote_code=True).tolist())"
    )
    command = [sys.executable, "-c", program, str(saved), str(Path(__file__).parent)]
    environment = {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(tiny.__file__).parent),
    }
    result = forked.run(command, env=environment, check=True)
    assert json.loads(result.stdout) == values(tiny.llama(), tiny.tokenizer()).tolist()
    assert (tmp_path / "ran").exists()


def test_pickled_weights_are_refused_unless_allowed(saved: Path) -> None:
    expected = open_values(saved).tolist()
    torch.save(load_file(saved / WEIGHTS), saved / "pytorch_model.bin")
    (saved / WEIGHTS).unlink()
    assert "pass --allow-pickle" in fails(saved)
    assert open_values(saved, allow_pickle=True).tolist() == expected


# LoRA adapters


@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_scores_as_its_merged_model(saved: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    model = tiny.lora(tiny.llama(), **changes)
    folder = tiny.save_adapter(tmp_path / "adapter", model, saved)
    live = values(model, tiny.tokenizer())
    merged = open_values(tiny.save(tmp_path / "merged", model.merge_and_unload()))
    found = open_values(folder)
    assert found.tolist() == live.tolist()
    assert np.abs(found - merged).max() < 1e-5
    assert np.abs(found - open_values(saved)).min() > 1e-3


def test_an_adapter_over_a_bfloat16_base_scores_as_it_was_trained(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.llama().bfloat16())
    # Loaded, not cast: model.bfloat16() also rounds the rotary frequencies, which no file holds.
    model = tiny.lora(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16))
    assert {value.dtype for name, value in model.named_parameters() if "lora_" in name} == {torch.float32}
    folder = tiny.save_adapter(tmp_path / "adapter", model, base)
    assert open_values(folder).tolist() == values(model, tiny.tokenizer()).tolist()


def test_many_adapters_on_one_base_are_told_apart(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for seed in (1, 2):
        tiny.save_adapter(run / f"checkpoint-{seed}", tiny.lora(tiny.llama(), seed=seed), saved)
    opener = Opener(OpenOptions(dtype="auto", device="cpu"))
    found = [opener.identifier.identify(checkpoint) for checkpoint in find_checkpoints([str(run)])]
    assert [item.kind for item in found] == ["lora", "lora"]
    assert len({item.fingerprint for item in found}) == 2
    assert {item.base for item in found} == {str(saved)}


def test_the_same_adapter_on_another_base_is_another_checkpoint(saved: Path, tmp_path: Path) -> None:
    other, copy = tiny.save(tmp_path / "other", tiny.llama(seed=1)), tiny.save(tmp_path / "copy")
    folder = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama()), saved)

    def fingerprint(base: Path) -> str | None:
        (checkpoint,) = find_checkpoints([str(folder)], base=str(base))
        return Opener(OpenOptions(dtype="auto", device="cpu")).identifier.identify(checkpoint).fingerprint

    assert fingerprint(copy) == fingerprint(saved) != fingerprint(other)
    assert open_values(folder, base=copy).tolist() == open_values(folder).tolist()
    assert np.abs(open_values(folder, base=other) - open_values(folder)).min() > 1e-3


def test_an_adapters_own_tokenizer_wins_over_its_bases(saved: Path, tmp_path: Path) -> None:
    folder = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama()), saved)
    (checkpoint,) = find_checkpoints([str(folder)])
    opener = Opener(OpenOptions(dtype="auto", device="cpu"))
    with opener.open(checkpoint) as subject:
        assert subject.tokenizer().bos_token == "<s>"
    before = opener.identifier.identify(checkpoint).tokenizer
    tiny.tokenizer(bos=False).save_pretrained(folder)
    with opener.open(checkpoint) as subject:
        assert subject.tokenizer().bos_token is None
    assert opener.identifier.identify(checkpoint).tokenizer != before


def test_a_base_that_is_no_model_folder_asks_for_one(saved: Path, tmp_path: Path) -> None:
    folder = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama()), saved)
    (saved / "config.json").unlink()
    assert "pass --base FOLDER" in fails(folder)


def test_an_adapter_for_another_model_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama()), saved)
    wider = tiny.save(tmp_path / "wider", tiny.llama(hidden_size=64))
    fails(folder, base=wider)
    deeper = tiny.save(tmp_path / "deeper", tiny.llama(num_hidden_layers=3))
    assert "is the base model the right one?" in fails(folder, base=deeper)
    shallower = tiny.save(tmp_path / "shallower", tiny.llama(num_hidden_layers=1))
    assert "is the base model the right one?" in fails(folder, base=shallower)


def test_a_corrupt_adapter_configuration_is_named(saved: Path, tmp_path: Path) -> None:
    folder = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama()), saved)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "peft_type": "NONESUCH"}))
    assert "cannot load the adapter in" in fails(folder)


TOKENIZER_CODE = """
from transformers import PreTrainedTokenizerFast

class Own(PreTrainedTokenizerFast):
    def _encode_plus(self, text, *args, **kwargs):
        text = text.CASE() if isinstance(text, str) else [item.CASE() for item in text]
        return super()._encode_plus(text, *args, **kwargs)
"""


def test_a_tokenizers_own_code_is_its_own(tmp_path: Path) -> None:
    """The same files but for the code, one after the other."""
    ids = []
    opener = Opener(OpenOptions(dtype="auto", device="cpu", trust_remote_code=True))
    for name in ("lower", "upper"):
        folder = tiny.save(tmp_path / name)
        path = folder / "tokenizer_config.json"
        config = {
            **json.loads(path.read_text()),
            "tokenizer_class": "Own",
            "auto_map": {"AutoTokenizer": [None, "own.Own"]},
        }
        path.write_text(json.dumps(config))
        (folder / "own.py").write_text(TOKENIZER_CODE.replace("CASE", name))
        (checkpoint,) = find_checkpoints([str(folder)])
        found = opener.tokenizers.load(checkpoint)
        ids.append((found.tokenizer("Quick")["input_ids"], found.identity))
    assert ids[0][0] != ids[1][0]
    assert ids[0][1] != ids[1][1]


def test_what_the_model_says_of_a_tokenizers_class_is_looked_at_for_each(tmp_path: Path) -> None:
    identities = []
    for name in ("PreTrainedTokenizerFast", "GPT2Tokenizer"):
        folder = tiny.save(tmp_path / name)
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text())
        config.pop("tokenizer_class", None)
        path.write_text(json.dumps(config))
        change_config(folder, tokenizer_class=name)
        identities.append(find_checkpoints([str(folder)])[0])
    swept = Opener(OpenOptions(dtype="auto", device="cpu"))
    swept.tokenizers.load(identities[0])
    alone = Opener(OpenOptions(dtype="auto", device="cpu")).tokenizers.load(identities[1])
    assert type(swept.tokenizers.load(identities[1]).tokenizer) is type(alone.tokenizer)
    assert swept.tokenizers.load(identities[1]).identity == alone.identity


def test_a_tokenizer_that_encodes_at_random_is_refused(saved: Path) -> None:
    path = saved / "tokenizer.json"
    state = json.loads(path.read_text())
    state["model"]["dropout"] = 0.1
    path.write_text(json.dumps(state))
    (checkpoint,) = find_checkpoints([str(saved)])
    with pytest.raises(CheckpointError, match=r"another way each time.*dropout 0\.1"):
        Opener(OpenOptions(dtype="auto", device="cpu")).identifier.identify(checkpoint)


def test_a_tokenizer_replaced_between_two_components_is_noticed(saved: Path) -> None:
    opener = Opener(OpenOptions(dtype="auto", device="cpu"))
    (checkpoint,) = find_checkpoints([str(saved)])
    opener.identifier.identify(checkpoint)
    with opener.open(checkpoint) as subject:
        subject.tokenizer_id()
        subject.model()
        tiny.tokenizer(vocab_size=300).save_pretrained(saved)
        with pytest.raises(CheckpointError, match="was written to or replaced"):
            subject.tokenizer_id()


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "source.spm", "bpe.codes", "qwen.tiktoken", "dict.txt"])
def test_every_file_of_a_tokenizer_is_looked_at(saved: Path, name: str) -> None:
    before = tokenizer_files_digest(saved)
    (saved / name).write_text("other")
    assert tokenizer_files_digest(saved) != before


def test_a_base_of_another_architecture_than_the_adapter_names_is_noted(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.llama(1))
    adapter = tiny.save_adapter(tmp_path / "adapter", tiny.lora(tiny.llama(1)), base)
    other = tiny.save(tmp_path / "other", tiny.llama(1))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(
        json.dumps({**config, "model_type": "mistral", "architectures": ["MistralForCausalLM"]})
    )

    def notes(**options: Any) -> list[str]:
        (item,) = find_checkpoints([str(adapter)], **options)
        with Opener().open(item) as opened:
            return opened.notes()

    assert notes() == notes(base=str(base)) == []
    assert notes(base=str(other)) == [f"the adapter names {base}, a llama, and its base here is a mistral"]
    settings = json.loads((adapter / "adapter_config.json").read_text())
    trained = {"auto_mapping": {"base_model_class": "LlamaForCausalLM"}, "base_model_name_or_path": "org/gone"}
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, **trained}))
    assert notes(base=str(other)) == [
        "the adapter was trained on a LlamaForCausalLM, and its base here is a MistralForCausalLM"
    ]
