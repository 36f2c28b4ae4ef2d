"""Errors from items, wherever the items lie: live and from folders alike, after a resume too, and in old feeds brought up to date."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny

from harness import RewardEnvironment, read_feed
from harness.checkpoints.find import find_checkpoints
from harness.cli import run as cli
from harness.core.vector import RewardVector
from harness.reward_models.history import History
from harness.reward_models.items import Items, NoItems
from harness.run.items import RunItems
from harness.run.pipeline import run
from harness.run.vectors import again, rebuilt
from harness.spec.prepared import prepare
from harness.spec.spec import Spec, parse_spec

LATER = ("change", "change_stderr", "n_paired", "n_clusters", "interval", "reliability", "shrunk")
NEW = ("scalar_stderr", "gain_stderr", "gain_standardized", "previous_step")
STEPS = (10, 20, 30, 40)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items")
    for step in STEPS:
        tiny.save(folder / f"checkpoint-{step}", tiny.llama(step), tiny.tokenizer())
    return folder


def make_spec(folder: Path) -> Spec:
    for name, n in (("a", 9), ("b", 6)):
        rows = [{"q": f"{name} {i}", "r": f" is {i * i} and {i % 3}", "cluster": i // 2} for i in range(n)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    components = [{"name": name, "kind": "logprob", "field": f"{name}.jsonl"} for name in ("a", "b")]
    return parse_spec({"components": components}, folder=folder)


def score(spec: Spec, folder: Path, out: Path, *steps: int) -> list[RewardVector]:
    found = find_checkpoints([str(folder / f"checkpoint-{step}") for step in steps or STEPS])
    return list(run(prepare(spec), found, out=out).feed)


def errors(vectors: list[RewardVector]) -> list[dict[str, Any]]:
    """All that items say, exactly."""
    return [
        {key: getattr(v, key) for key in (*NEW, "gain", "scalar", "warnings")}
        | {f"{c.name}.{key}": getattr(c, key) for c in v.components for key in (*LATER, "raw")}
        for v in vectors
    ]


def test_the_numbers_are_those_of_the_parquet_files(checkpoints: Path, tmp_path: Path) -> None:
    vectors = score(make_spec(tmp_path), checkpoints, tmp_path / "out")
    last, before = vectors[3], vectors[2]
    variance = 0.0
    for now, then in zip(last.components, before.components, strict=True):
        tables = [pq.read_table(tmp_path / "out" / str(c.detail["items"])).to_pydict() for c in (now, then)]
        d = np.subtract(*(np.array(table["logprob_per_token"]) for table in tables))
        clusters = tables[0]["cluster"]
        sums = [sum(d[i] - d.mean() for i in range(len(d)) if clusters[i] == c) for c in sorted(set(clusters))]
        se = np.sqrt(len(sums) / (len(sums) - 1) * np.square(sums).sum()) / len(d)
        assert now.change == pytest.approx(d.mean())
        assert now.change_stderr == pytest.approx(se)
        assert (now.n_paired, now.n_clusters) == (len(d), len(sums))
        assert now.interval is not None and now.raw is not None
        assert now.interval.low < now.raw < now.interval.high
        assert now.reliability is not None
        variance += 0.25 * se**2
    assert last.previous_step == 30
    assert last.gain_stderr == pytest.approx(np.sqrt(variance))
    assert last.gain_standardized == pytest.approx(
        sum(0.5 * (c.change or 0) / (s or 1) for c, s in zip(last.components, last.reference.std, strict=True))
    )
    assert vectors[0].previous_step is None and vectors[0].gain_stderr is None
    assert vectors[0].scalar_stderr is not None
    assert not any("paired error" in w for v in vectors for w in v.warnings)


@pytest.mark.parametrize("order", [(10, 20, 30, 40), (40, 10, 30, 20), (20, 10, 40, 30)])
def test_a_resumed_run_in_any_order_ends_bit_identical(
    order: tuple[int, ...], checkpoints: Path, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path)
    whole = errors(score(spec, checkpoints, tmp_path / "whole"))
    for step in order:
        vectors = score(spec, checkpoints, tmp_path / "out", step)
    assert errors(vectors) == whole


@pytest.mark.parametrize("out", [None, "live", "restarted"])
def test_a_live_model_gets_the_same_errors_with_and_without_a_folder(
    out: str | None, checkpoints: Path, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path)
    whole = errors(score(spec, checkpoints, tmp_path / "whole"))
    environment = RewardEnvironment(spec, out=out and tmp_path / out)
    for step in STEPS:
        if out == "restarted":
            environment = RewardEnvironment(spec, out=tmp_path / out)
        environment.feedback(tiny.llama(step), tiny.tokenizer(), step=step)
    assert errors(list(environment.feed)) == whole


@pytest.mark.parametrize("out", [None, "live"])
def test_errors_after_a_step_that_was_measured_again_are_those_of_its_new_weights(
    out: str | None, checkpoints: Path, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path)
    environment = RewardEnvironment(spec, out=out and tmp_path / out)
    for step, seed in ((10, 10), (20, 7), (30, 30), (40, 40), (20, 20)):
        environment.feedback(tiny.llama(seed), tiny.tokenizer(), step=step)
    assert errors(list(environment.feed)) == errors(score(spec, checkpoints, tmp_path / "whole"))


def test_errors_are_none_with_a_reason_where_items_are_gone(checkpoints: Path, tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    score(spec, checkpoints, tmp_path / "out", 10, 20)
    shutil.rmtree(tmp_path / "out" / "items")
    last = score(spec, checkpoints, tmp_path / "out", 30)[-1]
    assert last.gain is not None and last.gain_stderr is None
    assert [c.change_stderr for c in last.components] == [None, None]
    assert last.components[0].change == pytest.approx(last.vector[0] - read_feed(tmp_path / "out")[1].vector[0])
    assert "no paired error for a, b: its items are not at hand" in last.warnings
    assert all(c.interval is not None for c in last.components), "this checkpoint's items are there"
    assert all(c.reliability is None for c in last.components)


def test_an_older_run_is_brought_up_to_date_by_one_command(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    score(make_spec(tmp_path), checkpoints, out)
    today = (out / "rewards.jsonl").read_bytes()
    older = [json.loads(line) for line in today.splitlines()]
    for vector in older:
        for key in NEW:
            del vector[key]
        for component in vector["components"]:
            component.update(reliability=0.0, shrunk=0.0)
            for key in set(LATER) - {"reliability", "shrunk"}:
                del component[key]
            del component["detail"]["bits_per_byte_stderr"]
    (out / "rewards.jsonl").write_text("".join(json.dumps(vector) + "\n" for vector in older))
    assert read_feed(out)[3].gain_stderr is None
    assert cli(["update", str(out)]) == 0
    assert (out / "rewards.jsonl").read_bytes() == today
    assert capsys.readouterr().out.startswith("4 of 4 vector(s) brought up to date")
    assert cli(["update", str(out)]) == 0
    assert capsys.readouterr().out.startswith("0 of 4")


def test_an_older_ledger_makes_the_vectors_that_this_version_makes(checkpoints: Path, tmp_path: Path) -> None:
    """Measured by an earlier version and not yet in the feed, as after a kill."""
    out, spec = tmp_path / "out", make_spec(tmp_path)
    whole = score(spec, checkpoints, out)
    entries = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    for entry in entries:
        del entry["measurement"]["detail"]["bits_per_byte_stderr"]
    (out / "ledger.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (out / "rewards.jsonl").unlink()
    again = score(spec, checkpoints, out)
    assert [[c.detail for c in v.components] for v in again] == [[c.detail for c in v.components] for v in whole]


@pytest.mark.parametrize("torn", [False, True])
def test_an_update_does_not_take_the_errors_of_a_run_whose_items_are_gone(
    torn: bool, checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    vectors = score(make_spec(tmp_path), checkpoints, out)
    before = (out / "rewards.jsonl").read_bytes()
    path = out / str(vectors[2].components[1].detail["items"])
    if torn:
        path.write_bytes(path.read_bytes()[:200])
    else:
        path.unlink()
    assert cli(["update", str(out)]) != 0
    said = capsys.readouterr().err
    assert (
        "the items of 1 measurement(s) are gone or cannot be read, b of trajectory" in said and "step 30 first" in said
    )
    assert (out / "rewards.jsonl").read_bytes() == before


def test_a_frozen_reference_stays_what_it_was_in_an_update(checkpoints: Path, tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    score(spec, checkpoints, tmp_path / "first")
    assert cli(["fit-reference", str(tmp_path / "first"), "-o", str(tmp_path / "reference.json")]) == 0
    frozen = spec.model_copy(update={"standardize": str(tmp_path / "reference.json")})
    vectors = score(frozen, checkpoints, tmp_path / "out")
    assert all(c.reliability is not None for v in vectors[1:] for c in v.components)
    before = (tmp_path / "out" / "rewards.jsonl").read_bytes()
    (tmp_path / "reference.json").unlink()
    assert cli(["update", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "rewards.jsonl").read_bytes() == before


def test_of_a_step_that_stands_twice_in_a_feed_the_last_is_updated_by_its_own_items(
    checkpoints: Path, tmp_path: Path
) -> None:
    """A training that went on from an earlier step, in a feed that only grew."""
    spec, out = make_spec(tmp_path), tmp_path / "out"
    whole = score(spec, checkpoints, out)
    again = tmp_path / "again" / checkpoints.name
    for step, seed in ((10, 10), (20, 99), (30, 30)):
        tiny.save(again / f"checkpoint-{step}", tiny.llama(seed), tiny.tokenizer())
    other = score(spec, again, tmp_path / "other", 10, 20, 30)
    shutil.copytree(tmp_path / "other" / "items", out / "items", dirs_exist_ok=True)
    lines = [whole[0].to_line(), other[1].to_line(), whole[2].to_line(), whole[1].to_line(), whole[3].to_line()]
    (out / "rewards.jsonl").write_text("".join(line + "\n" for line in lines))
    assert cli(["update", str(out)]) == 0
    assert errors(list(read_feed(out).latest())) == errors(whole)
    assert len(read_feed(out)) == 5


def test_what_is_no_run_folder_is_not_updated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["update", str(tmp_path)]) != 0
    assert "holds no run" in capsys.readouterr().err


def test_what_is_asked_for_at_every_step_stays_in_memory(checkpoints: Path, tmp_path: Path) -> None:
    """Without a run folder, where what is dropped is gone: the best step of a source, and the step before."""
    vectors = score(make_spec(tmp_path), checkpoints, tmp_path / "out")
    held = RunItems(None, held_bytes=3 * 9 * 8)
    for vector in vectors:
        component = vector.components[0]
        table = pq.read_table(tmp_path / "out" / str(component.detail["items"])).to_pydict()
        held.take(vector.place, "a", table, component, {})
        assert isinstance(held.of(vectors[0], "a"), Items)
    assert isinstance(held.of(vectors[3], "a"), Items)
    assert isinstance(held.of(vectors[1], "a"), NoItems)


def kept_run(checkpoints: Path, folder: Path) -> list[RewardVector]:
    """A run whose residuals are on disk after its second and its fourth step."""
    vectors = score(make_spec(folder), checkpoints, folder / "out")
    assert rebuilt(vectors, RunItems(folder / "out", keep_every=2)) == vectors
    return vectors


def resumed(vectors: list[RewardVector], out: Path) -> list[float | None]:
    """The reliabilities of the last vector, assembled as by a process that has only what is on disk."""
    items = RunItems(out, keep_every=2)
    history = History(vectors[:-1])
    return [c.reliability for c in again(vectors[-1], history, items).components]


def test_a_resumed_trajectory_reads_the_items_after_its_kept_residual_alone(checkpoints: Path, tmp_path: Path) -> None:
    vectors = kept_run(checkpoints, tmp_path)
    fresh = score(make_spec(tmp_path), checkpoints, tmp_path / "short", *STEPS[:2])
    rebuilt(fresh, RunItems(tmp_path / "short", keep_every=2))
    shutil.copytree(tmp_path / "short" / "residuals", tmp_path / "out" / "residuals", dirs_exist_ok=True)
    for component in vectors[0].components:
        (tmp_path / "out" / str(component.detail["items"])).unlink()
    assert resumed(vectors, tmp_path / "out") == [c.reliability for c in vectors[-1].components], "bit for bit"


def test_a_kept_residual_of_other_weights_is_not_used(checkpoints: Path, tmp_path: Path) -> None:
    vectors = kept_run(checkpoints, tmp_path)
    expected = [c.reliability for c in vectors[-1].components]
    for path in (tmp_path / "out" / "residuals").iterdir():
        with np.load(path) as arrays:
            about = json.loads(str(arrays["about"]))
            other = {name: arrays[name] * 7 for name in ("n", "mean", "squares")}
        np.savez(path, about=np.array(json.dumps({**about, "n": 2, "chain": "sha256:other"})), **other)
    assert resumed(vectors, tmp_path / "out") == expected
    for path in (tmp_path / "out" / "residuals").iterdir():
        path.write_bytes(b"torn")
    assert resumed(vectors, tmp_path / "out") == expected
