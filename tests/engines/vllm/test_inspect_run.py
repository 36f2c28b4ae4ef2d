"""Tasks of Inspect over four checkpoints through the pipeline and a real vLLM server."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from inspect_tasks import write_words
from vllm_here import CPU, needs_vllm, vllm_environment

from harness.checkpoints.find import find_checkpoints
from harness.core.vector import RewardVector
from harness.engines.vllm.server import VllmServer
from harness.run.pipeline import run
from harness.spec.prepared import prepare
from harness.spec.spec import Spec, parse_spec

pytestmark = needs_vllm
N, STEPS, CONTEXT = 200 if os.environ.get("HARNESS_LONG") == "1" else 50, 4, 512
OVERFLOW = "maximum context length"


def spec_in(folder: Path) -> Spec:
    short = {"temperature": 0.0, "max_tokens": 8}
    task = {"kind": "inspect", "task": "words.py@lengths", "scorer": "length"}
    components: list[dict[str, Any]] = [
        {"name": "lengths", **task, "generate": short},
        {"name": "includes", **task, "scorer": "includes", "generate": short, "limit": 8},
        {"name": "greedy", **task, "generate": {"temperature": 0.0, "max_tokens": 4 * CONTEXT}, "sample_ids": ["w1"]},
    ]
    serve = {
        "command": str(vllm_environment()),
        "args": ["--enforce-eager"],
        "env": CPU,
        "startup_timeout_s": 300,
    }
    return parse_spec({"serve": serve, "components": components}, folder=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps, and samples of which one is too long for the model and has words of the error as its answer."""
    folder = tmp_path_factory.mktemp("inspect")
    for step in range(1, STEPS + 1):
        model = tiny.llama(step, hidden_size=128, intermediate_size=128, max_position_embeddings=CONTEXT)
        tiny.save(folder / "sft" / f"checkpoint-{step}", model)
    write_words(folder, N)
    rows = [json.loads(line) for line in (folder / "words.jsonl").read_text().splitlines()]
    rows[3] |= {"q": "What is on shelf 3? " * CONTEXT, "a": OVERFLOW}
    (folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def measured(folder: Path) -> Iterator[tuple[Path, list[RewardVector]]]:
    """The run folder and its vectors."""
    os.environ.pop("INSPECT_LOG_DIR", None)
    found = find_checkpoints([str(folder / "sft")])
    yield folder / "out", list(run(prepare(spec_in(folder)), found, out=folder / "out").feed)


def test_one_server_starts_for_all_checkpoints(measured: tuple[Path, list[RewardVector]]) -> None:
    out, vectors = measured
    assert [vector.status for vector in vectors] == ["ok"] * STEPS
    assert len(list((out / "serve").glob("*.log"))) == 1
    assert [vector.provenance.served for vector in vectors] == ["start", *["reload"] * (STEPS - 1)]
    lengths = [vector.components[0] for vector in vectors]
    assert all(one.n_items == one.n_scored == N and one.stderr for one in lengths)
    assert len({one.raw for one in lengths}) == STEPS, "each checkpoint is asked itself"
    assert all(one.change is not None and one.change_stderr is not None for one in lengths[1:])


def test_a_prompt_that_is_too_long_is_scored_0_and_never_from_the_error(
    measured: tuple[Path, list[RewardVector]],
) -> None:
    for vector in measured[1]:
        one = vector.components[1]
        assert one.detail["causes"] == {"context": 1} and one.raw == 0.0 and OVERFLOW in str(one.reason)
        assert "n_open" not in one.detail


def test_an_answers_limit_beyond_the_context_is_no_overflow(measured: tuple[Path, list[RewardVector]]) -> None:
    for vector in measured[1]:
        one = vector.components[2]
        assert "causes" not in one.detail and one.raw is not None and one.raw > 0


@pytest.mark.long  # tests/components/inspect compares every form of value on a scripted server
def test_the_value_is_that_of_inspects_own_eval_on_the_same_server(
    folder: Path, measured: tuple[Path, list[RewardVector]]
) -> None:
    from inspect_ai import eval_async
    from inspect_ai.model import get_model
    from inspect_ai.util._display import init_display_type

    from harness.components.inspect.surroundings import inspect_alone, quiet

    prepared = prepare(spec_in(folder))
    component: Any = prepared.components[0]
    # As the pipeline serves it: in the type that it is saved in, which vLLM by itself would halve.
    settings = prepared.spec.serve.model_copy(update={"args": [*prepared.spec.serve.args, "--dtype", "float32"]})
    with VllmServer(folder / "sft" / "checkpoint-1", settings=settings, log=folder / "vllm.log") as server:
        where = server.endpoint
        samples = [f"w{i}" for i in range(N) if i != 3]

        async def evaluated() -> Any:
            model = get_model(
                f"openai-api/x/{where.model}", base_url=where.api_base, api_key=where.api_key or "none", memoize=False
            )
            async with model:  # its connections end with the loop that they belong to
                return await eval_async(
                    component.built.task,
                    model=model,
                    sample_id=samples,
                    temperature=0.0,
                    max_tokens=8,
                    log_dir=str(folder / "log"),
                )

        with inspect_alone(), quiet():
            init_display_type("none")
            (log,) = asyncio.run(evaluated())
    (score,) = [one for one in log.results.scores if one.name == "length"]
    mine = measured[1][0].components[0].raw
    assert mine is not None and mine * N == pytest.approx(score.metrics["mean"].value * (N - 1), rel=1e-12)
