"""What to install for a part of harness that is not installed: a command that works wherever harness came from. Knows the metadata alone."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import PackageNotFoundError, requires

DISTRIBUTION = "mixture-harness"


def install(extra: str) -> str:
    """`pip install 'inspect-evals>=0.26' ...`, the packages of an extra by name: harness itself is on no index."""
    try:
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        declared = []
    packages = [
        requirement.strip()
        for requirement, _, marker in (line.partition(";") for line in declared)
        if re.search(rf"""extra\s*==\s*["']{re.escape(extra)}["']""", marker)
    ]
    if not packages:
        return f"pip install -e '.[{extra}]' in the folder of harness"
    return f"pip install {shlex.join(packages)}"
