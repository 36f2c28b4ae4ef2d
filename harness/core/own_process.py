"""A command that runs one of our modules in a process of its own. Starts nothing."""

from __future__ import annotations

import json
import sys

_RUN = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def python(module: str) -> list[str]:
    """The command's beginning; the module's arguments follow. It is found where this process finds it.

    Not as `python -m`, which looks into the working directory first: that may hold another package of the name, a clone of
    this project or somebody's own.
    """
    return [sys.executable, "-P", "-c", _RUN, json.dumps(sys.path), module]
