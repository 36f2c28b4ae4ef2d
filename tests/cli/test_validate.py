"""harness validate: tables of 80 columns, JSON, weights that score takes, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from samples import vector, write
from study import script, write_study

from harness.cli import run
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK, DataError, SpecError

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    proxies, targets = write_study(tmp_path_factory.mktemp("study"))
    return str(proxies), str(targets)


def test_help_names_it(capsys: Capture) -> None:
    assert run(["--help"]) == EXIT_OK
    assert "  validate " in capsys.readouterr().out
    assert run(["validate", "--help"]) == EXIT_OK
    assert capsys.readouterr().out.startswith("Usage: harness validate")


def test_the_tables_say_it_in_80_columns(place: tuple[str, str], capsys: Capture) -> None:
    assert run(["validate", place[0], "--against", place[1], "--target", "coding"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "proxies: 24 runs of 12 mixtures"
    assert lines[1].split() == ["component", "signal", "item", "step", "seed", "noise", "signal/noise"]
    rows = {line.split()[0]: line.split() for line in lines[:-3] if line}
    assert [rows[name][-2] for name in ("code", "choices", "web", "quiz")] == ["steers", "steers", "moves", "noise"]
    assert rows["quiz"][2] == "seen", "what may be all noise is not corrected for it"
    assert lines[-3:] == [
        "code, choices: steers: puts mixtures in the target's order",
        "web: moves, but not with the target",
        "quiz: noise at this scale",
    ]


def test_one_feed_alone_is_told_without_a_target(place: tuple[str, str], capsys: Capture) -> None:
    assert run(["validate", place[0]]) == EXIT_OK
    out = capsys.readouterr().out
    assert "code, choices, web: moves with the mixture" in out and "quiz: noise at this scale" in out
    assert "decisions" not in out and max(map(len, out.splitlines())) <= 80


def test_of_unknown_noise_the_spread_is_shown_as_a_bound(tmp_path: Path, capsys: Capture) -> None:
    runs = [vector({"code": -float(m)}, trajectory=f"r{m}", mixture={"x": 1.0, "y": m}) for m in range(3)]
    write(runs, tmp_path / "rewards.jsonl")
    assert run(["validate", str(tmp_path)]) == EXIT_OK
    captured = capsys.readouterr()
    assert captured.out.splitlines()[2].split() == ["code", "<1", "-", "-", "-", "-", "-", "open"]
    assert "code: nothing tells its noise" in captured.err


def test_json_has_everything(place: tuple[str, str], capsys: Capture) -> None:
    assert run(["validate", place[0], "--against", place[1], "--target", "coding", "--json", "--seed", "3"]) == EXIT_OK
    made = json.loads(capsys.readouterr().out)
    assert (made["schema"], made["seed"], made["n_matched"]) == ("harness.validation/1", 3, 12)
    code = made["components"][0]
    assert set(code) == {"name", "metric", "signal", "agreements", "verdict", "words", "weight"}
    rank = code["agreements"]["coding"]["rank"]
    assert rank["interval"][0] <= rank["seen"] <= rank["interval"][1] and rank["corrected"] >= rank["seen"]
    assert code["signal"]["snr_interval"][0] < code["signal"]["snr"] < code["signal"]["snr_interval"][1]


def test_the_weights_it_writes_are_taken_by_score(place: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    weights = tmp_path / "new" / "weights.json"
    assert run(["validate", place[0], "--against", place[1], "--target", "coding", "-o", str(weights)]) == EXIT_OK
    assert f"weights: {weights}" in capsys.readouterr().err
    for name in ("code", "choices", "web", "quiz"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"q": "one", "r": " two"}) + "\n")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    spec = tmp_path / "spec.yaml"
    rows = [f"  - {{name: {name}, kind: logprob, field: {name}.jsonl}}" for name in ("code", "choices", "web", "quiz")]
    spec.write_text("components:\n" + "\n".join(rows) + "\n")
    arguments = ["score", str(tmp_path / "checkpoint"), "--spec", str(spec), "--weights", str(weights), "--out"]
    assert run([*arguments, str(tmp_path / "run")]) == EXIT_INCOMPLETE, "no model is there"
    capsys.readouterr()
    (line,) = (tmp_path / "run" / "rewards.jsonl").read_text().splitlines()
    suggested = json.loads(weights.read_text())["weights"]
    assert {c["name"]: c["weight"] for c in json.loads(line)["components"]} == suggested
    assert suggested["code"] > 0 == suggested["quiz"] and sum(suggested.values()) == pytest.approx(1)
    short = [argument for argument in arguments if argument not in ("--weights", str(weights))]
    assert run([*short, str(tmp_path / "run")]) == 7, "a run of other weights"
    assert run(["doctor", "--spec", str(spec), "--weights", str(weights), "--out", str(tmp_path / "run")]) == EXIT_OK
    spec.write_text("components:\n" + rows[0] + "\n")
    assert run([*arguments, str(tmp_path / "other")]) == SpecError.exit_code
    assert "has a weight for choices, web, quiz, which the spec does not measure" in capsys.readouterr().err


def test_where_nothing_steers_no_weights_are_written(place: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    lines = []
    for line in (Path(place[0]) / "rewards.jsonl").read_text().splitlines():
        value: dict[str, Any] = json.loads(line)
        for key in ("components", "vector", "standardized"):
            value[key] = value[key][3:]
        for key in ("mean", "std"):
            value["reference"][key] = value["reference"][key][3:]
        lines.append(json.dumps(value))
    (tmp_path / "rewards.jsonl").write_text("\n".join(lines) + "\n")
    weights = tmp_path / "weights.json"
    arguments = ["validate", str(tmp_path), "--against", place[1], "--target", "coding", "-o", str(weights)]
    assert run(arguments) == EXIT_INCOMPLETE
    assert "no component steers, so no weights are suggested" in capsys.readouterr().err
    assert not weights.exists()


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (["--target", "coding"], SpecError, "--target needs the feed of the large models"),
        (["-o", "w.json"], SpecError, "which need a target"),
        (["--against", "TARGETS"], SpecError, "name what is to be decided: --target"),
        (["--against", "TARGETS", "--target", "coding,hm"], SpecError, "--target hm"),
        (["--against", "PROXIES", "--target", "code"], DataError, "given twice"),
        (["PROXIES"], DataError, "given twice"),
        (["none"], DataError, "no feed at none"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    place: tuple[str, str], more: list[str], error: Any, message: str, capsys: Capture
) -> None:
    arguments = [{"TARGETS": place[1], "PROXIES": place[0]}.get(argument, argument) for argument in more]
    assert run(["validate", place[0], *arguments]) == error.exit_code
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err and captured.err.count("\n") == 1


def test_a_target_that_is_not_there_is_named_before_mixtures_are_counted(
    place: tuple[str, str], tmp_path: Path, capsys: Capture
) -> None:
    write([vector({"coding": -1.0}, trajectory="large", mixture={"code": 0.5, "web": 0.5})], tmp_path / "rewards.jsonl")
    arguments = ["validate", place[0], "--against", str(tmp_path), "--target"]
    assert run([*arguments, "codng"]) == SpecError.exit_code
    assert "--target codng: " in capsys.readouterr().err
    assert run([*arguments, "coding"]) == DataError.exit_code
    assert "mixtures were trained on at both scales" in capsys.readouterr().err


def test_the_page_shows_what_this_code_prints(tmp_path: Path, capsys: Capture) -> None:
    page = (Path(__file__).parents[2] / "docs" / "validate.md").read_text(encoding="utf-8")
    block = page.partition("    $ python examples/simulated_study.py --out results/study\n")[2].partition(
        "    weights:"
    )[0]
    command, _, shown = block.partition("\n")
    script().main(["--out", str(tmp_path / "results/study")])
    capsys.readouterr()
    arguments = [word.replace("results/", f"{tmp_path}/results/") for word in command.split()[2:]]
    assert run(arguments) == EXIT_OK
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        line.removeprefix("    ").rstrip() for line in shown.splitlines()
    ]
