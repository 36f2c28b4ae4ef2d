"""A report of simulations that really ran: in a run folder's component, with the records that a failure left otherwise."""

from __future__ import annotations

from pathlib import Path

from run_folders import Values, write_run
from tau2_online import plan, run_plan
from tau2_samples import needs_port

from harness import read_feed
from harness.engines.scripted.chat import ScriptedChat
from harness.report.data import Wanted
from harness.report.page import read_block, write_page
from harness.tau2.simulate.reference_play import ReferencePlay

pytestmark = needs_port
TASKS = ("create_task_1", "update_task_1")


def run_mock(folder: Path, *, idle: bool) -> None:
    """Simulations of two tasks, solved by the reference actions, or by an agent that does nothing."""
    made = plan("mock", *TASKS)
    play = ReferencePlay(made.tasks)
    user = ScriptedChat(play)
    agent = ScriptedChat(lambda request: "I am done.") if idle else ScriptedChat(play)
    if idle:
        user = ScriptedChat(lambda request: "###STOP###")
    run_plan(made, folder, agent, user)


def test_a_failure_shows_its_cause_and_the_records_that_are_not_as_they_should_be(tmp_path: Path) -> None:
    run_mock(tmp_path / "tau2", idle=True)
    page = write_page(Wanted(paths=(tmp_path / "tau2",)), max_bytes=10**7).decode()
    block = read_block(page, "simulations")
    assert [one["reward"] for one in block["all"]] == [0.0, 0.0]
    transcripts = {number: (told, messages) for number, told, messages in read_block(page, "transcripts")["shown"]}
    for number, one in enumerate(block["all"]):
        said = [block["strings"][number] for number in one["records"]]
        assert said and all(", expected " in words for words in said)
        assert one["fault"][0] == "user" and all(transcripts[number])


def test_a_components_simulations_are_found_through_the_feed_and_linked_to_its_items(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    mock = {
        step: {"mock": Values(values=[float(step)] * 2, kind="tau2", metric="reward", task_ids=TASKS)}
        for step in (0, 1)
    }
    write_run(folder, {"sft": mock})
    lines = []
    for vector, idle in zip(read_feed(folder), (True, False), strict=True):
        work = f"work/{vector.step}"
        run_mock(folder / work, idle=idle)
        (component,) = vector.components
        detail = {**component.detail, "files": [f"{work}/simulations.jsonl"]}
        changed = vector.model_copy(update={"components": [component.model_copy(update={"detail": detail})]})
        lines.append(changed.to_line() + "\n")
    (folder / "rewards.jsonl").write_text("".join(lines))
    page = write_page(Wanted(paths=(folder,)), max_bytes=10**7).decode()
    block, compared = read_block(page, "simulations"), read_block(page, "compared")
    assert [group["name"] for group in block["groups"]] == ["mock of sft@0", "mock of sft@1"]
    assert [one["reward"] for one in block["all"]] == [0.0, 0.0, 1.0, 1.0]
    assert compared["items"]["mock"]["ids"] == [f"{task}-0" for task in TASKS]
    assert all("records" not in one for one in block["all"][2:])
