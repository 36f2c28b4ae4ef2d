"""Counts the matches of a regular expression in documents, in bounded time for any pattern.

Python's `re` may backtrack without end on one line ("(a+)+$"), and nothing in its process can stop it: a pattern with any
repetition is counted in a process of its own, with a limit on processor seconds.
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
"""Seconds of wall-clock time, for machines whose processors are busy."""
REPEATS = re.compile(r"(?<!\\)(?:\\\\)*[*+{?]|\\[1-9]|\(\?P=")
"""Signs of repetitions and back references; a pattern that has them only as text merely takes some milliseconds longer."""
COUNT = """
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
pattern, texts = json.load(sys.stdin)
compiled = re.compile(pattern, re.IGNORECASE)
print(json.dumps([len(compiled.findall(text)) for text in texts]))
"""


def count(pattern: str, texts: Sequence[str], *, bounded: bool = True, cpu_s: int = CPU_S) -> list[int]:
    """Matches of a pattern in each text, of its literal text where it is no regular expression. Raises ValueError after `cpu_s`."""
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
