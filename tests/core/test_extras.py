"""What to install names packages that an index has, for every extra that a message names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import harness
from harness.core.extras import install

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


@pytest.mark.parametrize("extra", ["lm-eval", "suites", "tau2", "ray"])
def test_an_extra_is_installed_by_the_names_of_its_packages(extra: str) -> None:
    names = [Requirement(one).name for one in EXTRAS[extra]]
    command = install(extra)
    assert all(name in command for name in names) and "mixture-harness" not in command


def test_an_extra_that_the_metadata_lack_is_a_matter_of_the_folder() -> None:
    assert install("none-such") == "pip install -e '.[none-such]' in the folder of harness"


def test_no_message_names_a_package_that_is_on_no_index() -> None:
    root = Path(harness.__file__).parent
    files = [path for folder in (root, root / "tasks", root / "reward_models") for path in folder.rglob("*.py")]
    wrong = [
        str(path)
        for path in files
        if re.search(r"pip install[^\n]*mixture-harness\[", path.read_text(encoding="utf-8"))
    ]
    assert len(files) > 300 and wrong == []
