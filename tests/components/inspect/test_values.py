"""Values of unusual shapes are Inspect's own, and each has the error that is its own or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inspect_tasks import asked, by_inspect, component, measured, rows, write_task

RIGHT = "target.text in state.output.completion"
SCORER = "\n\n\n@task\ndef t():\n    return Task(dataset=samples(), scorer=sc(){more})\n"


def scorer(metrics: str, value: str, *, before: str = "", more: str = "") -> str:
    """A file's code: one scorer and the task."""
    return (
        f"{before}@scorer(metrics={metrics})\ndef sc():\n    async def score(state, target):\n        right = {RIGHT}\n"
        f"        return Score(value={value})\n    return score\n{SCORER.format(more=more)}"
    )


OF_LISTS = "@metric\ndef m():\n    def of(scores: list[SampleScore]):\n        return {0}\n    return of\n\n\n"
N = "len(scores)"
CASES: dict[str, tuple[str, str, bool]] = {
    "booleans": (scorer("[mean(), std(), stderr()]", "right"), "sc/mean", True),
    "words of its own": (
        scorer(
            "[accuracy(value_to_float(correct='yes', incorrect='no')), stderr()]",
            "'yes' if right else 'no'",
        ),
        "sc/accuracy",
        True,
    ),
    "a mapping by its keys": (
        scorer("{'b': [mean(), stderr()], 'a': [mean()]}", "{'a': 2, 'b': len(state.output.completion)}"),
        "b/mean",
        True,
    ),
    "groups": (scorer("[grouped(accuracy(), 'group'), stderr()]", "'C' if right else 'I'"), "sc/all", True),
    "groups alone": (
        scorer("[grouped(accuracy(), 'group', all=False), stderr()]", "'C' if right else 'I'"),
        "sc/0",
        False,
    ),
    "a metric of lists": (
        scorer(
            "[m()]", "[1 if right else 0, 5]", before=OF_LISTS.format(f"sum(s.score.value[0] for s in scores) / {N}")
        ),
        "sc/m",
        False,
    ),
    "a metric of mappings": (
        scorer(
            "[m()]",
            "{'hit': int(right), 'of': 2}",
            before=OF_LISTS.format(
                "sum(s.score.value['hit'] for s in scores) / sum(s.score.value['of'] for s in scores)"
            ),
        ),
        "sc/m",
        False,
    ),
    "a metric that gives several": (
        scorer("[m(), stderr()]", "int(right)", before=OF_LISTS.format("{'least': 0.25, 'most': 1.0}")),
        "sc/least",
        False,
    ),
    "epochs that are not reduced": (
        scorer("[accuracy()]", "int(right)", more=", epochs=Epochs(2, [])"),
        "sc/accuracy",
        True,
    ),
    "a metric of every epoch": (
        scorer(
            "[m()]",
            "int(right)",
            before=OF_LISTS.replace("@metric", "@metric(scores='unreduced')").format(
                f"sum(s.score.as_float() for s in scores) / {N}"
            ),
            more=", epochs=2",
        ),
        "sc/m",
        True,
    ),
}


@pytest.mark.parametrize("which", CASES)
def test_a_value_of_any_shape_is_inspects(which: str, tmp_path: Path) -> None:
    code, name, is_mean = CASES[which]
    it = component(tmp_path, **write_task(tmp_path, code))
    with asked() as (subject, server):
        outcome = measured(it, subject, tmp_path / "s")
        log = by_inspect(it, server.url, tmp_path)
    theirs: dict[str, Any] = {
        f"{one.name}/{key}": value.value for one in log.results.scores for key, value in one.metrics.items()
    }
    made = outcome.measurement
    assert made.raw == pytest.approx(theirs[name], abs=1e-12)
    assert (made.status, made.n_scored, outcome.n_open, "causes" in made.detail) == ("ok", 8, 0, False)
    assert (made.stderr is not None) == is_mean, "an error of something else is none"
    assert {row["status"] for row in rows(outcome).values()} == {"ok"}


def test_a_metric_that_turns_out_not_to_be_there_is_named_and_no_scorer_is_blamed(tmp_path: Path) -> None:
    """A metric of a task's own may give any names, so they are known at the end."""
    keys = write_task(tmp_path, CASES["a metric that gives several"][0])
    with asked() as (subject, _):
        outcome = measured(component(tmp_path, **keys, metric="middle"), subject, tmp_path / "s")
        chosen = measured(component(tmp_path, **keys, metric="most"), subject, tmp_path / "s")
    made = outcome.measurement
    assert made.raw is None and "no metric middle; it has sc/least, sc/most" in str(made.reason)
    assert "causes" not in made.detail and chosen.measurement.raw == 1.0


def test_ids_that_look_like_patterns_are_taken_as_they_stand(tmp_path: Path) -> None:
    """Inspect takes them for patterns, "math:1" for a sample of a task, and "007" for 7."""
    ids = ["*", "007", "7", "b[1]", "b1", "math:1", "d?", "dd"]
    code = f"@task\ndef t():\n    found = samples()\n    for one, name in zip(found, {ids}):\n        one.id = name\n    return Task(dataset=found, scorer=includes())\n"
    keys = write_task(tmp_path, code)
    for number, chosen in enumerate((["*"], ["007"], ["b[1]", "d?"], ["math:1"])):
        with asked() as (subject, server):
            outcome = measured(component(tmp_path, **keys, sample_ids=chosen), subject, tmp_path / f"s{number}")
        assert (server.requests, outcome.items["id"], outcome.measurement.n_scored) == (
            len(chosen),
            chosen,
            len(chosen),
        )


def test_what_a_task_keeps_in_a_sample_does_not_stop_it_from_being_kept(tmp_path: Path) -> None:
    code = (
        "class Odd:\n    pass\n\n\n@solver\ndef keeps():\n    async def solve(state, generate):\n        state.store.set('odd', Odd())\n"
        "        state.metadata['odd'] = Odd()\n        state = await generate(state)\n        state.metadata['half'] = '\\ud800'\n"
        "        state.store.set('raw', b'\\xff')\n        ring = {}\n        ring['ring'] = ring\n        state.metadata['ring'] = ring\n"
        "        assert state.metadata['raw'] == b'\\xff\\xfe', 'as the sample has it'\n"
        "        return state\n    return solve\n\n\n@scorer(metrics=[mean()])\ndef sc():\n    async def score(state, target):\n"
        f"        return Score(value=float({RIGHT}), metadata={{'nan': float('nan'), 'raw': b'\\xfe'}})\n    return score\n\n\n"
        "@task\ndef t():\n    found = samples()\n    for one in found:\n        one.metadata['raw'] = b'\\xff\\xfe'\n"
        "    return Task(dataset=found, solver=keeps(), scorer=sc())\n"
    )
    it = component(tmp_path, **write_task(tmp_path, code))
    with asked() as (subject, server):
        first = measured(it, subject, tmp_path / "s")
        again = measured(it, subject, tmp_path / "s")
    assert server.requests == 8 and first.measurement == again.measurement and first.measurement.raw == 0.5
