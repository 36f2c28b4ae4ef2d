"""harness compare: what it prints at 80 columns, as Markdown and as JSON, and its exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from run_folders import Values, fields, write_run

from harness import read_feed
from harness.cli import run
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, DataError, SpecError

Capture = pytest.CaptureFixture[str]
RIGHT = [1.0] * 12 + [0.0] * 28
LATER = [1.0] * 8 + [0.0] * 4 + [1.0] * 18 + [0.0] * 10


def components(seed: int, answers: list[float | None], **moves: float) -> dict[str, Values]:
    return {**fields(seed, **moves), "arc": Values(values=answers)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    steps = {0: components(0, list(RIGHT)), 5: components(1, list(LATER), code=0.5, prose=-0.5)}
    return write_run(tmp_path / "run", {"sft": steps})


def test_the_tables_are_read_at_80_columns(folder: Path, capsys: Capture) -> None:
    assert run(["compare", f"{folder}@0", f"{folder}@5"]) == EXIT_OK
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[:2] == [f"before  {folder}@0", f"after   {folder}@5"]
    table = lines[3:13]
    assert max(map(len, table)) <= 80
    assert " ".join(table[0].split()) == "component before after change ± error 95% interval Holm p"
    code, arc = table[1].split(), table[3].split()
    assert code[0] == "code" and code[3].startswith("+0.5") and code[-1] == "<0.0001"
    assert arc[:4] == ["arc", "0.3000", "0.6500", "+0.3500"]
    assert table[4].startswith("scalar ")
    assert " ".join(table[6].split()) == "component items p MDE 80% unpaired ± right/wrong"
    assert table[9].split()[:3] == ["arc", "40", "0.0043"], "McNemar's exact p, 18 against 4"
    assert table[9].split()[-1] == "18/4"
    assert said.err == ""


def test_what_was_learned_and_forgotten_and_what_flipped_is_said_by_name(folder: Path, capsys: Capture) -> None:
    assert run(["compare", f"{folder}@0", f"{folder}@5"]) == EXIT_OK
    out = capsys.readouterr().out
    assert "\nlearned: code +0.5" in out and ", arc +0.3500 ± 0." in out
    assert "\nforgotten: prose -0.4" in out and "(source)\n" in out
    assert "arc: 18 became right: t/12, t/13, t/14, t/15, t/16, t/17 and 12 more\n" in out
    assert "arc: 4 became wrong: t/8, t/9, t/10, t/11\n" in out
    assert run(["compare", f"{folder}@0", f"{folder}@5", "--all"]) == EXIT_OK
    assert "t/28, t/29\n" in capsys.readouterr().out


def test_json_has_everything(folder: Path, capsys: Capture) -> None:
    assert run(["compare", f"{folder}@0", f"{folder}@5", "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "harness.comparison/1"
    (found,) = document["comparisons"]
    assert (found["before"], found["after"]) == ([f"{folder}@0"], [f"{folder}@5"])
    assert found["said"] == {"learned": ["code", "arc"], "forgotten": ["prose"]}
    rows = {row["name"]: row for row in found["components"]}
    assert rows["arc"]["flips"]["to_right"] == [f"t/{i}" for i in range(12, 30)]
    assert rows["prose"]["verdict"] == "forgotten"
    for key in ("change", "stderr", "interval", "p", "p_holm", "detectable", "unpaired_stderr", "n_paired"):
        assert rows["code"][key] is not None
    assert found["scalar"]["stderr"] < found["scalar"]["unpaired_stderr"]


def test_markdown_has_the_same_tables(folder: Path, capsys: Capture) -> None:
    assert run(["compare", f"{folder}@0", f"{folder}@5", "--markdown"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"**`{folder}@0` → `{folder}@5`**"
    assert lines[2:4] == [
        "| component | before | after | change ± error | 95% interval | Holm p |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert {line.count("|") for line in lines[2:8]} == {7}
    assert any(line.startswith("- forgotten: prose ") for line in lines)


def test_a_feed_alone_says_by_name_that_it_is_unpaired(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    alone = tmp_path / "feed.jsonl"
    alone.write_bytes((folder / "rewards.jsonl").read_bytes())
    assert run(["compare", f"{alone}@0", f"{alone}@5"]) == EXIT_OK
    out = capsys.readouterr().out
    for name in ("code", "prose", "arc"):
        assert f"{name}: unpaired, as of two samples, so the error is too wide: its items are not beside" in out
    assert "scalar: code, prose, arc entered unpaired" in out
    assert "became" not in out


def test_seeds_show_their_spread_beside_the_items_error(tmp_path: Path, capsys: Capture) -> None:
    base = write_run(tmp_path / "base", {"sft": {5: fields(0)}})
    moves = {f"new-seed{i}": {5: fields(i, code=0.1 * i)} for i in (1, 2, 3)}
    seeds = write_run(tmp_path / "seeds", moves)
    assert run(["compare", str(base), str(seeds)]) == EXIT_OK
    out = capsys.readouterr().out
    assert f"after   {seeds}:new-seed1@5 {seeds}:new-seed2@5 {seeds}:new-seed3@5" in out
    assert "seeds ±" in out
    assert "learned: code +0.2" in out and "(but within the spread of its seeds)" in out
    assert "code after: 3 seeds, standard deviation 0.1" in out


def test_failures_and_refusals_are_named_on_stderr_with_a_code_of_their_own(tmp_path: Path, capsys: Capture) -> None:
    broken = {**fields(5), "prose": replace(fields(5)["prose"], values=[None] * 200)}
    folder = write_run(tmp_path / "run", {"sft": {0: fields(0), 5: broken}})
    assert run(["compare", f"{folder}@0", f"{folder}@5"]) == EXIT_INCOMPLETE
    said = capsys.readouterr()
    row = next(line for line in said.out.splitlines() if line.startswith("prose"))
    assert row.split()[2:] == ["failed", "-", "-", "-"], "no change of 0"
    assert "not compared: prose (failed)" in said.out
    assert f"prose: failed: {folder}@5: the server did not answer" in said.err
    assert "scalar: not comparable: prose (failed)" in said.out
    more = write_run(tmp_path / "more", {"sft": {5: {**fields(5), "arc": Values(values=RIGHT)}}})
    assert run(["compare", f"{folder}@0", str(more)]) == EXIT_OK
    said = capsys.readouterr()
    assert "arc: only after: before does not have it" in said.err and "not compared: arc (only after)" in said.out


def test_nothing_that_can_be_compared_is_an_error_that_names_everything(tmp_path: Path, capsys: Capture) -> None:
    a = write_run(tmp_path / "a", {"sft": {5: fields(0)}})
    b = write_run(tmp_path / "b", {"sft": {5: fields(0)}}, tokenizer="sha256:other")
    assert run(["compare", str(a), str(b)]) == DataError.exit_code
    error = capsys.readouterr().err
    assert "nothing can be compared: code: refused, another tokenizer" in error and "; prose: refused" in error


def test_one_form_of_output_at_a_time(folder: Path, capsys: Capture) -> None:
    assert run(["compare", f"{folder}@0", f"{folder}@5", "--json", "--markdown"]) == SpecError.exit_code


def test_names_that_a_terminal_would_act_on_are_shown_as_they_are(tmp_path: Path, capsys: Capture) -> None:
    odd: dict[str, Any] = {"sft\x1b[31m|*": {0: fields(0), 5: fields(1)}, "b": {0: fields(0), 5: fields(1)}}
    folder = write_run(tmp_path / "a", odd)
    assert run(["compare", f"{folder}:b@0", f"{folder}@5"]) == EXIT_OK
    assert "\x1b" not in capsys.readouterr().out
    assert run(["compare", f"{folder}:b@0", f"{folder}@5", "--markdown"]) == EXIT_OK
    assert "\x1b" not in capsys.readouterr().out


def test_checkpoints_that_were_really_scored(tmp_path: Path, capsys: Capture) -> None:
    rows = [{"q": f"a {i}", "r": f" is {i * i} and {i % 3}"} for i in range(12)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "spec.yaml").write_text("components: [{name: a, kind: logprob, field: a.jsonl, role: source}]\n")
    for step in (10, 20):
        tiny.save(tmp_path / "sft" / f"checkpoint-{step}", tiny.llama(step), tiny.tokenizer())
    out = tmp_path / "out"
    assert (
        run(["score", str(tmp_path / "sft"), "--spec", str(tmp_path / "spec.yaml"), "--out", str(out), "-q"]) == EXIT_OK
    )
    capsys.readouterr()
    assert run(["compare", f"{out}@10", str(out), "--json"]) == EXIT_OK
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    vector = read_feed(out)[1]
    (row,), (component,) = found["components"], vector.components
    assert (row["change"], row["stderr"]) == pytest.approx((component.change, component.change_stderr))
    assert (row["n_paired"], row["status"], row["after"]["raw"]) == (12, "paired", component.raw)
    assert (found["scalar"]["change"], found["scalar"]["stderr"]) == pytest.approx((vector.gain, vector.gain_stderr))
    (tmp_path / "gate.yaml").write_text("roles: {source: {max_loss: 100}}")
    assert run(["gate", str(out), "--against", f"{out}@10", "--policy", str(tmp_path / "gate.yaml")]) == EXIT_OK
    assert run(["gate", f"{out}@10", "--against", str(out), "--policy", str(tmp_path / "gate.yaml")]) == EXIT_OK
