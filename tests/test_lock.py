"""constraints.txt fits pyproject.toml, and any index and machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKED = {
    canonicalize_name(requirement.name): requirement
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
    for requirement in [Requirement(line)]
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [
    Requirement(text)
    for text in (
        *PROJECT["dependencies"],
        *(one for extra in PROJECT["optional-dependencies"].values() for one in extra),
    )
]


@pytest.mark.parametrize("declared", DECLARED, ids=str)
def test_every_declared_requirement_is_locked_at_a_version_that_it_allows(declared: Requirement) -> None:
    if declared.name == "torch":
        assert "torch" not in LOCKED, "which torch is installed depends on the machine"
        return
    (pin,) = LOCKED[canonicalize_name(declared.name)].specifier
    assert pin.operator == "==" and declared.specifier.contains(pin.version)


def test_the_lock_names_nothing_that_only_one_machine_or_index_has() -> None:
    for name, requirement in LOCKED.items():
        (pin,) = requirement.specifier
        assert re.fullmatch(r"[0-9.]+((a|b|rc|\.post|\.dev)[0-9]+)?", pin.version), f"{requirement} has a local version"
        assert requirement.url is None and not requirement.extras
        assert not re.match(r"(nvidia|cuda|triton)\b", name), f"{name} belongs to a build of torch"
