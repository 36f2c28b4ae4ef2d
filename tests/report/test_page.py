"""The page's data: what Python computed, what was left out, and that nothing in a run can become markup."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from run_folders import Values, fields, write_run
from tau2_lines import simulation, write_lines

from harness import read_feed
from harness.cli import run
from harness.core.errors import EXIT_OK, DataError, SpecError
from harness.feed.compare import compare
from harness.report.data import Wanted
from harness.report.keep import Keep
from harness.report.page import read_block, write_page
from harness.report.places import chosen, standings
from harness.report.source import Run, read_sources
from harness.reward_models.component_comparison import ComponentComparison
from harness.run.update import update

HOSTILE = "</script><img src=x onerror=\"document.title='stolen'\">\u202e\ud800"
RIGHT: list[float | None] = [1.0] * 12 + [0.0] * 28
LATER: list[float | None] = [1.0] * 8 + [0.0] * 4 + [1.0] * 18 + [0.0] * 9 + [None]


def steps(*moves: float) -> dict[int | None, dict[str, Values]]:
    """A trajectory whose code rises by each move; its answers change at the second step."""
    return {
        10 * at: {
            **fields(at, code=move, prose=-move / 4),
            "arc": Values(values=RIGHT if at == 0 else LATER),
            "loss": Values(values=[1 - (x or 0) for x in RIGHT], metric="err", higher_is_better=False, weight=0.0),
        }
        for at, move in enumerate(moves)
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trajectories = {"mix-0": steps(0, 0.1, 0.3), "mix-1": steps(0, 0.0, 0.2)}
    mixtures = {"mix-0": {"code": 0.5, "prose": 0.5}, "mix-1": {"code": 0.2, "prose": 0.8}}
    return write_run(tmp_path / "run", trajectories, mixtures=mixtures)


def page_of(*paths: Path, **settings: Any) -> str:
    return write_page(Wanted(paths=paths, **settings), max_bytes=10**8).decode()


def column(blocks: dict[str, Any], name: str, key: str, before: int, after: int) -> Any:
    """Of a pair with before < after."""
    n = len(blocks["labels"])
    return blocks["pairs"]["components"][name][key][before * n - before * (before + 1) // 2 + after - before - 1]


def test_every_pair_has_the_numbers_of_harness_compare(folder: Path) -> None:
    compared = read_block(page_of(folder), "compared")
    labels = compared["labels"]
    assert labels == ["mix-0@0", "mix-0@10", "mix-0@20", "mix-1@0", "mix-1@10", "mix-1@20"]
    for before in range(6):
        for after in range(before + 1, 6):
            (found,) = compare(f"{folder}:{labels[before]}", [f"{folder}:{labels[after]}"])
            for row in found.components:
                check(compared, row, before, after)


def check(compared: dict[str, Any], row: ComponentComparison, before: int, after: int) -> None:
    def of(key: str) -> Any:
        return column(compared, row.name, key, before, after)

    for key, number in (("change", row.change), ("p", row.p), ("holm", row.p_holm), ("detectable", row.detectable)):
        assert of(key) == (None if number is None else pytest.approx(number, rel=1e-2, abs=1e-12)), key
    assert of("change") == pytest.approx(row.change, rel=1e-5, abs=1e-12)
    assert compared["pairs"]["words"][of("word")] == row.word
    assert of("n") == row.n_paired
    if row.interval is not None:
        assert [of("low"), of("high")] == pytest.approx(list(row.interval), rel=1e-5, abs=1e-12)
    if row.flips is not None:
        assert (of("up"), of("down")) == (len(row.flips.to_right), len(row.flips.to_wrong))


def test_the_curves_are_the_feeds_values_and_its_paired_errors(folder: Path) -> None:
    (folder / "run.json").write_text("{}")
    update(folder)  # from the items, as a run writes them
    feed, block = read_feed(folder), read_block(page_of(folder), "feed")
    (code,) = [one for one in block["components"] if one["name"] == "code"]
    order = [vector for name in feed.trajectories for vector in feed.trajectory(name)]
    assert code["raw"] == pytest.approx([v.components[0].raw for v in order], rel=1e-5)
    paired = feed.matrix(errors="paired", missing="nan").errors[:, len(feed.domains)]
    spread = feed.trajectory("mix-0").spreads()["code"].std
    known = [number for number in (paired[:3] * spread).tolist() if number == number]
    assert code["between"][1:3] == pytest.approx(known, rel=1e-2)
    assert code["between"][0] == code["between"][1]  # the first step's difference is the one to the second
    assert block["shares"][block["domains"].index("code")][:3] == [0.5] * 3


def test_questions_keep_texts_answers_and_what_was_right(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for vector in read_feed(folder):
        path = folder / str(next(c for c in vector.components if c.name == "arc").detail["items"])
        table = pq.read_table(path)
        answers = [f"answer {i} at {vector.step}" for i in range(table.num_rows)]
        columns = {"prompt": [f"question {i}" for i in range(table.num_rows)], "answer": answers}
        for name, texts in columns.items():
            table = table.append_column(name, pa.array(texts))
        pq.write_table(table, path)
    compared = read_block(page_of(folder), "compared")
    arc, strings = compared["items"]["arc"], compared["strings"]
    moved = arc["ids"].index("t/9")
    assert strings[arc["prompt"][arc["kind"][2]][moved]] == "question 9"
    assert [strings[arc["answer"][at][moved]] for at in (0, 2)] == ["answer 9 at 0", "answer 9 at 20"]
    assert [arc["right"][at][moved] for at in (0, 2)] == [1, 0]
    assert "t/0" not in arc["ids"]  # right throughout
    assert arc["right"][2][arc["ids"].index("t/39")] == -1  # not scored is neither right nor wrong
    assert compared["items"]["code"]["prompt"] is None


def test_hostile_names_and_texts_stay_outside_the_markup(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a<b>&", {"<script>": {0: fields(0), 1: fields(1)}})
    path = tmp_path / "simulations.jsonl"
    line = {"task_id": HOSTILE, "termination_reason": HOSTILE, "messages": [{"role": HOSTILE, "content": HOSTILE}]}
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    page = page_of(folder, path, title=HOSTILE)
    assert page.count("<script") == 6 and page.count("</script>") == 6
    assert "<img" not in page and 'onerror="' not in page
    assert read_block(page, "simulations")["all"][0]["task"] == HOSTILE


def test_a_run_that_has_begun_is_a_page_and_a_torn_line_is_not_read(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.json").write_text('{"schema": "harness.run/1", "run": "r"}')
    assert read_block(page_of(begun), "feed")["label"] == []
    folder = write_run(tmp_path / "run", {"sft": steps(0, 0.1)})
    with (folder / "rewards.jsonl").open("a") as feed:
        feed.write('{"schema": "harness.rew')
    assert read_block(page_of(folder), "feed")["label"] == ["sft@0", "sft@10"]
    tau2 = tmp_path / "tau2"
    tau2.mkdir()
    (tau2 / "run.json").write_text('{"schema": "harness.tau2_run/1"}')
    assert read_block(page_of(tau2), "simulations")["all"] == []
    (tau2 / "simulations.jsonl").write_text('{"task_id": "1", "trial"')
    assert read_block(page_of(tau2), "simulations")["all"] == []


def test_a_run_without_its_items_is_shown_and_says_so(folder: Path) -> None:
    for path in folder.rglob("*.parquet"):
        path.unlink()
    compared = read_block(page_of(folder), "compared")
    texts = compared["pairs"]["texts"]
    assert texts[column(compared, "code", "status", 0, 2)] == "unpaired"
    assert "not beside the feed" in texts[column(compared, "code", "reason", 0, 2)]
    assert "not beside the feed" in compared["items"]["code"]["why"]


def test_failures_are_there_with_their_causes_the_frequent_first(tmp_path: Path) -> None:
    none: list[float | None] = [None] * 40
    trajectory = {at: {**fields(at), "arc": Values(values=none if at else RIGHT)} for at in range(3)}
    trajectory[3] = {**fields(3), "arc": Values(values=[None, *RIGHT[1:]])}
    page = page_of(write_run(tmp_path / "run", {"sft": trajectory}))
    more = read_block(page, "more")
    assert more["causes"][0] == ["failed", "arc", "the server did not answer", 80, [1, 2]]
    assert more["causes"][1][:4] == ["partial", "arc", "some were not answered", 1]
    compared = read_block(page, "compared")
    assert compared["pairs"]["texts"][column(compared, "arc", "status", 0, 1)] == "failed"
    assert column(compared, "arc", "change", 0, 1) is None


def test_another_definition_is_said_on_the_curve_and_refused_in_the_matrix(tmp_path: Path) -> None:
    trajectory = {at: {"arc": Values(values=RIGHT, definition=f"sha256:{at}")} for at in range(2)}
    page = page_of(write_run(tmp_path / "run", {"sft": trajectory}))
    (arc,) = read_block(page, "feed")["components"]
    assert arc["remark"].startswith("not comparable throughout: 2 definitions")
    compared = read_block(page, "compared")
    assert compared["pairs"]["texts"][column(compared, "arc", "status", 0, 1)] == "refused"


def test_of_many_checkpoints_lasts_and_firsts_are_compared_and_the_page_says_how_many(tmp_path: Path) -> None:
    trajectories = {f"t{i}": {step: fields(step) for step in range(5)} for i in range(3)}
    folder = write_run(tmp_path / "run", trajectories)
    page = page_of(folder, last=7)
    labels = read_block(page, "compared")["labels"]
    assert len(labels) == 7 and {"t0@0", "t0@4", "t1@0", "t1@4", "t2@0", "t2@4"} < set(labels)
    assert any(said.startswith("7 of 15 checkpoints are compared") for said in read_block(page, "more")["left_out"])
    assert len(read_block(page, "feed")["label"]) == 15
    (source,) = read_sources([folder])
    assert isinstance(source, Run)
    places = standings([source])
    assert {places[index].vector.step for index in chosen(places, at_most=4)} == {0, 4}


def test_of_many_components_fewer_checkpoints_are_compared(tmp_path: Path) -> None:
    many = {f"c{i}": Values(values=[0.0, 1.0, 1.0], weight=0.0) for i in range(60)}
    page = page_of(write_run(tmp_path / "run", {"sft": dict.fromkeys(range(12), many)}))
    assert len(read_block(page, "compared")["labels"]) == 9  # 60 x 36 comparisons
    assert any(said.startswith("9 of 12 checkpoints") for said in read_block(page, "more")["left_out"])


def test_another_run_can_be_compared_against(folder: Path, tmp_path: Path) -> None:
    base = write_run(tmp_path / "base", {"base": steps(0.5)})
    compared = read_block(page_of(folder, against=f"{base}@0"), "compared")
    assert compared["labels"][-1] == f"{base}@0" and compared["places"][-1] is None and compared["against"] == 6
    (found,) = compare(f"{folder}:mix-0@0", [f"{base}@0"])
    check(compared, found.components[0], 0, 6)
    with pytest.raises(DataError, match="several trajectories"):
        page_of(base, against=str(folder))


def test_two_runs_are_told_apart_and_one_named_twice_is_refused(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / name / "run", {"sft": steps(0, 0.1)}) for name in ("a", "b"))
    assert read_block(page_of(one, two), "feed")["lanes"] == ["a/run:sft", "b/run:sft"]
    with pytest.raises(DataError, match="named twice"):
        page_of(one, one / ".." / "run")


def test_a_simulation_has_verdict_cause_failed_checks_and_transcript(tmp_path: Path) -> None:
    write_lines(tmp_path / "sims" / "simulations.jsonl", simulation("a", 1.0), simulation("b", 0.0))
    write_lines(tmp_path / "sims" / "unfinished.jsonl", simulation("c", None), simulation("a", None))
    page = page_of(tmp_path / "sims")
    block, transcripts = read_block(page, "simulations"), read_block(page, "transcripts")
    strings = block["strings"]
    assert [(one["task"], one["reward"]) for one in block["all"]] == [("a", 1.0), ("b", 0.0), ("c", None)]
    failed = block["all"][1]
    assert failed["fault"][:2] == ["agent", "wrong_call"] and strings[failed["fault"][2]] == "it called another"
    unmet = [(kind, strings[what]) for kind, what, met, _ in failed["checks"] if not met]
    assert unmet[1] == ("ACTION", "pay(id=1)") and unmet[0][0] == "DB"
    messages = next(messages for number, _, messages in transcripts["shown"] if number == 1)
    assert [transcripts["texts"][message[0]][message[2]] for message in messages] == ["hello", "hello b"]
    assert strings[block["all"][2]["reason"]] == "the endpoint failed"


def test_transcripts_are_left_out_where_the_page_would_be_too_large_failures_last(tmp_path: Path) -> None:
    rng = random.Random(0)
    lines = [simulation(f"{i}", float(i % 4 > 0), words=f"{rng.getrandbits(8000):x}") for i in range(200)]
    path = write_lines(tmp_path / "simulations.jsonl", *lines)
    whole = write_page(Wanted(paths=(path,)), max_bytes=10**8)
    small = write_page(Wanted(paths=(path,)), max_bytes=len(whole) * 2 // 3)
    assert len(small) <= len(whole) * 2 // 3
    block, more = (read_block(small.decode(), name) for name in ("simulations", "more"))
    kept = [block["all"][number] for number, *_ in read_block(small.decode(), "transcripts")["shown"]]
    assert len(block["all"]) == 200 and 0 < len(kept) < 200
    assert [one["reward"] for one in kept].count(0.0) == 50
    assert any(f"{len(kept)} of 200 simulations have their transcript here" in said for said in more["left_out"])
    of_failures = page_of(path, keep=Keep.FAILED)
    failed = {number for number, *_ in read_block(of_failures, "transcripts")["shown"]}
    every = read_block(of_failures, "simulations")["all"]
    assert failed == {number for number, one in enumerate(every) if one["reward"] == 0}


def test_the_command_writes_the_page_and_refuses_what_is_no_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(folder)]) == EXIT_OK
    assert capsys.readouterr().out.startswith(f"{folder / 'report.html'} (")
    first = (folder / "report.html").read_bytes()
    assert first.startswith(b"<!DOCTYPE html>")
    assert run(["report", str(folder), "-o", str(tmp_path / "other.html"), "--last", "2"]) == EXIT_OK
    feed = (folder / "rewards.jsonl").read_bytes()
    assert run(["report", str(folder), "-o", str(folder / "rewards.jsonl")]) == SpecError.exit_code
    assert (folder / "rewards.jsonl").read_bytes() == feed
    capsys.readouterr()
    assert run(["report", str(tmp_path / "nothing")]) == DataError.exit_code
    assert "nothing at" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(["report", str(tmp_path / "empty")]) == DataError.exit_code
    assert "is no run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        {"task_id": 7, "trial": True, "reward_info": {"reward": 10**400}, "messages": [None, 3, {"role": None}]},
        {
            "reward_info": [1],
            "messages": {"role": "user"},
            "fault": "agent",
            "task": {"user_scenario": {"instructions": [1]}},
        },
        {"task_id": None, "reward_info": {"reward": 0.5, "action_checks": [None, {"action": 3}], "env_assertions": {}}},
        {"messages": [{"role": "constructor", "content": [{"type": "text"}], "tool_calls": [None, {"name": {}}]}]},
        {"fault": {"cause": None, "turn": "x"}, "reward_info": {"reward": "1", "reward_breakdown": {"DB": {}}}},
    ],
)
def test_a_line_of_anything_costs_only_itself(tmp_path: Path, line: dict[str, Any]) -> None:
    path = write_lines(tmp_path / "simulations.jsonl", simulation("a", 1.0), line)
    every = read_block(page_of(path), "simulations")["all"]
    assert len(every) == 2 and every[0]["task"] == "a" and every[1]["n"] >= 0
