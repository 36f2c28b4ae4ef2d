"""Parses a server's log: why it ended, and the dtype and device it runs with. Pure functions of text."""

from __future__ import annotations

import re
from pathlib import Path

TAIL = 200_000
"""Bytes from the end that are read for a cause."""
PREFIX = re.compile(r"^\s*(\(.*?pid=\d+\)\s*)?((ERROR|CRITICAL)\s+\S+\s+\S+\s+\[[^\]]*\]\s*)?")
ERROR = re.compile(r"^([A-Za-z_][\w.]*(Error|Exception|Exit|NotFound\w*)):\s*(.+)$|^vllm( serve)?: error: (.+)$")
BARE = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit)$")
"""An error without a message, as of an assertion: the line of code that raised it is what it says."""
FRAME = re.compile(r"^\s*(File \".*|[\^~\s]*)$")
GOES_ON = 4
"""Lines that are taken of a message whose first one ends with a colon."""
DETAIL = re.compile(
    r"^\s*(?:(?:Value error|Assertion failed), )?(.+?) \[type=.*$|^\s*(?:Value error|Assertion failed), (.+)$"
)
FIELD = re.compile(r"^[\w.]+$")
"""Of an error of pydantic: what is wrong, and the line before it, which names the option."""
ECHOES = (
    "Engine core initialization failed",
    "EngineCore encountered an issue",
    "Worker failed with error",
    "WorkerProc initialization failed",
    "Executor failed",
    "Engine core proc",
)
"""Errors that only say that there was one."""
LISTING = re.compile(r"\.?\s*Supported architectures: .*|^(?:\w+\.)+(?=\w+:)")
"""Parts of an error that are removed: a list of all supported names, and the modules of its class."""
REMEDIES: tuple[tuple[str, str], ...] = (
    (r"unrecognized arguments", "take it out of serve.args, or use the vLLM that has it"),
    (r"max_model_len|max model len|max_position_embeddings", "give a smaller serve.max_model_len (--max-model-len)"),
    (r"tool.?call.?parser|tool parser", "name one of vLLM's parsers with serve.tool_call_parser"),
    (
        r"desired CPU memory utilization",
        'on a CPU say how many GiB it may take beside the weights: VLLM_CPU_KVCACHE_SPACE, in serve.env (such as "1") or the environment',
    ),
    (
        r"Free memory on device|gpu_memory_utilization|No available memory for the cache blocks",
        "free memory on the GPU, or give a smaller --gpu-memory-utilization in serve.args",
    ),
    (r"out of memory", "free memory, or spread the model with --tensor-parallel-size in serve.args"),
    (r"Address already in use", "choose another port"),
    (r"architectures? .*not supported", "a newer vLLM may know it"),
    (r"trust_remote_code", "if you trust the author of its code, set trust_remote_code"),
)


def tail(path: Path, *, start: int = 0) -> str:
    """The last TAIL bytes of a log, not beginning before byte `start`; empty where there is no log."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(start, stream.tell() - TAIL))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def head(path: Path, *, start: int = 0) -> str:
    """TAIL bytes of a log from byte `start` on; empty where there is no log."""
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            return stream.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return ""


def telling_lines(text: str, *, most: int = 2) -> list[str]:
    """The first `most` errors of a log that name a cause (else those that name none), each once."""
    found: list[str] = []
    echoes: list[str] = []
    pending: str | None = None
    lines = [PREFIX.sub("", raw).rstrip() for raw in text.splitlines()]
    for number, line in enumerate(lines):
        detail = DETAIL.match(line)
        if detail and pending is not None:
            words = LISTING.sub("", f"{detail.group(1) or detail.group(2)}")
            option = f"{lines[number - 1]}: " if FIELD.match(lines[number - 1]) else ""
            found.append(f"{pending}: {option}{words}"[:300])
            pending = None
            continue
        if BARE.match(line):
            code = next((one.strip() for one in reversed(lines[:number]) if not FRAME.match(one)), "")
            found.append(f"{line} ({code})"[:300] if code else line)
            continue
        if ERROR.match(line) is None:
            continue
        if line.endswith(":"):
            line = " ".join([line, *(more.strip() for more in lines[number + 1 : number + 1 + GOES_ON])]).rstrip()
        words = LISTING.sub("", line)[:300]
        if any(echo in line for echo in ECHOES):
            echoes.append(words)
        elif "validation error" in line:
            pending = words.split(":", 1)[0]
        else:
            found.append(words)
    return list(dict.fromkeys(found or echoes))[:most]


def explain(text: str) -> str:
    """Why the server ended, in one line, with a remedy where one is known; the log's last lines where no error is found."""
    lines = telling_lines(text) or [line.strip()[:200] for line in text.splitlines() if line.strip()][-2:]
    words = " | ".join(lines) or "it said nothing"
    remedy = next((remedy for pattern, remedy in REMEDIES if re.search(pattern, words, re.IGNORECASE)), None)
    return f"{words}; {remedy}" if remedy else words


def unknown_options(text: str) -> list[str]:
    """The options that this vLLM says it does not know."""
    found = re.search(r"unrecognized arguments: (.+)", text)
    return [word for word in found.group(1).split() if word.startswith("--")] if found else []


def running_with(text: str) -> tuple[str | None, str | None]:
    """dtype and device as the engine names them when it starts."""
    dtype = re.search(r"dtype=torch\.(\w+)", text)
    device = re.search(r"device_config=(\w+)", text)
    return dtype and dtype.group(1), device and device.group(1)
