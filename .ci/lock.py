"""Write constraints.txt anew: the exact versions that pip would choose today for all of this project. `make lock` runs it.

What depends on the machine stays out: torch and the packages of its CUDA builds (TORCH or a torch that is there already decides
those), this project itself, hashes, and local versions such as "+cpu", which another index does not have.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE = ROOT / "constraints.txt"
LEFT_OUT = re.compile(r"torch|triton|pytorch-triton.*|nvidia-.*|cuda-.*|mixture-harness")
HEAD = f"""\
# Exact versions of what `make` installs, so that pip has nothing to choose. Written by `make lock` on Python {platform.python_version()}; not by hand.
# Left out: torch and the packages of its CUDA builds, which $(TORCH) or a torch that is there already decides.
"""


def chosen(torch: str, project: str) -> dict[str, str]:
    """The version of every package that pip would put into an empty environment; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        report = Path(folder) / "report.json"
        command = [
            f"{folder}/bin/pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--report",
            str(report),
        ]
        subprocess.run([*command, torch, project], check=True, cwd=ROOT)
        packages = [entry["metadata"] for entry in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"] for package in packages}


def main() -> None:
    """The arguments are the requirements for torch and for this project with its extras."""
    _, torch, project = sys.argv
    lines = [
        f"{name}=={version.partition('+')[0]}\n"
        for name, version in sorted(chosen(torch, project).items())
        if not LEFT_OUT.fullmatch(name)
    ]
    FILE.write_text(HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
