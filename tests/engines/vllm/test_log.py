"""The lines of vLLM's log that say why it ended, and what it runs with."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.engines.vllm.log import explain, head, running_with, tail, telling_lines, unknown_options

TRACE = """(EngineCore pid=12) ERROR 11-21 03:03:12 [core.py:1120] EngineCore failed to start.
(EngineCore pid=12) ERROR 11-21 03:03:12 [core.py:1120] Traceback (most recent call last):
(EngineCore pid=12) ERROR 11-21 03:03:12 [core.py:1120]   File "/x/worker.py", line 7, in load
(EngineCore pid=12) ERROR 11-21 03:03:12 [core.py:1120] ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired GPU memory utilization (0.9, 71.2 GiB).
(APIServer pid=11) Traceback (most recent call last):
(APIServer pid=11) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
PYDANTIC = """(APIServer pid=9) Traceback (most recent call last):
(APIServer pid=9)   File "/x/arg_utils.py", line 1, in create
(APIServer pid=9) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=9)   Value error, User-specified max_model_len (99999) is greater than the derived max_model_len [type=value_error, input_value=..]
"""
OPTION = """(APIServer pid=9) pydantic_core._pydantic_core.ValidationError: 2 validation errors for SchedulerConfig
(APIServer pid=9) max_num_seqs
(APIServer pid=9)   Input should be greater than or equal to 1 [type=greater_than_equal, input_value=0, input_type=int]
(APIServer pid=9)     For further information visit https://example.org
"""
ODD = """\
(APIServer pid=9) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=9)   Value error, Model architectures ['Odd'] are not supported for now. Supported architectures: dict_keys(['A', 'B']) [type=value_error, input_value=..]
"""
ASSERTED = """\
(EngineCore pid=12) ERROR 11-21 03:03:12 [core.py:1120]   File "/x/worker.py", line 7, in load
(EngineCore pid=12) ERROR 11-21 03:03:12 [core.py:1120]     assert size == 16
(EngineCore pid=12) ERROR 11-21 03:03:12 [core.py:1120]            ^^^^^^^^^^
(EngineCore pid=12) ERROR 11-21 03:03:12 [core.py:1120] AssertionError
(APIServer pid=11) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
GOES_ON = """\
(APIServer pid=1) ValueError: Couldn't instantiate the tokenizer from one of:
(APIServer pid=1) (1) a file,
(APIServer pid=1) (2) a slow tokenizer.
"""


@pytest.mark.parametrize(
    ("text", "words", "remedy"),
    [
        (TRACE, "Free memory on device cuda:0", "--gpu-memory-utilization"),
        (
            "ValueError: Available memory on node 0 (21/23 GiB) on startup is less than desired CPU memory utilization (0.92)\n",
            "Available memory on node 0",
            "VLLM_CPU_KVCACHE_SPACE, in serve.env",
        ),
        (PYDANTIC, "max_model_len (99999)", "smaller serve.max_model_len"),
        (OPTION, "ValidationError: max_num_seqs: Input should be greater than or equal to 1", ""),
        (ODD, "ValidationError: Model architectures ['Odd'] are not supported for now;", "newer vLLM"),
        ("OSError: [Errno 98] Address already in use\n", "Address already in use", "another port"),
        ("vllm: error: unrecognized arguments: --odd\n", "--odd", "serve.args"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to\n", "out of memory", "--tensor-parallel-size"),
        ("(Worker pid=3) SafetensorError: header too large\n", "header too large", ""),
        (ASSERTED, "AssertionError (assert size == 16)", ""),
        (GOES_ON, "from one of: (1) a file, (2) a slow tokenizer.", ""),
        ("INFO all is well\nand then nothing\n", "and then nothing", ""),
        ("", "it said nothing", ""),
    ],
)
def test_why_it_ended(text: str, words: str, remedy: str) -> None:
    said = explain(text)
    assert words in said and remedy in said and "\n" not in said
    assert "Engine core initialization failed" not in said


def test_an_error_that_only_says_that_there_was_one_is_better_than_nothing() -> None:
    assert telling_lines("RuntimeError: Engine core initialization failed. See root cause above.\n")


def test_an_error_is_told_once() -> None:
    assert telling_lines("ValueError: a\nValueError: a\nValueError: b\nValueError: c\n") == [
        "ValueError: a",
        "ValueError: b",
    ]


def test_options_that_are_not_known() -> None:
    assert unknown_options("vllm: error: unrecognized arguments: --a 5 --b\n") == ["--a", "--b"]
    assert unknown_options("all is well") == []


def test_what_it_runs_with() -> None:
    text = "(EngineCore pid=1) INFO [core.py:1] config: dtype=torch.bfloat16, max_seq_len=9, device_config=cuda, seed=0"
    assert running_with(text) == ("bfloat16", "cuda")
    assert running_with("") == (None, None)


def test_only_what_this_start_wrote_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ValueError: the time before\n")
    start = log.stat().st_size
    with log.open("a") as stream:
        stream.write("ValueError: now\n")
    assert tail(log, start=start) == head(log, start=start) == "ValueError: now\n"
    assert tail(tmp_path / "none") == head(tmp_path / "none") == ""
