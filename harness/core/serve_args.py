"""Which options of `vllm serve` decide what a server answers, by name: all but the technical ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.core.digest import digest_bytes
from harness.core.errors import SpecError

TECHNICAL = re.compile(
    r"--(no-)?("
    r"host|port|uds|grpc(-port)?|headless|root-path|ssl-.*|enable-ssl-refresh|allow-credentials|allowed-.*"
    r"|h11-.*|sse-keep-alive-interval|served-model-name|response-role"
    r"|gpu-memory-utilization|kv-cache-memory-bytes|kv-cache-metrics.*|num-gpu-blocks-override|kv-offloading-.*"
    r"|swap-space|cpu-offload-.*|offload-.*|block-size|download-dir|safetensors-.*|use-tqdm-on-load|pt-load-map-location"
    r"|max-parallel-loading-workers"
    r"|tensor-parallel-size|pipeline-parallel-size|data-parallel-.*|prefill-context-parallel-size|decode-context-parallel-size"
    r"|enable-expert-parallel|distributed-.*|cpu-distributed-.*|master-addr|master-port|nnodes|node-rank|numa-.*|device-ids"
    r"|disable-custom-all-reduce|ray-workers-use-nsight|api-server-count|renderer-num-workers"
    r"|max-num-.*|max-num-seqs|max-loras|max-cpu-loras|max-lora-rank|enable-lora|fully-sharded-loras|long-prefill-.*"
    r"|enable-prefix-caching|enable-chunked-prefill|prefix-cach.*|async-scheduling|scheduling-policy|stream-interval"
    r"|enforce-eager|cudagraph-.*|max-cudagraph-capture-size|compilation-config|optimization-level|performance-mode"
    r"|disable-log-.*|enable-log-.*|log-.*|logging-config|max-log-len|uvicorn-log-level|disable-uvicorn-access-log"
    r"|disable-access-log-for-endpoints|aggregate-engine-logging|otlp-.*|collect-detailed-traces|show-hidden-metrics-.*|enable-.*metrics"
    r"|custom-histogram-buckets|jit-monitor-.*|profiler-config|shutdown-timeout|disable-fastapi-docs|enable-offline-docs"
    r"|enable-request-id-headers|enable-server-load-tracking|enable-sleep-mode|sleep-.*|enable-auto-tool-choice|max-logprobs"
    r")"
)
"""Where a server listens, what it logs, how it distributes and schedules its work: answers depend on it by rounding at most."""
SHORT = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-q": "--quantization",
}


def deciding(args: Sequence[str]) -> list[list[str]]:
    """The options that decide answers, each with its values, by name; a file counts by its content. Raises SpecError."""
    return sorted(option for option in _options(args) if not TECHNICAL.fullmatch(option[0]))


def _options(args: Sequence[str]) -> Iterator[list[str]]:
    option: list[str] = []
    for word in args:
        name, given, value = word.partition("=")
        if word.startswith("-") and not re.match(r"-[\d.]", word):
            if option:
                yield option
            option = [SHORT.get(name, name).replace("_", "-"), *([_content(value)] if given else [])]
        else:
            option.append(_content(word))
    if option:
        yield option


def _content(value: str) -> str:
    path = Path(value)
    try:
        return digest_bytes(path.read_bytes()) if path.is_file() else value
    except OSError as error:
        if path.exists():
            raise SpecError(f"serve.args: cannot read {value} ({error.strerror or error})") from error
        return value  # too long for a path, as JSON may be
