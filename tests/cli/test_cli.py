"""The small verbs of the command line: what they print, what they write, and the exit code of every kind of error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml
from samples import feed, measurement, vector, write

import harness
from harness import read_feed
from harness.cli import run
from harness.cli.app import app
from harness.cli.progress import PlainObserver
from harness.core.errors import (
    EXIT_INCOMPLETE,
    EXIT_OK,
    EXIT_USAGE,
    CheckpointError,
    DataError,
    EngineError,
    HarnessError,
    SpecError,
    StateError,
)
from harness.core.measurement import failed
from harness.spec.prepared import read_reference

GOLDEN = Path(__file__).parents[1] / "golden"
MAIN = "from harness.cli import main; main()"
ROWS = [{"code": -1.0, "prose": -2.0}, {"code": -3.0, "prose": -2.5}, {"code": -2.0, "prose": -4.0}]
Capture = pytest.CaptureFixture[str]
VERBS = [str(one.name) for one in (*app.registered_commands, *app.registered_groups) if one.name != "lm-eval"]
"""All but lm-eval's own command line, whose help is lm-eval's."""


def process(*arguments: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """`harness ARGUMENTS` as a user's shell runs it."""
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with a whole feed."""
    write(feed(*ROWS, mixture={"x": 1.0, "y": 3.0}), tmp_path / "rewards.jsonl")
    return tmp_path


def test_version(capsys: Capture) -> None:
    assert run(["--version"]) == EXIT_OK
    assert capsys.readouterr().out == f"harness {harness.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_names_every_verb(arguments: list[str], capsys: Capture) -> None:
    assert run(arguments) == EXIT_OK
    text = capsys.readouterr().out
    for verb in VERBS:
        assert f"  {verb} " in text


@pytest.mark.parametrize("verb", [*VERBS, "tasks path", "mix sample", "mix collect", "mix fit", "mix next"])
def test_every_verb_has_help(verb: str, capsys: Capture) -> None:
    assert run([*verb.split(), "--help"]) == EXIT_OK
    assert capsys.readouterr().out.startswith(f"Usage: harness {verb}")


def test_docs_name_every_verb() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"harness {verb}" not in page] == []


def test_ls_names_every_field_and_kind(capsys: Capture) -> None:
    assert run(["ls"]) == EXIT_OK
    both = capsys.readouterr().out
    for name in (
        "mmlu_val",
        "math_train_1500",
        "github_val_1000",
        "stdlib_code",
        "stdlib_prose",
        "logprob",
        "lm_eval",
        "math",
    ):
        assert f"  {name} " in both
    assert run(["ls", "fields"]) == run(["ls", "components"]) == run(["ls", "suites"]) == EXIT_OK
    assert capsys.readouterr().out == both


def test_tasks_path_is_the_folder_of_the_lm_eval_tasks(capsys: Capture) -> None:
    assert run(["tasks", "path"]) == EXIT_OK
    path = Path(capsys.readouterr().out.removesuffix("\n"))
    assert (path / "reward_env" / "mmlu_val.yaml").is_file()
    assert (path / "reward_env" / "reward_env.yaml").is_file()


def test_schema_is_the_json_schema_of_every_line_of_a_feed(folder: Path, capsys: Capture) -> None:
    assert run(["schema"]) == EXIT_OK
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    for line in (folder / "rewards.jsonl").read_text().splitlines():
        jsonschema.validate(json.loads(line), schema)


def test_schema_of_the_spec(capsys: Capture) -> None:
    assert run(["schema", "--spec"]) == EXIT_OK
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    good = "components: [{name: code, kind: logprob, field: code.jsonl, role: source}]"
    jsonschema.validate(yaml.safe_load(good), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(good.replace("role", "rule")), schema)


def test_show_prints_a_row_per_vector_with_value_and_standard_error(folder: Path, capsys: Capture) -> None:
    assert run(["show", str(folder)]) == EXIT_OK
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == ["trajectory", "step", "code", "z", "prose", "z", "scalar", "gain"]
    assert lines[2].split() == [
        *["a", "10", "-3.0000", "±", "0.1000", "-1.00"],
        *["-2.5000", "±", "0.1000", "-1.00", "-2.7500", "-1.2500"],
    ]
    assert captured.err == ""  # a first step never has a z: that is no warning


def test_show_has_the_last_vectors_unless_asked_for_all(tmp_path: Path, capsys: Capture) -> None:
    write(feed(*({"code": -float(n), "prose": -1.0} for n in range(45))), tmp_path / "rewards.jsonl")
    assert run(["show", str(tmp_path)]) == run(["show", str(tmp_path), "--all"]) == EXIT_OK
    out = capsys.readouterr().out
    assert out.count("of 45 vectors; --all shows every one") == 1
    assert out.startswith("the last 40 of 45 vectors") and out.count(" 440 ") == 2 and out.count(" 0 ") == 1


def test_show_prints_a_gain_with_its_error_and_tells_learned_from_forgotten(tmp_path: Path, capsys: Capture) -> None:
    before = vector({"code": -3.0, "prose": -2.0, "sums": -1.0})
    after = vector({"code": -2.5, "prose": -2.25, "sums": -1.01}, step=10, history=[before])
    roles = ("target", "source", "source")
    components = [
        c.model_copy(update={"change_stderr": 0.02, "role": role})
        for c, role in zip(after.components, roles, strict=True)
    ]
    known = after.model_copy(update={"components": components, "gain_stderr": 0.01})
    within = known.model_copy(update={"step": 20, "gain_stderr": 0.5})
    write([before, known], tmp_path / "rewards.jsonl")
    assert run(["show", str(tmp_path)]) == EXIT_OK
    captured = capsys.readouterr()
    assert captured.out.splitlines()[2].endswith("+0.0800 ± 0.0100*")
    assert (
        "a, step 0 to 10: learned code +0.5000 ± 0.0200; forgotten prose -0.2500 ± 0.0200 (source); "
        "within error sums -0.0100 ± 0.0200 (source)\n* a gain beyond its error, at 95%"
    ) in captured.err
    assert "unlike units" not in captured.err
    write([before, within], tmp_path / "rewards.jsonl")
    assert run(["show", str(tmp_path)]) == EXIT_OK
    captured = capsys.readouterr()
    assert captured.out.splitlines()[2].endswith("+0.0800 ± 0.5000")
    assert "beyond" not in captured.err


@pytest.mark.parametrize(("df", "mark"), [(8.0, False), (200.0, True), (None, True)])
def test_a_gain_is_marked_by_the_t_quantile_of_its_degrees_of_freedom(
    df: float | None, mark: bool, tmp_path: Path, capsys: Capture
) -> None:
    before = vector({"code": -3.0})
    after = vector({"code": -2.9}, step=10, history=[before])
    (code,) = after.components
    known = code.model_copy(update={"change_stderr": 0.1 / 2.2, "change_df": df})
    told = after.model_copy(update={"components": [known], "gain_stderr": 0.1 / 2.2, "gain_df": df})
    write([before, told], tmp_path / "rewards.jsonl")
    assert run(["show", str(tmp_path)]) == EXIT_OK
    captured = capsys.readouterr()
    assert captured.out.splitlines()[2].endswith("*") is mark
    assert ("learned code" if mark else "within error code") in captured.err


@pytest.mark.parametrize(
    ("metrics", "unlike"),
    [
        (("acc", "acc_norm", "reward", "norm_correct_prob_per_char"), None),
        (("acc", "logprob_per_token", "acc_norm"), "acc (m0), logprob_per_token (m1)"),
        (("word_perplexity", "pass@1"), "word_perplexity (m0), pass@1 (m1)"),
    ],
)
def test_shares_are_alike_whatever_they_are_of(
    metrics: tuple[str, ...], unlike: str | None, tmp_path: Path, capsys: Capture
) -> None:
    raws = {f"m{i}": measurement(0.5, metric=metric) for i, metric in enumerate(metrics)}
    write([vector(raws), vector(raws, step=10)], tmp_path / "rewards.jsonl")
    assert run(["show", str(tmp_path)]) == EXIT_OK
    said = [line for line in capsys.readouterr().err.splitlines() if "unlike units" in line]
    assert len(said) == (unlike is not None) and (unlike or "") in "".join(said)


def test_a_scalar_that_adds_unlike_units_says_so_once(capsys: Capture) -> None:
    assert run(["show", str(GOLDEN)]) == EXIT_OK
    said = [line for line in capsys.readouterr().err.splitlines() if "unlike units" in line]
    assert said == [
        "scalar and gain add unlike units: logprob_per_token (code), reward (retail); the largest decides them. "
        "gain_standardized adds standard deviations"
    ]


def test_show_marks_what_is_not_whole_and_reading_it_is_no_failure(tmp_path: Path, capsys: Capture) -> None:
    partial = measurement(n_scored=9, status="partial", reason="log-prob not finite in 1 of 10 pairs, first in pair 3")
    write([vector({"code": partial}), vector({"code": None}, step=1)], tmp_path / "rewards.jsonl")
    assert run(["show", str(tmp_path)]) == EXIT_OK
    captured = capsys.readouterr()
    assert "-2.5000 ± 0.1000 (9/10)" in captured.out
    assert "failed" in captured.out
    assert "trajectory a step 0: partial: log-prob not finite in 1 of 10 pairs, first in pair 3" in captured.err
    assert "trajectory a step 1: failed: the checkpoint is broken" in captured.err


def test_show_one_trajectory_as_json_is_the_feed_itself(capsys: Capture) -> None:
    assert run(["show", str(GOLDEN), "--trajectory", "mix-002", "--json"]) == EXIT_OK
    lines = (GOLDEN / "rewards.jsonl").read_text(encoding="utf-8").splitlines()
    assert capsys.readouterr().out.splitlines() == lines[3:]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_show_draws_a_plot(folder: Path, suffix: str, capsys: Capture) -> None:
    path = folder / f"reward.{suffix}"
    assert run(["show", str(folder), "--plot", str(path)]) == EXIT_OK
    assert path.stat().st_size > 1000
    assert f"plot: {path}" in capsys.readouterr().out


def test_names_are_printed_as_they_are_and_wide_tables_are_not_wrapped(tmp_path: Path, capsys: Capture) -> None:
    names = [f"component_with_a_long_name_{index}" for index in range(30)]
    write([vector(dict.fromkeys(names, -1.0), trajectory="[red]:fire:[/x]")], tmp_path / "rewards.jsonl")
    assert run(["show", str(tmp_path)]) == EXIT_OK
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 2
    assert table[0].split()[2:-2] == names
    assert table[1].startswith("[red]:fire:[/x] ")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_export_writes_one_table_beside_the_feed(folder: Path, form: str, capsys: Capture) -> None:
    assert run(["export", str(folder / "rewards.jsonl"), "--format", form]) == EXIT_OK
    path = folder / f"rewards.{form}"
    assert capsys.readouterr().out == f"{path}\n"
    frame = pd.read_csv(path) if form == "csv" else pd.read_parquet(path)
    assert frame["prose"].tolist() == [-2.0, -2.5, -4.0]


def test_export_olmix_writes_two_files_where_it_is_told(folder: Path, capsys: Capture) -> None:
    assert run(["export", str(folder), "--format", "olmix", "-o", str(folder / "olmix")]) == EXIT_OK
    paths = [folder / "olmix" / name for name in ("ratios.csv", "metrics.csv")]
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    assert pd.read_csv(paths[0])["y"].tolist() == [0.75], "a row per run"


def test_fit_reference_over_several_feeds(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    other = write(feed({"code": -5.0, "prose": -1.0}, trajectory="b"), tmp_path / "other.jsonl")
    target = tmp_path / "new" / "ref.json"
    assert run(["fit-reference", str(folder), str(other), "-o", str(target)]) == EXIT_OK
    reference = read_reference(target)
    code = reference.component("code")
    assert code is not None
    assert (code.mean, code.n) == (np.mean([-1, -3, -2, -5]), 4)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"code: mean {code.mean:.4f}, std {code.std:.4f}, n 4"
    assert printed[-1] == f"{target}: {reference.id}"
    assert read_feed(folder).matrix(reference).shape == (3, 4)


def test_fit_reference_counts_a_step_measured_again_once(tmp_path: Path) -> None:
    vectors = [vector({"code": raw}, step=step) for step, raw in [(1, -50.0), (1, -1.0), (2, -3.0)]]
    write(vectors, tmp_path / "rewards.jsonl")
    assert run(["fit-reference", str(tmp_path), "-o", str(tmp_path / "ref.json")]) == EXIT_OK
    code = read_reference(tmp_path / "ref.json").component("code")
    assert code is not None
    assert (code.mean, code.std, code.n) == (-2.0, 1.0, 2)


def test_fit_reference_warns_of_a_component_that_does_not_vary(tmp_path: Path, capsys: Capture) -> None:
    write(feed({"code": 0.1}, {"code": 0.1}, {"code": 0.1}), tmp_path / "rewards.jsonl")
    assert run(["fit-reference", str(tmp_path), "-o", str(tmp_path / "ref.json")]) == EXIT_OK
    assert "warning: code does not vary" in capsys.readouterr().err


def test_every_kind_of_error_has_its_own_exit_code() -> None:
    classes = [SpecError, DataError, CheckpointError, EngineError, StateError]
    assert [error.exit_code for error in classes] == [3, 4, 5, 6, 7]
    assert HarnessError.exit_code == 1
    assert (EXIT_OK, EXIT_USAGE, EXIT_INCOMPLETE) == (0, 2, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["score", "x", "--spec", "none.yaml"], SpecError, "no spec at none.yaml"),
        (["score", "x", "--spec", "s.yaml", "--field", "f"], SpecError, "--spec and --field exclude each other"),
        (["show", "feed", "--plot", "plot.jpeg"], SpecError, "cannot plot into plot.jpeg"),
        (["show", "none"], DataError, "no feed at none"),
        (["show", "feed", "-t", "z"], DataError, "no trajectory 'z' in the feed; it has a"),
        (["fit-reference", "one", "-o", "ref.json"], DataError, "measured 1 time"),
        (["export", "one", "-F", "olmix"], DataError, "carries no mixture"),
        (["export", "one", "-F", "regmix"], DataError, "carries no mixture"),
        (["export", "feed", "-F", "csv", "--sizes", "s.json"], SpecError, "--sizes is for --format olmix"),
        (["export", "feed", "-F", "olmix", "--sizes", "s.json"], DataError, "cannot read sizes s.json"),
        (["score", "no/such/checkpoint"], CheckpointError, "no checkpoint at no/such/checkpoint"),
        (["fit-reference", "feed", "-o", "feed/rewards.jsonl/ref.json"], StateError, "cannot write"),
        (["export", "feed", "-F", "csv", "-o", "feed/rewards.jsonl/x.csv"], StateError, "cannot write feed"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_its_exit_code(
    arguments: list[str],
    error: type[HarnessError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, vectors in (("feed", feed(*ROWS)), ("one", feed(ROWS[0]))):
        Path(name).mkdir()
        write(vectors, Path(name) / "rewards.jsonl")
    assert run(arguments) == error.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("harness: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'; `harness --help` lists"),
        (["scroe"], "Did you mean 'score'; `harness --help`"),
        (["report", "x", "--last", "1"], "--last: it must be at least 2; `harness report --help`"),
        (["report", "x", "--last", "99"], "--last: it must be at most 60;"),
        (["report", "x", "--max-mb", "big"], "--max-mb: it must be a number;"),
        (["show", "x", "--last", "few"], "--last: it must be a whole number;"),
        (["watch", "x", "--idle-timeout", "-1"], "--idle-timeout: it must be at least 0;"),
        (["tau2", "run", "--domain", "mock"], "Missing option '--agent-llm'; `harness tau2 run --help`"),
        (["show"], "Missing argument 'FEED'"),
        (["show", "x", "--nope"], "No such option"),
        (["export", "x"], "Missing option '--format'"),
        (["export", "x", "--format", "xml"], "--format: 'xml' is not one of 'csv', 'parquet', 'olmix'"),
        (["ls", "everything"], "what: 'everything' is not one of 'all', 'fields', 'components'"),
        (["score"], "Missing argument"),
        (["fit-reference", "x"], "Missing option '--output'"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_exits_2(arguments: list[str], message: str, capsys: Capture) -> None:
    assert run(arguments) == EXIT_USAGE
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("harness: error: ") and err.count("\n") == 1 and "Input should" not in err


def test_without_a_verb_the_help_is_shown(capsys: Capture) -> None:
    assert run([]) == EXIT_USAGE
    captured = capsys.readouterr()
    assert "Usage: harness" in captured.out + captured.err


def test_the_program_itself_returns_the_exit_code_and_no_traceback(tmp_path: Path) -> None:
    assert process("--version").stdout == f"harness {harness.__version__}\n"
    missing = process("show", tmp_path)
    assert (missing.returncode, missing.stdout) == (DataError.exit_code, "")
    assert missing.stderr.startswith("harness: error: no feed at")
    assert missing.stderr.count("\n") == 1
    assert process("show", GOLDEN).returncode == EXIT_OK


@pytest.mark.parametrize("arguments", [["schema"], ["show", GOLDEN], ["show", GOLDEN, "--json"]])
def test_a_reader_that_goes_away_ends_the_program_quietly(arguments: list[str | Path]) -> None:
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        errors = running.stderr.read()
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_another_encoding_breaks_neither_the_table_nor_the_json(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", MAIN, "show", str(GOLDEN)]
    table = subprocess.run(command, capture_output=True, env=environment)
    assert table.returncode == EXIT_OK, table.stderr.decode()
    lines = subprocess.run([*command, "--json"], capture_output=True, env=environment)
    assert lines.stdout == (GOLDEN / "rewards.jsonl").read_bytes()


def test_a_feed_given_twice_is_not_counted_twice(tmp_path: Path, capsys: Capture) -> None:
    assert run(["fit-reference", str(GOLDEN), str(GOLDEN / "rewards.jsonl"), "-o", str(tmp_path / "r.json")]) == 4
    assert "given twice" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


def test_an_export_into_a_folder_gets_a_name_there(tmp_path: Path) -> None:
    assert run(["export", str(GOLDEN), "-F", "csv", "-o", str(tmp_path)]) == EXIT_OK
    assert (tmp_path / "rewards.csv").read_text(encoding="utf-8").startswith("run,")


def test_a_fit_is_exported_by_run_and_on_request_by_step(folder: Path, capsys: Capture) -> None:
    (folder / "sizes.json").write_text('{"x": 10, "y": 30}')
    for arguments, rows in (([], ["a"]), (["--rows", "steps"], ["a-step0", "a-step10", "a-step20"])):
        assert run(["export", str(folder), "-F", "olmix", "--sizes", str(folder / "sizes.json"), *arguments]) == EXIT_OK
        captured = capsys.readouterr()
        assert [Path(p).name for p in captured.out.split()] == ["ratios.csv", "metrics.csv", "priors.json"]
        assert captured.err == ""
        assert pd.read_csv(folder / "ratios.csv")["run_id"].tolist() == rows
    assert run(["export", str(folder), "-F", "olmix"]) == EXIT_OK
    assert "--sizes FILE" in capsys.readouterr().err
    assert run(["export", str(folder), "-F", "csv", "--rows", "last"]) == EXIT_OK
    assert pd.read_csv(folder / "rewards.csv")["cumulative.y"].tolist() == [0.75]


def test_a_run_that_regmix_cannot_fit_on_is_named_and_the_exit_code_says_so(tmp_path: Path, capsys: Capture) -> None:
    runs = [vector({"code": raw}, trajectory=name, mixture={"x": 1.0}) for name, raw in (("a", -1.0), ("b", None))]
    write(runs, tmp_path / "rewards.jsonl")
    assert run(["export", str(tmp_path), "-F", "regmix", "-o", str(tmp_path / "fit")]) == EXIT_INCOMPLETE
    captured = capsys.readouterr()
    assert captured.err == "left out: b: code failed: the checkpoint is broken\n"
    assert pd.read_csv(tmp_path / "fit" / "train_target.csv")["index"].tolist() == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line_and_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", MAIN, "show", str(GOLDEN)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 7
    assert "harness: error: cannot write the output" in done.stderr and "Traceback" not in done.stderr


def test_what_an_endpoint_said_is_shown_and_never_executed(tmp_path: Path, capsys: Capture) -> None:
    said = failed("reward", "HTTP 401: \x1b[31mno\x1b]0;title\x07", n_items=2)
    broken = vector({"mock": said})
    PlainObserver().finished(broken, new=True)
    assert run(["show", str(write([broken], tmp_path / "rewards.jsonl"))]) == EXIT_OK
    shown = capsys.readouterr().err
    assert shown.count("\\x1b[31mno\\x1b]0;title\\x07") == 2 and "\x1b" not in shown and "\x07" not in shown
