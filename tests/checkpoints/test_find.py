"""Which folders are checkpoints, in which order and trajectory. Folders here hold no weights: none are opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoints.find import find_checkpoints
from harness.core.checkpoint import Checkpoint
from harness.core.errors import CheckpointError, SpecError


def folder(path: Path, *, mixture: Any = None, adapter_of: str | None = None) -> Path:
    """What looks like a checkpoint from outside."""
    path.mkdir(parents=True, exist_ok=True)
    if adapter_of is None:
        (path / "config.json").write_text("{}")
    else:
        (path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": adapter_of}))
    if mixture is not None:
        (path / "mixture.json").write_text(mixture if isinstance(mixture, str) else json.dumps(mixture))
    return path


def places(found: Sequence[Checkpoint]) -> list[tuple[str, int | None]]:
    return [(item.trajectory, item.step) for item in found]


def find(*arguments: Path | str, **options: Any) -> list[Checkpoint]:
    return find_checkpoints([str(argument) for argument in arguments], **options)


def test_a_model_folder_is_one_checkpoint_without_a_step(tmp_path: Path) -> None:
    (item,) = find(folder(tmp_path / "final"))
    assert (item.trajectory, item.step, item.kind, item.label) == ("final", None, "full", str(tmp_path / "final"))


def test_steps_are_in_numeric_order_and_a_final_model_beside_them_is_left_out(tmp_path: Path) -> None:
    run = folder(tmp_path / "mix-1")
    for step in (10, 2, 100, 0):
        folder(run / f"checkpoint-{step}")
    (run / "runs").mkdir()
    folder(run / "best")
    assert places(find(run)) == [("mix-1", 0), ("mix-1", 2), ("mix-1", 10), ("mix-1", 100)]


@pytest.mark.parametrize(
    "name",
    [
        *("checkpoint-300", "ckpt-300", "ckpt_300", "hf_ckpt_300", "step300", "step-00000300", "step_300", "step=300"),
        *(
            "step300-hf",
            "step300-unsharded",
            "global_step300",
            "global_step_300_hf",
            "global_step300_hf",
            "iter_0000300",
        ),
        *("iteration_300", "iter_300_hf", "epoch_300", "ba300", "ep0-ba300", "epoch=1-step=300", "Checkpoint-300"),
    ],
)
def test_the_steps_of_the_fields_trainers_are_one_trajectory(tmp_path: Path, name: str) -> None:
    folder(tmp_path / "mix-1" / name)
    folder(tmp_path / "mix-1" / name.replace("300", "1000").replace("0001000", "001000"))
    assert places(find(tmp_path / "mix-1")) == [("mix-1", 300), ("mix-1", 1000)]


@pytest.mark.parametrize(
    "name", ["temp-0.7", "llama-3", "qwen2.5-7b", "v2", "mix-1", "2024-01-01", "checkpoint-best", "step"]
)
def test_other_numbers_are_no_steps(tmp_path: Path, name: str) -> None:
    (item,) = find(folder(tmp_path / name))
    assert item.step is None


@pytest.mark.parametrize(
    "name",
    ["tmp-checkpoint-40", "checkpoint-40.tmp", "checkpoint-40.partial", "checkpoint-40.tmp-1234", ".checkpoint-40"],
)
def test_a_folder_that_is_still_written_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    folder(tmp_path / "mix-1" / "checkpoint-20")
    folder(tmp_path / "mix-1" / name)
    assert places(find(tmp_path / "mix-1")) == [("mix-1", 20)]


def test_a_model_inside_its_steps_folder_is_found(tmp_path: Path) -> None:
    for run in ("a", "b"):
        for step in (10, 20):
            folder(tmp_path / run / f"global_step_{step}" / "actor" / "huggingface")
            folder(tmp_path / run / f"global_step_{step}" / "critic" / "huggingface")
    found = find(tmp_path)
    assert places(found) == [("a", 10), ("a", 20), ("b", 10), ("b", 20)]
    assert found[0].folder == tmp_path / "a" / "global_step_10" / "actor" / "huggingface"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("__0_0.distcp", "shards of FSDP"),
        ("pytorch_model_fsdp_0/__0_0.distcp", "accelerate merge-weights"),
        ("zero_to_fp32.py", "shards of DeepSpeed"),
        ("global_step3/mp_rank_00_model_states.pt", "zero_to_fp32.py"),
        ("mp_rank_00/model_optim_rng.pt", "Megatron"),
        ("model_and_optim/.metadata", "OLMo-core"),
        ("lit_model.pth", "litgpt convert_from_litgpt"),
        ("model_world_size_8_rank_0.pt", "verl.model_merger"),
        ("model-Q4_K_M.gguf", "GGUF"),
        ("_CHECKPOINT_METADATA", "Orbax"),
    ],
)
def test_shards_of_other_formats_are_named_with_their_converter(tmp_path: Path, file: str, words: str) -> None:
    path = tmp_path / "mix-1" / "checkpoint-3" / file
    path.parent.mkdir(parents=True)
    path.touch()
    (item,) = find(tmp_path / "mix-1")
    assert item.problem is not None and words in item.problem and "convert it with" in item.problem


@pytest.mark.parametrize("file", ["__0_0.distcp", "lit_model.pth", "model-Q4_K_M.gguf"])
def test_a_folder_that_holds_nothing_else_is_said_to(tmp_path: Path, file: str) -> None:
    (tmp_path / file).touch()
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*: it holds .*; convert it with"):
        find(tmp_path)


def test_a_file_of_another_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(CheckpointError, match=r"it holds a GGUF file of llama\.cpp; convert it with"):
        find(tmp_path / "model.gguf")


def test_steps_named_one_by_one_are_sorted_too(tmp_path: Path) -> None:
    """The shell expands checkpoint-* in alphabetic order, and gains need the order of training."""
    steps = [folder(tmp_path / "a" / f"checkpoint-{step}") for step in (10, 100, 2)]
    other = folder(tmp_path / "b" / "checkpoint-1")
    assert places(find(steps[0], other, *steps[1:])) == [("a", 2), ("a", 10), ("a", 100), ("b", 1)]


@pytest.mark.parametrize("name", ["checkpoint-7", "step7", "step_7", "global_step7", "iter_7", "checkpoint_0007"])
def test_other_trainers_names_of_steps_are_known(tmp_path: Path, name: str) -> None:
    assert places(find(folder(tmp_path / "run" / name).parent)) == [("run", 7)]


def test_a_single_step_folder_belongs_to_its_training_folder(tmp_path: Path) -> None:
    assert places(find(folder(tmp_path / "run" / "checkpoint-7"))) == [("run", 7)]


def test_the_current_folder_has_a_name_too(tmp_path: Path) -> None:
    folder(tmp_path / "run" / "checkpoint-7")
    program = "from harness.checkpoints.find import *; print(find_checkpoints(['.'])[0].trajectory)"
    here = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "run", capture_output=True, text=True, check=True
    )
    assert here.stdout.strip() == "run"


def test_a_folder_of_training_folders_gives_one_trajectory_each_in_natural_order(tmp_path: Path) -> None:
    for name in ("mix-10", "mix-2"):
        for step in (2, 1):
            folder(tmp_path / "runs" / name / f"checkpoint-{step}")
    folder(tmp_path / "runs" / ".cache" / "checkpoint-1")
    assert places(find(tmp_path / "runs")) == [("mix-2", 1), ("mix-2", 2), ("mix-10", 1), ("mix-10", 2)]


def test_training_folders_of_equal_name_get_as_much_of_their_path_as_tells_them_apart(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        folder(tmp_path / parent / "run" / "checkpoint-1")
    assert places(find(tmp_path / "a" / "run", tmp_path / "b" / "run")) == [("a/run", 1), ("b/run", 1)]


def test_an_at_sign_in_a_path_is_no_revision(tmp_path: Path) -> None:
    for parent in ("a@1", "b@1"):
        folder(tmp_path / parent / "run" / "checkpoint-1")
    assert places(find(tmp_path / "a@1" / "run", tmp_path / "b@1" / "run")) == [("a@1/run", 1), ("b@1/run", 1)]


def test_a_folder_named_twice_counts_once(tmp_path: Path) -> None:
    path = folder(tmp_path / "run" / "checkpoint-1")
    assert len(find(path, path.parent, tmp_path)) == 1


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    folder(tmp_path / "elsewhere" / "checkpoint-1")
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "mine").symlink_to(tmp_path / "elsewhere")
    (runs / "again").symlink_to(runs)
    assert places(find(runs)) == [("elsewhere", 1)]


def test_a_trajectory_can_be_named(tmp_path: Path) -> None:
    run = folder(tmp_path / "run" / "checkpoint-1").parent
    assert places(find(run, trajectory="mix-017")) == [("mix-017", 1)]


def test_two_checkpoints_for_one_place_are_refused(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "a" / "checkpoint-1"), folder(tmp_path / "b" / "checkpoint-1")
    with pytest.raises(CheckpointError, match="are both trajectory 't' with step 1"):
        find(first, second, trajectory="t")
    with pytest.raises(CheckpointError, match="are both trajectory 'run' with step 5"):
        find(folder(tmp_path / "run" / "checkpoint-5"), folder(tmp_path / "run" / "checkpoint-05"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*/nowhere: the folder does not exist"):
        find(tmp_path / "nowhere")


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*model\.safetensors: it is a file; name its folder"):
        find(tmp_path / "model.safetensors")


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected config\.json or adapter_config\.json, or folders checkpoint-"):
        find(tmp_path)


def test_an_empty_step_folder_becomes_a_failed_vector_not_an_error(tmp_path: Path) -> None:
    folder(tmp_path / "run" / "checkpoint-1")
    (tmp_path / "run" / "checkpoint-2").mkdir()
    whole, empty = find(tmp_path / "run")
    assert whole.problem is None
    assert empty.problem and "is it still being written?" in empty.problem


# mixture.json


@pytest.mark.parametrize(
    "value", [{"domains": ["code", "prose"], "weights": [0.3, 0.7]}, {"code": 0.3, "prose": 0.7}], ids=["long", "short"]
)
def test_both_forms_of_a_mixture_are_read(tmp_path: Path, value: dict[str, Any]) -> None:
    (item,) = find(folder(tmp_path / "m", mixture={**value, "tokens_seen": 4096}))
    assert item.mixture is not None
    assert (item.mixture.domains, item.mixture.weights, item.tokens_seen) == (["code", "prose"], [0.3, 0.7], 4096)


def test_multipliers_are_read_with_the_sizes_of_their_domains(tmp_path: Path) -> None:
    value = {"code": 2, "prose": 1, "sizes": {"code": 100, "prose": 300}, "tokens_seen": 7}
    (item,) = find(folder(tmp_path / "m", mixture=value))
    assert item.mixture is not None and item.tokens_seen == 7
    assert item.mixture.normalized() == {"code": 0.4, "prose": 0.6}


def test_tokens_seen_may_stand_alone(tmp_path: Path) -> None:
    (item,) = find(folder(tmp_path / "m", mixture={"tokens_seen": 5}))
    assert (item.mixture, item.tokens_seen, item.problem) == (None, 5, None)


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[1, 2]",
        "3",
        {"code": -1.0},
        {"code": 0.0},
        {"code": "much"},
        {"domains": ["a"], "weights": [1, 2]},
        {"domains": ["a", "a"], "weights": [1, 2]},
        {"code": 1.0, "sizes": {"prose": 1}},
        {"code": 1.0, "sizes": {"code": 0}},
        {"code": 1.0, "tokens_seen": -1},
        {"code": 1.0, "tokens_seen": "many"},
        {"code": 1.0, "tokens_seen": True},
        {"code": True, "prose": 1},
        '{"code": 0.3, "prose": 0.3, "code": 0.4}',
        '{"code": 1.0, "sizes": {"code": 3, "code": 4}}',
        "[" * 100_000,
        '{"code": NaN}',
        b"\xff".decode("latin-1"),
    ],
)
def test_a_malformed_mixture_fails_its_checkpoint_and_names_the_file(tmp_path: Path, value: Any) -> None:
    (item,) = find(folder(tmp_path / "m", mixture=value))
    assert item.problem and str(tmp_path / "m" / "mixture.json") in item.problem


# LoRA adapters


def test_the_base_an_adapter_names_may_be_a_path(tmp_path: Path) -> None:
    base = folder(tmp_path / "base")
    (item,) = find(folder(tmp_path / "adapter", adapter_of=str(base)))
    assert (item.kind, item.base, item.problem) == ("lora", str(base), None)


def test_the_base_may_be_a_path_from_the_adapters_folder(tmp_path: Path) -> None:
    base = folder(tmp_path / "base")
    (item,) = find(folder(tmp_path / "out" / "checkpoint-5", adapter_of="../../base"))
    assert item.base is not None and Path(item.base).resolve() == base


def test_a_given_base_wins_over_the_named_one(tmp_path: Path) -> None:
    other = str(folder(tmp_path / "other"))
    (item,) = find(folder(tmp_path / "adapter", adapter_of="/gone"), base=other)
    assert (item.base, item.problem) == (other, None)


def test_a_base_on_the_hub_stays_a_hub_id(tmp_path: Path) -> None:
    (item,) = find(folder(tmp_path / "adapter", adapter_of="org/base"))
    assert (item.base, item.problem) == ("org/base", None)


@pytest.mark.parametrize("named", ["/gone/base", "", "..."])
def test_an_adapter_whose_base_is_missing_asks_for_it(tmp_path: Path, named: str) -> None:
    (item,) = find(folder(tmp_path / "adapter", adapter_of=named))
    assert item.problem and "pass --base FOLDER" in item.problem and str(tmp_path / "adapter") in item.problem


def test_a_corrupt_adapter_configuration_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "adapter", adapter_of="x")
    (path / "adapter_config.json").write_text("{")
    (item,) = find(path)
    assert item.problem and str(path / "adapter_config.json") in item.problem


# The hub, from a local copy of its cache.

HUB_PROGRAM = """
import json, sys
from harness.checkpoints.find import find_checkpoints
from harness.core.errors import CheckpointError, SpecError
try:
    found = find_checkpoints(sys.argv[1:])
    print(json.dumps([[c.label, c.kind, c.trajectory, c.step, c.revision, c.base, str(c.folder)] for c in found]))
except CheckpointError as error:
    print(json.dumps(str(error)))
"""


def hub_cache(root: Path, name: str, revisions: dict[str, str], *, adapter_of: str | None = None) -> None:
    """What the hub's cache looks like after a download."""
    home = root / f"models--{name.replace('/', '--')}"
    for revision, commit in revisions.items():
        (home / "refs").mkdir(parents=True, exist_ok=True)
        (home / "refs" / revision).write_text(commit)
        folder(home / "snapshots" / commit, adapter_of=adapter_of)


def find_offline(cache: Path, *arguments: str) -> Any:
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", HUB_PROGRAM, *arguments],
        env=environment,
        cwd=cache,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


def test_hub_ids_resolve_to_commits_and_revisions_that_name_a_step_are_one_trajectory(tmp_path: Path) -> None:
    main, early, late, tuned = (digit * 40 for digit in "abcd")
    hub_cache(tmp_path, "org/m", {"main": main, "step1000": late, "stage1-step20": early})
    hub_cache(tmp_path, "org/a", {"main": tuned}, adapter_of="org/m")
    found = find_offline(tmp_path, "org/m", "org/m@step1000", "org/m@stage1-step20", "org/a")
    snapshots = tmp_path / "models--org--m" / "snapshots"
    assert found == [
        ["org/m", "hub", "org/m", None, main, None, str(snapshots / main)],
        ["org/m@stage1-step20", "hub", "org/m", 20, early, None, str(snapshots / early)],
        ["org/m@step1000", "hub", "org/m", 1000, late, None, str(snapshots / late)],
        ["org/a", "lora", "org/a", None, tuned, "org/m", found[3][-1]],
    ]


def test_a_hub_id_that_cannot_be_had_says_what_to_check(tmp_path: Path) -> None:
    hub_cache(tmp_path, "org/m", {"main": "a" * 40})
    message = find_offline(tmp_path, "org/m@gone")
    assert message.startswith("no folder org/m@gone here, and the hub does not give it either (HF_HUB_OFFLINE is set,")
    assert "check the name, the revision and the connection" in message


def test_what_a_training_framework_keeps_inside_a_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    folder(tmp_path / "run" / "checkpoint-500")
    (tmp_path / "run" / "checkpoint-500" / "global_step500").mkdir()
    for argument in ("run", "run/checkpoint-500"):
        (found,) = find_checkpoints([str(tmp_path / argument)])
        assert (found.folder.name, found.trajectory, found.step, found.problem) == ("checkpoint-500", "run", 500, None)


def test_trajectories_beside_steps_are_found_as_well(tmp_path: Path) -> None:
    for name in ("checkpoint-0", "mix-0/checkpoint-1", "mix-1/checkpoint-1"):
        folder(tmp_path / "nest" / name)
    found = find_checkpoints([str(tmp_path / "nest")])
    assert [(item.trajectory, item.step) for item in found] == [("nest", 0), ("mix-0", 1), ("mix-1", 1)]


def test_a_base_that_is_no_model_is_one_error_at_once(tmp_path: Path) -> None:
    folder(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"--base .*typo is not a model folder"):
        find_checkpoints([str(tmp_path / "model")], base=str(tmp_path / "typo"))


@pytest.mark.parametrize("names", [("save-100", "save-200"), ("100", "200"), ("model_1", "model_2"), ("ep 1", "ep 2")])
def test_numbered_siblings_are_a_question_and_steps_or_models_by_the_answer(
    names: tuple[str, str], tmp_path: Path
) -> None:
    run = tmp_path / "sft"
    first, second = (folder(run / name) for name in names)
    for arguments in ((run,), (first, second), (second, first)):
        with pytest.raises(
            SpecError, match=f"are {names[0]}, {names[1]} in .*sft steps of one training. --numbered steps"
        ):
            find(*arguments)
        steps = [int(name.rpartition("_")[2].rpartition("-")[2].rpartition(" ")[2]) for name in names]
        assert places(find(*arguments, numbered="steps")) == [("sft", step) for step in steps]
        assert sorted(places(find(*arguments, numbered="models"))) == sorted((name, None) for name in names)


@pytest.mark.parametrize(
    "names",
    [
        *(("seed1", "seed2"), ("run-1", "run-2"), ("mix-0", "mix-1"), ("llama-v1", "llama-v2"), ("rank8", "rank16")),
        *(
            ("qwen-7b", "qwen-14b"),
            ("temp-0.5", "temp-0.7"),
            ("final", "best"),
            ("a-1", "b-1"),
            ("sft_seed1", "sft_seed2"),
        ),
    ],
)
def test_what_is_not_numbered_like_steps_is_no_question(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        folder(tmp_path / "run" / name)
    assert {step for _, step in places(find(tmp_path / "run"))} == {None}


def test_numbered_models_beside_steps_and_two_series_in_a_folder(tmp_path: Path) -> None:
    for name in ("a-1", "a-2", "b-1", "b-2"):
        folder(tmp_path / "run" / name)
    with pytest.raises(CheckpointError, match="'run' with step 1"):
        find(tmp_path / "run", numbered="steps")
    for run in ("mix-0", "mix-1"):
        for step in ("checkpoint-1", "checkpoint-2"):
            folder(tmp_path / "runs" / run / step)
    expected = [("mix-0", 1), ("mix-0", 2), ("mix-1", 1), ("mix-1", 2)]
    assert places(find(tmp_path / "runs", numbered="steps")) == places(find(tmp_path / "runs")) == expected
