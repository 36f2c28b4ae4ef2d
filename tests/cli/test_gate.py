"""harness gate: the decision, its exit code, and the number of items that would decide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from run_folders import Values, fields, write_run

from harness.cli import run
from harness.core.errors import EXIT_INCONCLUSIVE, EXIT_NO_GO, EXIT_OK, DataError, HarnessError, SpecError

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", {"sft": {0: fields(0), 5: fields(1, code=0.5, prose=-0.02)}})


def gate(folder: Path, policy: str, *more: str, step: int = 0) -> int:
    path = folder.parent / "gate.yaml"
    path.write_text(policy)
    return run(["gate", str(folder), "--against", f"{folder}@{step}", "--policy", str(path), *more])


@pytest.mark.parametrize(
    ("policy", "code", "decision"),
    [
        ("roles: {source: {max_loss: 0.1}, target: {min_gain: 0.3}}", EXIT_OK, "GO"),
        ("roles: {source: {max_loss: 0.1}, target: {min_gain: 0.7}}", EXIT_NO_GO, "NO-GO: code"),
        ("roles: {source: {max_loss: 0.02}, target: {min_gain: 0.3}}", EXIT_INCONCLUSIVE, "INCONCLUSIVE: prose"),
        ("components: {code: {min_gain: 0.7}, prose: {max_loss: 0.02}}", EXIT_NO_GO, "NO-GO: code"),
        ("components: {more: {max_loss: 9}}", EXIT_INCONCLUSIVE, "INCONCLUSIVE: more"),
        ("scalar: {min_gain: 0.2}", EXIT_OK, "GO"),
    ],
)
def test_the_decision_and_its_exit_code(folder: Path, policy: str, code: int, decision: str, capsys: Capture) -> None:
    assert gate(folder, policy) == code
    assert capsys.readouterr().out.splitlines()[-1] == decision
    assert gate(folder, policy, "--json") == code
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["exit_code"]) == ("harness.gate/1", code)
    assert document["decision"] == decision.partition(":")[0]


def test_the_exit_codes_are_nobody_elses() -> None:
    others = {error.exit_code for error in HarnessError.__subclasses__()} | {0, 1, 2, 8, 130}
    assert len({EXIT_NO_GO, EXIT_INCONCLUSIVE} - others) == 2


def test_the_table_has_the_items_that_would_decide_at_80_columns(folder: Path, capsys: Capture) -> None:
    assert gate(folder, "roles: {source: {max_loss: 0.03}, target: {min_gain: 0.3}}") == EXIT_INCONCLUSIVE
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"against  {folder}@0", f"run      {folder}@5"]
    assert max(map(len, lines[3:6])) <= 80
    assert lines[4].split()[:4] == ["code", "gain", ">=", "0.3"] and lines[4].split()[-1] == "GO"
    prose = lines[5].split()
    assert prose[-3] == "INCONCLUSIVE" and prose[-1] == "(200)"
    assert int(prose[-2].replace(",", "")) > 400


@pytest.mark.parametrize("broken", ["failed", "missing", "partial", "unlike"])
def test_what_could_not_be_measured_is_never_a_pass(broken: str, tmp_path: Path, capsys: Capture) -> None:
    after = fields(1, code=0.5)
    change = {
        "failed": {"values": [None] * 200},
        "partial": {"values": [*after["prose"].values[:199], None]},
        "unlike": {"definition": "sha256:other"},
        "missing": {},
    }[broken]
    after["prose"] = replace(after["prose"], **change)  # type: ignore[arg-type]
    if broken == "missing":
        del after["prose"]
    folder = write_run(tmp_path / "run", {"sft": {0: fields(0), 5: after}})
    for policy in ("roles: {source: {max_loss: 9}}", "components: {prose: {max_loss: 9}}"):
        assert gate(folder, policy) == EXIT_INCONCLUSIVE
        out = capsys.readouterr().out
        words = {
            "failed": "did not answer",
            "missing": "only before",
            "partial": "1 of 200",
            "unlike": "another definition",
        }
        assert words[broken] in out and out.splitlines()[-1] == "INCONCLUSIVE: prose"
    if broken == "partial":
        assert gate(folder, "roles: {source: {max_loss: 9, max_unscored: 0.01}}") == EXIT_OK


def test_components_without_a_rule_are_named(folder: Path, capsys: Capture) -> None:
    assert gate(folder, "components: {code: {min_gain: 0.1}}") == EXIT_OK
    assert "no rule for: prose" in capsys.readouterr().out


def test_an_ignored_name_that_nobody_has_is_said(folder: Path, capsys: Capture) -> None:
    assert gate(folder, "{roles: {target: {min_gain: 0.1}}, ignore: [prosa]}") == EXIT_OK
    assert "ignore names what neither side has: prosa" in capsys.readouterr().out


def test_seeds_are_judged_together_and_several_trainings_by_the_worst(tmp_path: Path, capsys: Capture) -> None:
    base = write_run(tmp_path / "base", {"sft": {5: fields(0)}})
    seeds = write_run(tmp_path / "seeds", {f"new-seed{i}": {5: fields(i, code=0.4 + 0.1 * i)} for i in (1, 2)})
    policy = tmp_path / "gate.yaml"
    policy.write_text("roles: {target: {min_gain: 0.5}}")
    arguments = ["--against", f"{base}@5", "--policy", str(policy)]
    assert run(["gate", str(seeds), *arguments]) == EXIT_OK
    assert "code: seeds ± 0.0" in capsys.readouterr().out
    mixed = write_run(tmp_path / "mixed", {"good": {5: fields(1, code=0.9)}, "bad": {5: fields(2, code=-0.9)}})
    assert run(["gate", str(mixed), *arguments]) == EXIT_NO_GO
    out = capsys.readouterr().out
    assert "\nGO\n" in out and "NO-GO: code" in out


def test_markdown(folder: Path, capsys: Capture) -> None:
    assert gate(folder, "roles: {source: {max_loss: 0.03}}", "--markdown") == EXIT_INCONCLUSIVE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"**INCONCLUSIVE: prose** (`{folder}@5` against `{folder}@0`)"
    assert lines[2] == "| component | demand | better by | 95% interval | decision | items (has) |"


def test_a_policy_that_cannot_be_used_is_refused_before_anything_is_read(tmp_path: Path, capsys: Capture) -> None:
    policy = tmp_path / "gate.yaml"
    policy.write_text("roles: {source: {max_los: 0.1}}")
    arguments = ["gate", str(tmp_path / "none"), "--against", str(tmp_path / "none@3"), "--policy", str(policy)]
    assert run(arguments) == SpecError.exit_code
    assert "roles.source: unknown key 'max_los'; did you mean 'max_loss'?" in capsys.readouterr().err
    policy.write_text("roles: {source: {max_loss: 0.1}}")
    assert run(arguments) == DataError.exit_code


def test_a_feed_alone_is_judged_by_its_wider_error(tmp_path: Path, capsys: Capture) -> None:
    folder = write_run(tmp_path / "run", {"sft": {0: fields(0), 5: fields(1, code=0.5)}}, items=False)
    assert gate(folder, "roles: {target: {min_gain: 0.4}}") == EXIT_INCONCLUSIVE, "paired, it would be a GO"
    said = "code: unpaired, as of two samples, so the error is too wide: the feed names no file of its items"
    assert said in capsys.readouterr().out
    assert gate(folder, "scalar: {min_gain: 0.2}") == EXIT_INCONCLUSIVE
    assert "scalar: code, prose entered unpaired, so the error is too wide" in capsys.readouterr().out
    few = write_run(
        tmp_path / "few", {"sft": {0: {"t": Values(values=[1.0])}, 5: {"t": Values(values=[1.0])}}}, items=False
    )
    assert gate(few, "components: {t: {max_loss: 0.9}}") == EXIT_INCONCLUSIVE, "one item has no error"
