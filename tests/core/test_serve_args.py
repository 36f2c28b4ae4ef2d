"""Which options of a server are a part of what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.serve_args import deciding
from harness.core.serving import ServeSettings


@pytest.mark.parametrize(
    "args",
    [
        ["--port", "8001", "--gpu-memory-utilization", "0.5"],
        ["--gpu_memory_utilization=0.5", "-tp", "2", "--enforce-eager"],
        ["--data-parallel-size=4", "--max-num-seqs", "8", "--no-enable-prefix-caching", "--disable-log-stats"],
        ["--uvicorn-log-level", "debug", "--async-scheduling", "--max-lora-rank", "64"],
    ],
)
def test_where_and_how_fast_a_server_works_is_no_part_of_its_answers(args: list[str]) -> None:
    assert deciding(args) == []
    assert ServeSettings(args=args).meaning() == ServeSettings().meaning()


@pytest.mark.parametrize(
    "args",
    [
        ["--quantization", "fp8"],
        ["--kv-cache-dtype=fp8"],
        ["--dtype", "float16"],
        ["--hf-overrides", '{"rope_theta": 1}'],
        ["--override-generation-config", '{"repetition_penalty": 1.2}'],
        ["--generation-config", "vllm"],
        ["--max-model-len", "512"],
        ["--reasoning-parser", "qwen3"],
        ["--load-format", "dummy"],
        ["--model", "another"],
        ["--worker-extension-cls", "mine.Worker"],
        ["--middleware", "mine.middleware"],
        ["--an-option-of-tomorrow"],
    ],
)
def test_whatever_may_change_an_answer_is_a_part_of_the_identity(args: list[str]) -> None:
    assert deciding(["--port", "1", *args]) == deciding(args) != []
    assert ServeSettings(args=args).meaning() != ServeSettings().meaning()


def test_order_and_spelling_do_not_count() -> None:
    assert deciding(["--kv_cache_dtype=fp8", "-q", "awq"]) == deciding(
        ["--quantization", "awq", "--kv-cache-dtype", "fp8"]
    )


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("a")
    first = deciding(["--chat-template", str(file)])
    file.write_text("b")
    second = deciding([f"--chat-template={file}"])
    file.write_text("a")
    assert first != second and first == deciding(["--chat-template", str(file)])
