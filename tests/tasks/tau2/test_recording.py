"""The formats that recordings come in, and what is said of files that are none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tau2_samples import recorded, results, task_value

from harness.core.errors import DataError
from harness.core.tau2.simulation import Simulation, Unreadable
from harness.tasks.tau2.recording import parse_simulation, read_recording


def directory(folder: Path, *simulations: dict[str, Any], **more: Any) -> Path:
    """Upstream's directory format: results.json has no key `simulations`, each simulation is a file named by its id."""
    document = results()
    del document["simulations"]
    (folder / "simulations").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({**document, **more}))
    for one in simulations:
        (folder / "simulations" / f"{one['id']}.json").write_text(json.dumps(one, indent=2))
    return folder


def index(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "task_id": "create_task_1", "trial": 0} for name in names]


@pytest.mark.parametrize("inside", [".", "results.json"])
def test_upstreams_directory_format_is_read(tmp_path: Path, inside: str) -> None:
    folder = directory(tmp_path / "run", recorded(id="b"), recorded(id="a"), simulation_index=index("a", "b"))
    found = read_recording(folder / inside)
    assert [one.id for one in found.simulations] == ["a", "b"] and found.domain == "mock"
    assert all(isinstance(one, Simulation) for one in found.simulations) and found.tasks is not None


def test_a_file_that_the_index_names_and_one_that_is_broken_cost_only_themselves(tmp_path: Path) -> None:
    folder = directory(tmp_path / "run", recorded(id="a"), simulation_index=index("a", "lost"))
    (folder / "simulations" / "broken.json").write_text('{"id": ')
    packed = gzip.compress(json.dumps(recorded(id="packed")).encode())
    (folder / "simulations" / "packed.json.gz").write_bytes(packed)
    good, broken, other, lost = read_recording(folder).simulations
    assert (good.id, other.id) == ("a", "packed") and isinstance(other, Simulation)
    assert isinstance(broken, Unreadable) and broken.id == "simulations/broken.json"
    assert isinstance(lost, Unreadable) and lost.reason == (
        "simulations/lost.json is missing, which the index names; restore it"
    )


def test_a_whole_document_beside_a_folder_of_that_name_is_itself(tmp_path: Path) -> None:
    folder = directory(tmp_path / "run", recorded(id="not its own"))
    (folder / "results.json").write_text(json.dumps(results(recorded(id="its own"))))
    assert [one.id for one in read_recording(folder).simulations] == ["its own"]


SPOKEN = {**recorded(), "messages": None, "mode": "full_duplex", "ticks": [{"tick_id": 0}]}
NONE: dict[str, tuple[Any, str]] = {
    "voice": (results(SPOKEN), "a voice simulation (full duplex): it was spoken in ticks"),
    "voice with messages": (results({**recorded(), "mode": "full_duplex"}), "a voice simulation"),
    "a voice run": ({**results(), "info": {"audio_native_config": {"provider": "x"}}}, "a voice simulation"),
    "an array of simulations": ([recorded()], "a bare JSON array of simulations, without domain and tasks; write one"),
    "an array of voice": ([SPOKEN], "a bare JSON array of simulations"),
    "tasks": ([task_value()], "a JSON array of tasks, and no recording; name it with `tasks_file`"),
    "the first tau-bench": (
        [{"task_id": 0, "reward": 1.0, "traj": []}],
        "a JSON array of results of the first tau-bench",
    ),
    "an empty array": ([], "a bare JSON array with no simulations in it"),
    "one simulation": (recorded(), "a single simulation; name the folder that has it in simulations/"),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_recording_is_said(tmp_path: Path, name: str) -> None:
    value, words = NONE[name]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(value, indent=2))
    with pytest.raises(DataError) as caught:
        read_recording(path)
    assert str(caught.value).startswith(f"{path}: {words}") and str(caught.value).count("\n") == 0


def test_an_array_among_lines_and_lines_of_voice_are_said(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps([recorded(), recorded()]) + "\n")
    with pytest.raises(DataError, match="a bare JSON array of simulations"):
        read_recording(path)
    path.write_text(json.dumps(SPOKEN) + "\n")
    with pytest.raises(DataError, match="a voice simulation"):
        read_recording(path)


def test_a_voice_simulation_among_others_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(results({**SPOKEN, "id": "spoken"}, recorded())))
    spoken, written = read_recording(path).simulations
    assert isinstance(spoken, Unreadable) and "tau2 evaluate-trajs" in spoken.reason and isinstance(written, Simulation)


def test_older_lines_lack_what_nobody_reads_and_are_of_the_same_task(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    whole = {**task_value(), "description": {"purpose": "x"}}
    path.write_text("".join(json.dumps({**recorded(), "task": task}) + "\n" for task in (task_value(), whole)))
    (task,) = read_recording(path).tasks or ()
    assert task.written == whole


@pytest.mark.parametrize("word", ["TerminationReason.USER_STOP", "USER_STOP", "user_stop"])
def test_an_end_as_python_prints_it_is_read(word: str) -> None:
    value = {"id": "a", "task_id": "1", "termination_reason": word, "messages": []}
    simulation = parse_simulation(value, "line 1")
    assert isinstance(simulation, Simulation) and simulation.termination_reason == "user_stop"


def test_an_end_of_an_unknown_name_is_not_judged() -> None:
    """Every known end but a stop is worth 0, so an unknown one would be a reward that nobody gave."""
    value = {"id": "a", "task_id": "1", "termination_reason": "finished", "messages": []}
    unread = parse_simulation(value, "line 1")
    assert isinstance(unread, Unreadable)
    assert unread.reason.startswith("termination_reason 'finished' is none of user_stop, agent_stop")
