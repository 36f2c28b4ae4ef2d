"""A command that runs one of our modules in a process of its own. Starts nothing."""

from __future__ import annotations

import json
import sys

_RUN = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def python(module: str) -> list[str]:
    """The command up to the module's arguments. The module is found on this process's `sys.path`.

    Not `python -m`, which looks in the working directory first: that may hold another package of the same name, such as a
    second clone of this project.
    """
    return [sys.executable, "-P", "-c", _RUN, json.dumps(sys.path), module]
