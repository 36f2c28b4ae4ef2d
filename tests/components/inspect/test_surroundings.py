"""The process is as before after a task, however that ended."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from pathlib import Path

import pytest

from harness.components.inspect.surroundings import as_before, inspect_alone


def test_all_is_as_before_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAKEN", "1")
    before, enabled, level = dict(os.environ), gc.isenabled(), logging.getLogger().level
    changes: dict[str, str | None] = {}
    with pytest.raises(ZeroDivisionError), as_before(changes), inspect_alone({"MADE": "2"}):
        del os.environ["TAKEN"]
        logging.getLogger().setLevel(1)
        os.chdir("/")
        gc.disable()
        assert os.environ["MADE"] == "2"
        1 / 0  # noqa: B018
    assert (dict(os.environ), Path.cwd(), logging.getLogger().level) == (before, tmp_path, level)
    assert (gc.isenabled(), gc.get_freeze_count()) == (enabled, 0)
    assert changes == {}, "what was set within the inner one is gone by then"


def test_other_threads_find_their_variables_meanwhile() -> None:
    missed: list[int] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            if "PATH" not in os.environ:
                missed.append(1)

    thread = threading.Thread(target=read)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for number in range(1000):
            with as_before():
                os.environ["OURS"] = str(number)
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert not missed and "OURS" not in os.environ
