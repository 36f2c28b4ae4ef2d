"""Files that save time: a user who has nowhere to keep them loses time and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
from harness.core.cached_file import CachedFile, cache_folder
os.setuid(54321)
file = CachedFile(cache_folder() / "tokenizers" / "x")
file.write(b"x")
assert file.read() is None
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become a user without a home")
def test_a_user_without_a_home_keeps_nothing() -> None:
    gone = ("HOME", "XDG_CACHE_HOME", "HARNESS_CACHE")
    left = {name: value for name, value in os.environ.items() if name not in gone}
    subprocess.run([sys.executable, "-c", PROGRAM], env=left, check=True)
