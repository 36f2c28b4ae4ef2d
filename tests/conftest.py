"""Tests never reach a network nor the user's caches, and share the tiny checkpoints of tiny.py."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from hypothesis import settings

HOME = tempfile.mkdtemp(prefix="harness-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

os.environ["HF_HOME"] = HOME
os.environ["HARNESS_CACHE"] = HOME
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
sys.path.insert(0, str(Path(__file__).parent))
