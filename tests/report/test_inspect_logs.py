"""Runs and simulations as Inspect logs: its own reader and command line open them, and nothing is lost or made up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_folders import Values, write_run
from samples import measurement, vector, write
from tau2_lines import simulation, write_lines
from tau2_samples import shared

from harness.cli import run
from harness.core.errors import DataError, SpecError
from harness.report.inspect_logs import write_inspect

log = pytest.importorskip("inspect_ai.log", reason="inspect_ai comes with the extra tau2")
TOOL = Path(sys.executable).with_name("inspect")


def read(path: Path) -> Any:
    return log.read_eval_log(str(path))


def with_texts(folder: Path, name: str) -> None:
    """Give the items of a run's only component answers, and texts beside them, as a measurement stores them."""
    for path in (folder / "items").rglob(f"{name}.parquet"):
        table = pq.read_table(path)
        texts = "items/texts/t.parquet"
        (folder / "items" / "texts").mkdir(exist_ok=True)
        ids = table["id"].to_pylist()
        asked = {"id": ids, "prompt": [f"What is {i}?" for i in ids], "target": [f"right {i}" for i in ids]}
        pq.write_table(pa.table(asked), folder / texts)
        table = table.append_column("answer", pa.array([f"said {i}" for i in ids]))
        pq.write_table(table.replace_schema_metadata({b"texts": texts.encode()}), path)


def test_questions_of_a_benchmark_are_samples_with_prompt_answer_target_and_value(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"a": {s: {"arc": Values(values=[1.0, 0.0, None])} for s in (0, 10)}})
    with_texts(folder, "arc")
    logs = write_inspect(folder)
    assert logs.left_out == []
    assert len(logs.paths) == 2
    found = read(logs.paths[0])
    assert found.status == "success"
    assert [sample.input for sample in found.samples] == ["What is t/0?", "What is t/1?", "What is t/2?"]
    assert [sample.target for sample in found.samples] == ["right t/0", "right t/1", "right t/2"]
    assert found.samples[0].output.completion == "said t/0"
    assert found.samples[0].scores["acc"].value == 1.0
    assert found.eval.metadata["step"] == 0


def test_a_question_that_was_not_scored_is_an_error_and_in_no_mean(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"a": {0: {"arc": Values(values=[1.0, 0.0, None])}}})
    found = read(write_inspect(folder).paths[0])
    assert found.samples[2].scores is None
    assert found.samples[2].error.message == "it was not scored"
    (score,) = found.results.scores
    assert score.metrics["mean"].value == 0.5
    assert (score.scored_samples, score.unscored_samples) == (2, 1)
    assert "stderr" in score.metrics


def test_last_writes_the_last_step_of_each_trajectory(tmp_path: Path) -> None:
    steps = {s: {"arc": Values(values=[1.0, 0.0])} for s in (0, 10, 20)}
    folder = write_run(tmp_path / "run", {"a": steps, "b": steps})
    found = [read(path) for path in write_inspect(folder, last=True).paths]
    assert sorted((one.eval.metadata["trajectory"], one.eval.metadata["step"]) for one in found) == [
        ("a", 20),
        ("b", 20),
    ]


def test_a_component_without_items_is_named_and_the_others_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"arc": Values(values=[1.0, 0.0]), "broken": Values(values=[None, None])}
    folder = write_run(tmp_path / "run", {"a": {0: values}})
    for path in (folder / "items").rglob("broken.parquet"):
        path.unlink()
    assert run(["export", str(folder), "--format", "inspect"]) == 8
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert said.err.startswith("left out: broken of trajectory a step 0")


def test_nothing_to_write_is_an_error_and_no_empty_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"a": {0: {"arc": Values(values=[1.0, 0.0])}}}, items=False)
    with pytest.raises(DataError, match="no simulations and no items"):
        write_inspect(folder)
    assert not (folder / "inspect").exists()


def test_simulations_have_their_transcript_reward_and_cause(tmp_path: Path) -> None:
    lines = [simulation("a", 1.0), simulation("a", 0.0, trial=1), simulation("b", None)]
    path = write_lines(tmp_path / "sims" / "simulations.jsonl", *lines)
    found = read(write_inspect(path.parent).paths[0])
    samples = {(one.id, one.epoch): one for one in found.samples}
    assert {key: one.scores and one.scores["reward"].value for key, one in samples.items()} == {
        ("a", 1): 1.0,
        ("a", 2): 0.0,
        ("b", 1): None,
    }
    assert samples["b", 1].error is not None
    assert all(one.messages for one in found.samples)
    assert found.results.scores[0].metrics["mean"].value == 0.5


def test_two_simulations_of_one_task_and_trial_are_both_there(tmp_path: Path) -> None:
    lines = [{**simulation("a", 1.0), "id": "x"}, {**simulation("a", 0.0), "id": "y"}]
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read(write_inspect(path).paths[0])
    assert [(one.id, one.epoch) for one in found.samples] == [("a", 1), ("a", 2)]


def test_calls_and_tool_answers_belong_together_and_a_users_calls_are_marked(tmp_path: Path) -> None:
    call = {"id": "c1", "name": "lookup", "arguments": {"id": 12}}
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [{**call, "requestor": "assistant"}]},
        {"role": "tool", "id": "c1", "content": "found", "requestor": "assistant"},
        {"role": "user", "content": None, "tool_calls": [{**call, "id": "c2", "name": "reboot", "requestor": "user"}]},
        {
            "role": "tool",
            "tool_messages": [{"role": "tool", "id": "c2", "content": "off", "requestor": "user", "error": True}],
        },
        {"role": 3, "content": "?"},
        "nothing",
    ]
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({**simulation("a", 1.0), "messages": messages}) + "\n")
    (sample,) = read(write_inspect(path).paths[0]).samples
    roles = [message.role for message in sample.messages]
    assert roles == ["user", "assistant", "tool", "user", "user", "user", "user"]
    assert sample.messages[1].tool_calls[0].arguments == {"id": 12}
    assert (sample.messages[2].tool_call_id, sample.messages[2].function) == ("c1", "lookup")
    assert sample.messages[3].text == '[the user calls reboot({"id": 12})]'
    assert sample.messages[4].text == "[error of reboot, called by the user]\noff"


def test_a_key_in_a_recordings_settings_is_not_in_the_log(tmp_path: Path) -> None:
    info = {"agent_info": {"llm": "openai/m", "llm_args": {"api_key": "sk-aabbccddeeff0011"}}}
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({**simulation("a", 1.0), "run_info": info}) + "\n")
    (written,) = write_inspect(path, tmp_path / "out").paths
    found = read(written)
    assert found.eval.model == "openai/m"
    assert "sk-aabbccddeeff0011" not in found.model_dump_json()


def test_writing_again_replaces_and_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "sims" / "simulations.jsonl", simulation("a", 1.0))
    first = write_inspect(path.parent).paths
    assert write_inspect(path.parent).paths == first
    assert [one.name for one in first[0].parent.iterdir()] == [first[0].name]
    with pytest.raises(SpecError, match="is a file"):
        write_inspect(path.parent, path)


def test_inspects_own_command_line_lists_dumps_and_bundles_them(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "sims" / "simulations.jsonl", simulation("a", 1.0), simulation("b", None))
    (written,) = write_inspect(path.parent, tmp_path / "logs").paths

    def inspect(*words: str) -> str:
        return subprocess.run([TOOL, *words], capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    assert written.name in inspect("log", "list", "--log-dir", str(tmp_path / "logs"))
    dumped = json.loads(inspect("log", "dump", str(written)))
    assert [sample["id"] for sample in dumped["samples"]] == ["a", "b"]
    inspect("view", "bundle", "--log-dir", str(tmp_path / "logs"), "--output-dir", str(tmp_path / "site"))
    assert (tmp_path / "site" / "index.html").exists()
    assert list((tmp_path / "site" / "logs").rglob("*.eval"))


def test_a_real_recording_is_whole(tmp_path: Path) -> None:
    path = sorted(shared("tau2_real").glob("airline-*.json.gz"))[0]
    import gzip

    document = json.loads(gzip.decompress(path.read_bytes()))
    found = read(write_inspect(path, tmp_path).paths[0])
    assert len(found.samples) == len(document["simulations"])
    samples = {(sample.id, sample.epoch): sample for sample in found.samples}
    for one in document["simulations"]:
        sample = samples[one["task_id"], one["trial"] + 1]
        assert len(sample.messages) == len(one["messages"])
        assert sample.scores["reward"].value == one["reward_info"]["reward"]
        assert len(sample.input) > 20


def test_a_tau2_component_of_a_run_has_its_transcripts_and_the_vectors_own_value(tmp_path: Path) -> None:
    made = vector({"retail": measurement(0.25, 0.1, metric="reward", detail={"files": ["work/x/simulations.jsonl"]})})
    component = made.components[0].model_copy(update={"kind": "tau2"})
    write([made.model_copy(update={"components": [component]})], tmp_path / "rewards.jsonl")
    write_lines(tmp_path / "work" / "x" / "simulations.jsonl", simulation("a", 1.0), simulation("b", 0.0))
    (path,) = write_inspect(tmp_path).paths
    found = read(path)
    assert [(sample.id, sample.scores["reward"].value) for sample in found.samples] == [("a", 1.0), ("b", 0.0)]
    assert found.results.scores[0].metrics["mean"].value == 0.25
    assert found.samples[0].messages


def test_what_a_model_thought_is_reasoning_and_no_text(tmp_path: Path) -> None:
    one = simulation("t", 1.0)
    one["messages"][1]["reasoning_content"] = "Let me see."
    (path,) = write_inspect(write_lines(tmp_path / "simulations.jsonl", one)).paths
    message = read(path).samples[0].messages[-1]
    assert message.text == "hello t"
    assert [part.reasoning for part in message.content if part.type == "reasoning"] == ["Let me see."]
