"""The reward environment inside a training loop: the numbers of the saved folder, and no trace left behind."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness import RewardEnvironment, read_feed
from harness.checkpoints.find import find_checkpoints
from harness.core.errors import DataError, EngineError, SpecError, StateError
from harness.core.vector import Mixture, RewardVector
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import Spec, parse_spec

ROWS = [{"q": f"def f{i}(x):\n", "r": f"    return x + {i}\n" * (i % 3 + 1)} for i in range(8)]


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return make_spec(tmp_path)


def make_spec(folder: Path, **changes: Any) -> Spec:
    for name, rows in (("a", ROWS[:5]), ("b", ROWS[4:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    components = [{"name": name, "kind": "logprob", "field": f"{name}.jsonl"} for name in ("a", "b")]
    return parse_spec({"components": components, **changes}, folder=folder)


def of_folder(spec: Spec, folder: Path, out: Path) -> RewardVector:
    return run(prepare(spec), find_checkpoints([str(folder)]), out=out).feed[-1]


def train(model: Any, steps: int, environment: RewardEnvironment | None = None, tokenizer: Any = None) -> list[float]:
    """A few real steps with dropout; feedback after each, if asked for."""
    torch.manual_seed(0)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        ids = torch.randint(0, 404, (2, 16))
        loss = model(ids, labels=ids).loss
        loss.backward()
        if environment is not None:  # Gradients are there now, and must still be there afterwards.
            environment.feedback(model, tokenizer, step=step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", ["llama", "llama tied", "gpt_neox", "gpt2"])
def test_feedback_equals_scoring_the_saved_folder_bit_for_bit(name: str, spec: Spec, tmp_path: Path) -> None:
    model, tokenizer = tiny.family(name), tiny.tokenizer()
    live = RewardEnvironment(spec).feedback(model.train(), tokenizer, step=3)
    saved = of_folder(spec, tiny.save(tmp_path / "checkpoint-3", model, tokenizer), tmp_path / "out")
    assert live.vector == saved.vector and None not in live.vector
    assert [c.stderr for c in live.components] == [c.stderr for c in saved.components]
    assert live.checkpoint.fingerprint == saved.checkpoint.fingerprint
    assert (live.checkpoint.kind, saved.checkpoint.kind) == ("live", "full")
    assert live.provenance.spec == saved.provenance.spec


def test_feedback_on_a_lora_model_equals_scoring_its_saved_adapter(spec: Spec, tmp_path: Path) -> None:
    base, tokenizer = tiny.save(tmp_path / "base"), tiny.tokenizer()
    model = tiny.lora(AutoModelForCausalLM.from_pretrained(base)).train()
    live = RewardEnvironment(spec).feedback(model, tokenizer, step=1)
    saved = of_folder(spec, tiny.save_adapter(tmp_path / "adapter", model, base), tmp_path / "out")
    assert (live.vector, live.checkpoint.fingerprint) == (saved.vector, saved.checkpoint.fingerprint)


def test_a_training_run_ends_in_the_same_weights_with_and_without_feedback(spec: Spec) -> None:
    tokenizer = tiny.tokenizer()
    watched, alone = tiny.llama(attention_dropout=0.3), tiny.llama(attention_dropout=0.3)
    environment = RewardEnvironment(spec)
    assert train(watched, 4, environment, tokenizer) == train(alone, 4)
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
    assert watched.training and len(environment.feed) == 4
    assert len({vector.checkpoint.fingerprint for vector in environment.feed}) == 4


def test_steps_are_one_trajectory_with_gains_and_running_statistics(spec: Spec) -> None:
    environment, tokenizer = RewardEnvironment(spec), tiny.tokenizer()
    vectors = [
        environment.feedback(
            tiny.llama(seed), tokenizer, step=seed, mixture={"code": seed + 1, "prose": 1}, tokens_seen=100 * seed
        )
        for seed in range(3)
    ]
    other = environment.feedback(tiny.llama(9), tokenizer, step=9, trajectory="other")
    assert vectors[0].gain is None and other.gain is None
    for before, after in itertools.pairwise(vectors):
        assert after.gain == after.scalar - before.scalar  # type: ignore[operator]
        assert None not in after.standardized
    assert [vector.reference.n for vector in vectors] == [1, 2, 3]
    assert vectors[2].mixture == Mixture(domains=["code", "prose"], weights=[3.0, 1.0])
    assert vectors[2].checkpoint.tokens_seen == 200
    assert environment.feed.trajectories == ["live", "other"]
    assert environment.feed.trajectory("live").matrix().shape == (3, 4)


def test_a_spec_that_was_made_ready_before_gives_the_same_vector(spec: Spec) -> None:
    one, two = (
        RewardEnvironment(given).feedback(tiny.llama(), tiny.tokenizer(), step=0) for given in (spec, prepare(spec))
    )
    assert one.vector == two.vector and one.provenance.spec == two.provenance.spec


def test_the_same_weights_at_the_same_step_return_the_vector_that_is_there(spec: Spec) -> None:
    environment, tokenizer = RewardEnvironment(spec), tiny.tokenizer()
    first = environment.feedback(tiny.llama(), tokenizer, step=1)
    assert environment.feedback(tiny.llama(), tokenizer, step=1) is first
    assert environment.feedback(tiny.llama(1), tokenizer, step=1) is not first
    assert environment.feedback(tiny.llama(), tokenizer, step=2) is not first


def test_a_step_measured_again_takes_its_place_and_later_gains_follow(spec: Spec, tmp_path: Path) -> None:
    tokenizer, out = tiny.tokenizer(), tmp_path / "out"
    for environment in (RewardEnvironment(spec), RewardEnvironment(spec, out=out)):
        for step, seed in enumerate([0, 1, 2]):
            environment.feedback(tiny.llama(seed), tokenizer, step=step, mixture={"code": 1})
        again = environment.feedback(tiny.llama(7), tokenizer, step=1, mixture={"code": 2})
        zero, one, two = environment.feed
        assert one == again and (zero.step, one.step, two.step) == (0, 1, 2)
        assert (one.gain, two.gain) == (one.scalar - zero.scalar, two.scalar - one.scalar)  # type: ignore[operator]
        mixed = environment.feedback(tiny.llama(7), tokenizer, step=1, mixture={"code": 3})
        assert mixed.vector == again.vector and mixed.mixture == Mixture(domains=["code"], weights=[3.0])
    assert list(read_feed(out)) == list(environment.feed)


# With a folder


def test_a_restarted_training_goes_on_in_the_same_feed(spec: Spec, tmp_path: Path) -> None:
    tokenizer, out = tiny.tokenizer(), tmp_path / "out"
    whole = RewardEnvironment(spec)
    expected = [whole.feedback(tiny.llama(seed), tokenizer, step=seed) for seed in range(3)]
    RewardEnvironment(spec, out=out).feedback(tiny.llama(0), tokenizer, step=0)
    first = (out / "rewards.jsonl").read_text()

    tokenizer.save_pretrained(tmp_path / "tokenizer")
    again, tokenizer = (
        RewardEnvironment(make_spec(tmp_path), out=out),
        AutoTokenizer.from_pretrained(tmp_path / "tokenizer"),
    )
    assert len(again.feed) == 0
    for seed in range(3):
        again.feedback(tiny.llama(seed), tokenizer, step=seed)
    feed = read_feed(out)
    assert (out / "rewards.jsonl").read_text().startswith(first)
    assert [vector.step for vector in feed] == [0, 1, 2]
    for found, wanted in zip(feed, expected, strict=True):
        assert (found.vector, found.gain, found.standardized) == (wanted.vector, wanted.gain, wanted.standardized)
        assert found.checkpoint == wanted.checkpoint
    items = pq.read_table(out / str(feed[2].components[0].detail["items"]))
    assert items.num_rows == 5
    assert list(again.feed) == list(feed)


def test_a_measurement_in_the_folder_is_not_made_twice(spec: Spec, tmp_path: Path) -> None:
    environment, tokenizer = RewardEnvironment(spec, out=tmp_path / "out"), tiny.tokenizer()
    for step in (1, 2):
        environment.feedback(tiny.llama(), tokenizer, step=step)
    assert len((tmp_path / "out" / "ledger.jsonl").read_text().splitlines()) == 2
    assert len(read_feed(tmp_path / "out")) == 2


def test_a_folder_of_another_spec_is_refused(spec: Spec, tmp_path: Path) -> None:
    RewardEnvironment(spec, out=tmp_path / "out").feedback(tiny.llama(), tiny.tokenizer(), step=1)
    other = RewardEnvironment(make_spec(tmp_path, standardize="none"), out=tmp_path / "out")
    with pytest.raises(StateError, match="holds a run of another spec"):
        other.feedback(tiny.llama(), tiny.tokenizer(), step=1)


# What cannot be done is said before anything is scored.


@pytest.mark.parametrize(
    "mixture",
    [
        {},
        {"code": -1},
        {"code": "much"},
        {"domains": ["a"], "weights": []},
        {"code": float("nan")},
        3,
        "code",
        [("a", 1)],
    ],
)
def test_a_malformed_mixture_is_a_data_error_that_names_the_step(spec: Spec, mixture: Any) -> None:
    environment = RewardEnvironment(spec)
    with pytest.raises(DataError, match="mixture at step 7") as raised:
        environment.feedback(tiny.llama(), tiny.tokenizer(), step=7, mixture=mixture)
    assert "pydantic" not in str(raised.value) and "validation error" not in str(raised.value)
    assert len(environment.feed) == 0


@pytest.mark.parametrize(
    "wrong",
    [{"step": -1}, {"step": 1.0}, {"step": "1"}, {"step": 1, "tokens_seen": -5}, {"step": 1, "tokens_seen": 0.5}],
)
def test_what_is_no_count_is_a_data_error_that_names_it(spec: Spec, wrong: dict[str, Any]) -> None:
    name, value = list(wrong.items())[-1]
    with pytest.raises(DataError, match=rf"^{name} is {value!r}; it must be a whole number, not negative$"):
        RewardEnvironment(spec).feedback(tiny.llama(), tiny.tokenizer(), **wrong)


@pytest.mark.parametrize("step", [np.int64(3), np.uint8(3), torch.tensor(3)])
def test_a_step_of_numpy_or_torch_is_a_whole_number_too(spec: Spec, step: Any) -> None:
    vector = RewardEnvironment(spec).feedback(tiny.llama(), tiny.tokenizer(), step=step, tokens_seen=step)
    assert (vector.step, vector.checkpoint.tokens_seen, type(vector.step)) == (3, 3, int)


def test_a_dtype_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    environment = RewardEnvironment(make_spec(tmp_path, dtype="bfloat16"))
    with pytest.raises(SpecError, match="asks for dtype bfloat16, but the live model is float32; set dtype: auto"):
        environment.feedback(tiny.llama(), tiny.tokenizer(), step=1)
    vector = environment.feedback(tiny.llama().bfloat16(), tiny.tokenizer(), step=1)
    assert (vector.status, vector.provenance.dtype) == ("ok", "bfloat16")


def test_something_that_is_no_transformers_model_is_named(spec: Spec) -> None:
    with pytest.raises(EngineError, match="Linear has no transformers configuration"):
        RewardEnvironment(spec).feedback(torch.nn.Linear(2, 2), tiny.tokenizer(), step=1)


def test_what_cannot_be_measured_is_a_failed_component_not_an_exception(spec: Spec) -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    vector = RewardEnvironment(spec).feedback(model, tiny.tokenizer(), step=1)
    assert (vector.status, vector.vector, vector.scalar) == ("failed", [None, None], None)


# Wrappers


class DistributedDataParallel(torch.nn.Module):
    """Looks like the data-parallel wrapper; the real one needs a process group."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module


def test_wrapped_models_score_as_what_they_wrap(spec: Spec) -> None:
    model, tokenizer = tiny.llama(), tiny.tokenizer()
    plain = RewardEnvironment(spec).feedback(model, tokenizer, step=1)
    for wrapped in (torch.compile(model), torch.nn.DataParallel(model), DistributedDataParallel(torch.compile(model))):
        vector = RewardEnvironment(spec).feedback(wrapped, tokenizer, step=1)
        assert (vector.vector, vector.checkpoint) == (plain.vector, plain.checkpoint)


def test_a_spec_may_be_a_path(tmp_path: Path) -> None:
    make_spec(tmp_path)
    (tmp_path / "spec.yaml").write_text("components: [{name: a, kind: logprob, field: a.jsonl}]\n")
    vector = RewardEnvironment(tmp_path / "spec.yaml").feedback(tiny.llama(), tiny.tokenizer(), step=1)
    assert [component.name for component in vector.components] == ["a"]
