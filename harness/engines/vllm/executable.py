"""Where the `vllm` command is. Knows nothing of what is served."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from harness.core.errors import SpecError

ADVICE = (
    "install it in an environment of its own (python -m venv vllm-env; vllm-env/bin/pip install vllm) and name that with "
    "serve.command, --command or $HARNESS_VLLM, or name a server of your own with serve.url"
)


def find_executable(command: str | None = None) -> Path:
    """The vllm command: as given, $HARNESS_VLLM, this environment's, the one on PATH, in this order. Raises SpecError.

    `command` and the variable are the executable itself or the folder of an environment that has it.
    """
    for given, where in ((command, "serve.command"), (os.environ.get("HARNESS_VLLM"), "$HARNESS_VLLM")):
        if given:
            found = _executable(Path(given).expanduser())
            if found is None:
                raise SpecError(
                    f"{where} is {given}, which is neither the vllm command nor an environment with bin/vllm"
                )
            return found
    beside = _executable(Path(sys.executable).parent / "vllm")
    if beside is not None:
        return beside
    on_path = shutil.which("vllm")
    if on_path is None:
        raise SpecError(f"no vllm command here; {ADVICE}")
    return Path(on_path)


def _executable(path: Path) -> Path | None:
    # Not resolved: an environment's python is a link, and where it points to is not the environment.
    for candidate in (path, path / "bin" / "vllm"):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.absolute()
    return None
