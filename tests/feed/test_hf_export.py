"""What goes to the hub is what was measured, of a benchmark that is known, and reads back with huggingface_hub's own types."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from samples import measurement, vector, write

from harness.cli import run
from harness.core.errors import SpecError
from harness.core.vector import RewardVector
from harness.feed.feed import Feed
from harness.feed.hf_export import Dataset, every_eval_ever, parse_datasets, write_hf

SOURCE = {"path": "allenai/ai2_arc", "name": "ARC-Easy", "version": "1.0", "revision": "abc123"}


def benchmark(step: int = 5, *, source: dict[str, Any] | None = SOURCE, **changes: Any) -> RewardVector:
    """A vector of a field and a benchmark whose data are on the hub."""
    made = vector({"code": -2.0, "arc": measurement(0.75, 0.02, metric="acc,none", detail={}, **changes)}, step=step)
    components = [made.components[0], made.components[1].model_copy(update={"kind": "lm_eval"})]
    tasks: dict[str, Any] = {**made.provenance.tasks}
    if source is not None:
        tasks["arc"] = {**tasks["arc"], "task arc_easy": source}
    provenance = made.provenance.model_copy(update={"tasks": tasks})
    return made.model_copy(update={"components": components, "provenance": provenance})


def test_a_benchmarks_value_reads_back_as_huggingface_hubs_own_entry(tmp_path: Path) -> None:
    made = write_hf(Feed([benchmark()]), tmp_path)
    (path,) = [one for one in made.paths if one.suffix == ".yaml"]
    assert path.relative_to(tmp_path).as_posix() == "a-step5/.eval_results/arc.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("allenai/ai2_arc", "ARC-Easy", 0.75)
    assert entry.dataset_revision == "abc123"
    assert entry.date == "2026-01-02"
    assert entry.notes is not None
    assert "acc,none, standard error 0.02, 10 items" in entry.notes


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (benchmark(source=None), "--dataset arc=ORG/NAME:TASK names it"),
        (benchmark(source={"path": "json"}), "--dataset arc=ORG/NAME:TASK names it"),
        (benchmark(source={"path": "/data/arc"}), "--dataset arc=ORG/NAME:TASK names it"),
        (benchmark(n_scored=7, status="partial", reason="3 failed"), "only 7 of 10 items were scored"),
    ],
)
def test_what_is_no_whole_result_of_a_known_benchmark_is_not_given_as_one(
    made: RewardVector, words: str, tmp_path: Path
) -> None:
    results = write_hf(Feed([made]), tmp_path)
    assert not [path for path in results.paths if path.suffix == ".yaml"]
    assert [note for note in results.notes if note.startswith("arc of") and words in note]
    assert [note for note in results.notes if note.startswith("code of") and "no benchmark's metric" in note]
    assert len(results.paths) == 2  # both have a record still


def test_a_failed_component_is_in_neither_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed = write([vector({"code": -2.0, "prose": None})], tmp_path / "rewards.jsonl")
    assert run(["export", str(feed), "--format", "hf"]) == 8
    said = capsys.readouterr()
    assert "left out: prose of trajectory a step 0: the checkpoint is broken" in said.err
    assert len(said.out.splitlines()) == 1


def test_each_trajectorys_last_step_is_exported_unless_all_are_asked_for(tmp_path: Path) -> None:
    feed = Feed([benchmark(1), benchmark(2)])
    assert len(write_hf(feed, tmp_path / "last").paths) == 3
    assert len(write_hf(feed, tmp_path / "all", last=False).paths) == 6


def test_a_record_has_what_the_schema_of_every_eval_ever_requires() -> None:
    # As required by eval.schema.json 0.3.0 of every_eval_ever; the package needs Python 3.12.
    made = benchmark()
    for component in made.components:
        record = every_eval_ever(made, component, dataset=Dataset(id="allenai/ai2_arc", task="default"))
        assert record.keys() == {
            *("schema_version", "evaluation_id", "evaluation_timestamp", "retrieved_timestamp"),
            *("source_metadata", "eval_library", "model_info", "evaluation_results"),
        }
        assert record["source_metadata"]["source_type"] in ("documentation", "evaluation_run")
        assert record["source_metadata"]["evaluator_relationship"] in (
            *("first_party", "third_party"),
            *("collaborative", "other"),
        )
        details = record["model_info"]["additional_details"]
        assert details["deployment_type"] in ("self_deployed", "externally_managed", "unknown")
        assert details["model_availability"] in ("open_weights", "closed_weights", "unknown")
        assert all(isinstance(value, str) for value in details.values())
        (result,) = record["evaluation_results"]
        assert {"evaluation_name", "source_data", "metric_config", "score_details"} <= result.keys()
        assert result["metric_config"]["lower_is_better"] is False
        assert {"score_type", "min_score", "max_score"} <= result["metric_config"].keys()
        assert result["score_details"]["score"] == component.raw
        assert result["score_details"]["uncertainty"]["standard_error"]["value"] == component.stderr


def test_a_record_passes_the_packages_own_validation_where_there_is_one() -> None:
    types = pytest.importorskip("every_eval_ever.eval_types", reason="every_eval_ever needs Python 3.12")
    made = benchmark()
    for component in made.components:
        types.EvaluationLog.model_validate(every_eval_ever(made, component))


def test_a_records_path_is_the_datastores_and_writing_again_changes_nothing(tmp_path: Path) -> None:
    first = write_hf(Feed([benchmark()]), tmp_path)
    contents = [path.read_bytes() for path in first.paths]
    again = write_hf(Feed([benchmark()]), tmp_path)
    assert again.paths == first.paths
    assert [path.read_bytes() for path in again.paths] == contents
    for path in first.paths:
        if path.suffix == ".json":
            where = path.relative_to(tmp_path / "every_eval_ever").as_posix()
            uuid4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
            assert re.fullmatch(rf"data/[^/]+/[^/]+/[^/]+/{uuid4}\.json", where)
            json.loads(path.read_bytes())


def test_names_of_any_kind_stay_below_the_output(tmp_path: Path) -> None:
    odd = benchmark().model_copy(update={"trajectory": "../../up/ü"})
    for path in write_hf(Feed([odd]), tmp_path / "out").paths:
        assert path.resolve().is_relative_to((tmp_path / "out").resolve())


def test_the_data_set_and_the_model_can_be_named(tmp_path: Path) -> None:
    datasets = parse_datasets(["arc=org/data:task-1"])
    made = write_hf(Feed([benchmark(source=None)]), tmp_path, model="me/model", datasets=datasets)
    (result,) = [one for one in made.paths if one.suffix == ".yaml"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(result.read_text()))
    assert (entry.dataset_id, entry.task_id) == ("org/data", "task-1")
    assert all("data/arc/me/model/" in str(one) or "data/code/me/model/" in str(one) for one in made.paths[-1:])


@pytest.mark.parametrize("words", ["arc", "arc=", "=org/name", "arc=name", "arc=/abs/path"])
def test_a_data_set_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(SpecError, match="expected COMPONENT=ORG/NAME"):
        parse_datasets([words])


def test_options_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    feed = Feed([benchmark(1), benchmark(2)])
    with pytest.raises(SpecError, match="no component has this name"):
        write_hf(feed, tmp_path, datasets=parse_datasets(["nope=org/name"]))
    with pytest.raises(SpecError, match="an id is of one"):
        write_hf(feed, tmp_path, last=False, model="me/model")
    path = write([vector({"code": -2.0})], tmp_path / "rewards.jsonl")
    assert run(["export", str(path), "--format", "csv", "--model", "me/model"]) == SpecError.exit_code


def test_rows_of_one_checkpoint_are_all_kept_and_say_what_their_prompts_were_filled_with(tmp_path: Path) -> None:
    rows = [
        benchmark().model_copy(update={"trajectory": f"a[alpha={alpha}]", "variables": {"alpha": alpha}})
        for alpha in (0, 1)
    ]
    made = write_hf(Feed(rows), tmp_path, model="me/model")
    assert len(set(made.paths)) == len(made.paths) and all(path.exists() for path in made.paths)
    entries = [parse_eval_result_entries(yaml.safe_load(p.read_text()))[0] for p in made.paths if p.suffix == ".yaml"]
    assert [f"alpha = {alpha}" in str(entry.notes) for entry, alpha in zip(entries, (0, 1), strict=True)] == [True] * 2
    steps = Feed([benchmark(step) for step in (5, 6)])
    with pytest.raises(SpecError, match="has 2 checkpoints"):
        write_hf(steps, tmp_path, last=False, model="me/model")


def test_steps_of_a_checkpoint_of_the_hub_have_a_record_each(tmp_path: Path) -> None:
    def on_the_hub(step: int) -> RewardVector:
        made = benchmark(step)
        return made.model_copy(
            update={"checkpoint": made.checkpoint.model_copy(update={"kind": "hub", "path": f"org/name@step{step}"})}
        )

    made = write_hf(Feed([on_the_hub(step) for step in (5, 6)]), tmp_path, last=False)
    records = [path for path in made.paths if path.suffix == ".json"]
    assert len(set(records)) == len(records) and all("/org/name/" in str(path) for path in records)
