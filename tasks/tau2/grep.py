"""Counting what a regular expression finds in documents, in bounded time whatever a model writes.

Python's `re` may go back and forth for ever over one line ("(a+)+$"), and nothing in its process can stop it: a pattern that repeats
anything is counted in a process of its own, with so many seconds of a processor.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

CPU_S = 10
"""Seconds of a processor for one search; the whole knowledge base takes a hundredth of one."""
WALL_S = 120.0
"""Seconds by the clock, on a machine that is busy with other things."""
REPEATS = re.compile(r"(?<!\\)(?:\\\\)*[*+{?]|\\[1-9]|\(\?P=")
"""What a pattern repeats, or refers back to; some that do neither have one of these signs, and lose a few milliseconds."""
COUNT = """
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
pattern, texts = json.load(sys.stdin)
compiled = re.compile(pattern, re.IGNORECASE)
print(json.dumps([len(compiled.findall(text)) for text in texts]))
"""


def count(pattern: str, texts: Sequence[str], *, bounded: bool = True, cpu_s: int = CPU_S) -> list[int]:
    """How often each text has a pattern, or its words where it is no regular expression. Raises ValueError where that takes too long."""
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error:
        compiled = re.compile(re.escape(pattern), re.IGNORECASE)
        bounded = False
    if not bounded or not REPEATS.search(pattern):
        return [len(compiled.findall(text)) for text in texts]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", COUNT.format(seconds=cpu_s)],
            input=json.dumps([pattern, list(texts)]),
            capture_output=True,
            text=True,
            timeout=WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode < 0:
        raise ValueError("the pattern takes too long to search for; use a simpler one")
    if done.returncode:
        raise ValueError(f"the search failed: {done.stderr.strip().splitlines()[-1:]}")
    found: list[int] = json.loads(done.stdout)
    return found
