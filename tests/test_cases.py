"""Small inputs made after public reports, each with its right value. They lie beside the repository; absent, they are skipped by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tau2_samples import needs_port, shared

from harness import read_feed
from harness.cli import run
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
from harness.core.vector import ComponentRecord, RewardVector

TIED = "01-tied-config-two-tensors"


def case(name: str) -> Path:
    return shared("cases", name)


def scored(tmp_path: Path, *arguments: str | Path, code: int = EXIT_OK) -> list[RewardVector]:
    """The vectors of `harness score`, in a run folder of their own."""
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    assert run(["score", *map(str, arguments), "--out", str(out), "--quiet"]) == code
    return list(read_feed(out))


def one(tmp_path: Path, field: Path, code: int = EXIT_OK) -> tuple[ComponentRecord, dict[str, Any]]:
    """The only component of a field on the first case's first checkpoint, and what its task says."""
    (vector,) = scored(tmp_path, case(TIED) / "run" / "checkpoint-1", "--field", field, code=code)
    (component,) = vector.components
    return component, vector.provenance.tasks[component.name]


def test_a_head_of_its_own_among_tied_ones_scores_as_alone(tmp_path: Path) -> None:
    field = case(TIED) / "pairs.jsonl"
    sweep = scored(tmp_path, case(TIED) / "run", "--field", field)
    (alone,) = scored(tmp_path, case(TIED) / "run" / "checkpoint-2", "--field", field)
    assert sweep[1].vector == alone.vector
    assert alone.components[0].raw == pytest.approx(-6.9481, abs=1e-4)


def test_an_adapters_tokenizer_is_read_as_its_bases_is(tmp_path: Path) -> None:
    folder = case("02-adapter-tokenizer")
    (vector,) = scored(tmp_path, folder / "out", "--base", folder / "base", "--field", folder / "p2.jsonl")
    (component,) = vector.components
    assert component.detail["n_tokens"] == 43 and component.raw == pytest.approx(-6.5101, abs=1e-4)
    assert "note" not in component.detail


@pytest.mark.parametrize("form", ["peft", "str"])
def test_two_adapters_of_one_base_are_two_columns(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["aggregate", str(case("03-aggregate-merges-adapters") / form)])
    head = capsys.readouterr().out.splitlines()[0]
    assert "adapter-A" in head and "adapter-B" in head


@pytest.mark.parametrize("name", ["kto.jsonl", "kto_tag.jsonl"])
def test_an_answer_that_is_not_wanted_is_left_out_and_counted(name: str, tmp_path: Path) -> None:
    component, task = one(tmp_path, case("04-kto-undesired") / name)
    assert component.n_items == 1 and task["undesired_left_out"] == 1


@pytest.mark.parametrize("name", ["loss_false.jsonl", "weight0.jsonl"])
def test_a_masked_turn_is_no_answer(name: str, tmp_path: Path) -> None:
    component, task = one(tmp_path, case("05-masked-turns") / name)
    assert component.n_items == 1 and task["masked_turns"] == 1


def test_images_beside_the_text_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, field = case(TIED) / "run" / "checkpoint-1", case("06-images-column") / "images_col.jsonl"
    assert run(["score", str(checkpoint), "--field", str(field), "--out", str(tmp_path / "out")]) != EXIT_OK
    assert "line 1: 'images' is not empty; images, video and audio are not scored" in capsys.readouterr().err


def test_a_csv_is_read_as_text(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    folder = case("07-csv-numbers")
    for name, bytes_of in (("num.csv", [4, 5]), ("na.csv", [3, 5, 4])):  # " 007", " 0.50"; " NA", " None", " two"
        spec = tmp_path / "spec.yaml"
        shutil.copy(folder / "field.yaml", tmp_path)
        shutil.copy(folder / name, tmp_path)
        spec.write_text((folder / "spec.yaml").read_text().replace("num.csv", name))
        (vector,) = scored(tmp_path, case(TIED) / "run" / "checkpoint-1", "--spec", spec)
        items = pq.read_table(tmp_path / "out" / str(vector.components[0].detail["items"]))
        assert items["n_bytes"].to_pylist() == bytes_of


@needs_port
@pytest.mark.parametrize(("name", "n"), [("tau_dup.jsonl", 2), ("tau_dupid.jsonl", 1)])
def test_a_simulation_that_stands_twice_counts_once(name: str, n: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tau2", "rescore", str(case("08-duplicate-trials") / name)]) == EXIT_OK
    said = capsys.readouterr()
    assert f"{n}/{n}" in said.out and "1 simulation(s) stand there once more; each is counted once" in said.err


@pytest.mark.parametrize("name", ["fewer_layers", "lora_inside"])
def test_weights_without_a_place_are_refused(name: str, tmp_path: Path) -> None:
    folder = case("09-unused-weights")
    (vector,) = scored(tmp_path, folder / name, "--field", folder / "pairs.jsonl", code=EXIT_INCOMPLETE)
    assert vector.vector == [None] and "tensors that have no place in its model" in str(vector.components[0].reason)


def test_a_thought_before_a_call_is_read(tmp_path: Path) -> None:
    component, _ = one(tmp_path, case("10-think-before-call") / "think_call.jsonl")
    assert component.status == "ok" and component.n_scored == component.n_items == 2


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("dolci_mixed.jsonl", "function_calls"),
        ("lfv1_reason.jsonl", "reasoning_content"),
        ("reasoning_content.jsonl", "reasoning_content"),
    ],
)
def test_a_part_of_an_answer_that_would_be_left_out_is_named(name: str, part: str, tmp_path: Path) -> None:
    component, _ = one(tmp_path, case("11-left-out-parts") / name, code=EXIT_INCOMPLETE)
    assert component.raw is None and f"the chat template leaves out '{part}'" in str(component.reason)


def test_the_chosen_answer_is_scored_after_every_earlier_turn(tmp_path: Path) -> None:
    component, task = one(tmp_path, case("12-dpo-multi-turn") / "dpo_multi.jsonl")
    record = json.loads((case("12-dpo-multi-turn") / "dpo_multi.jsonl").read_text().splitlines()[0])
    assert component.n_items == 1 and task["rejected_left_out"] == 1
    assert component.detail["n_bytes"] >= len(record["chosen"]["value"].encode())  # type: ignore[operator]
