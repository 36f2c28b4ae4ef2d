"""The golden feed: what was once written must read, must be written again byte for byte, and must mean the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.core.component import ComponentConfig
from harness.core.measurement import Measurement
from harness.core.vector import RewardVector
from harness.feed.feed import read_feed
from harness.feed.lines import parse_vector
from harness.reward_models.reference import fit_reference, parse_reference
from harness.reward_models.vector import Standardization, build_vector

GOLDEN = Path(__file__).parent / "golden"
LINES = (GOLDEN / "rewards.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = RewardVector.model_json_schema(by_alias=True, mode="serialization")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_golden_feed_reads_and_is_written_again_byte_for_byte() -> None:
    feed = read_feed(GOLDEN)
    assert [vector.to_line() for vector in feed] == LINES
    assert [(v.trajectory, v.step, v.status) for v in feed] == [
        ("mix-001", 10, "ok"),
        ("mix-001", 20, "partial"),
        ("mix-001", 30, "failed"),
        ("mix-002", 10, "ok"),
        ("mix-002", 20, "ok"),
    ]


def test_a_feed_of_an_earlier_version_reads_as_the_same_vectors() -> None:
    older = read_feed(GOLDEN / "older.jsonl")
    assert "products" not in (GOLDEN / "older.jsonl").read_text(encoding="utf-8")
    assert list(older) == list(read_feed(GOLDEN))


def test_the_golden_reference_is_what_the_golden_feed_gives() -> None:
    value = json.loads((GOLDEN / "reference.json").read_text(encoding="utf-8"))
    reference = parse_reference(value, "reference.json")
    assert fit_reference(list(read_feed(GOLDEN))) == reference
    assert reference.model_dump_json(by_alias=True, indent=2) + "\n" == (GOLDEN / "reference.json").read_text("utf-8")


def test_the_golden_numbers_follow_from_the_golden_measurements() -> None:
    feed = read_feed(GOLDEN)
    for index, vector in enumerate(feed):
        made = build_vector(
            run=vector.run,
            trajectory=vector.trajectory,
            step=vector.step,
            checkpoint=vector.checkpoint,
            mixture=vector.mixture,
            variables=vector.variables,
            configs=[ComponentConfig(name=c.name, kind=c.kind, role=c.role) for c in vector.components],
            weights=[c.weight for c in vector.components],
            measurements=[
                Measurement.model_validate(c.model_dump(include=set(Measurement.model_fields)))
                for c in vector.components
            ],
            standardization=Standardization(mode=vector.reference.mode),
            history=[earlier for earlier in feed[:index] if earlier.trajectory == vector.trajectory],
            provenance=vector.provenance,
        )
        assert _as_first_written(made) == _as_first_written(vector)


def _as_first_written(vector: RewardVector) -> dict[str, Any]:
    """Without the keys that came later, and those that need items, which are not at hand here."""
    later = {"scalar_stderr", "gain_stderr", "gain_standardized", "gain_df", "previous_step"}
    value = vector.model_dump(exclude=later)
    for component in value["components"]:
        for key in ("shrunk", "reliability", "change", "change_stderr", "change_df", "n_paired", "allowed_loss"):
            del component[key]
    return value


def test_the_golden_lines_are_valid_against_the_published_schema(validator: Any) -> None:
    for line in LINES:
        validator.validate(json.loads(line))


BREAKS: dict[str, Any] = {
    "another version": lambda v: v.update(schema="harness.reward_vector/2"),
    "no schema": lambda v: v.pop("schema"),
    "no components": lambda v: v.update(components=[]),
    "unknown key": lambda v: v.update(reward=1.0),
    "unknown key in a component": lambda v: v["components"][0].update(score=1.0),
    "a word for a number": lambda v: v.update(scalar="high"),
    "NaN as text": lambda v: v["vector"].__setitem__(0, "NaN"),
    "unknown status": lambda v: v.update(status="fine"),
    "unknown role": lambda v: v["components"][0].update(role="both"),
    "negative standard error": lambda v: v["components"][0].update(stderr=-1.0),
    "negative step": lambda v: v.update(step=-1),
    "no name": lambda v: v["components"][0].pop("name"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_line_fails_the_published_schema_and_the_reader(name: str, validator: Any) -> None:
    value = json.loads(LINES[0])
    BREAKS[name](value)
    assert list(validator.iter_errors(value))
    with pytest.raises(Exception, match=r"line 1.*(valid reward vector|reads 'harness.reward_vector/1' only)"):
        parse_vector(value, "line 1")
