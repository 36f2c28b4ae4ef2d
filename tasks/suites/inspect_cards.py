"""What inspect_evals says of its own evals (each folder's eval.yaml and source), read as text: importing one may take seconds.

Says what an eval needs; harness/components/inspect/checks.py says whether that is here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from harness.core.errors import SpecError
from harness.core.extras import install

PACKAGE = "inspect_evals"
INSTALL = install("inspect")
GATED = {
    "gaia-benchmark/GAIA",
    "cais/hle",
    "cais/hle-rolling",
    "cais/MASK",
    "Idavidrein/gpqa",
    "mirlab/TRAIT",
    "CompassioninMachineLearning/tac",
}
"""Data sets whose conditions have to be accepted on the hub, as the evals' own pages say; eval.yaml does not."""
STUBS = re.compile(r"^types-|-stubs$")
"""Requirements for type checkers, which nothing needs at run time."""
ROLE = re.compile(
    r"""(?:\bget_model\([^()]*?\brole\s*=|\bmodel_role\s*(?::\s*str(?:\s*\|\s*None)?\s*)?=|\bas_role\()\s*["'](\w+)["']"""
)
KEY = re.compile(r"""(?:environ\[|environ\.get\(|getenv\()\s*["'](\w*(?:API_KEY|_TOKEN))["']""")

IMAGE = "docker-requirements.txt"
"""In an eval's folder: what its image has, for the programs that it runs."""
IMPORTED_AS = {
    "beautifulsoup4": "bs4",
    "datetime": "DateTime",
    "dnspython": "dns",
    "levenshtein": "Levenshtein",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pycryptodome": "Crypto",
    "python-dateutil": "dateutil",
    "python-docx": "docx",
    "python-levenshtein-wheels": "Levenshtein",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
"""Packages of such images whose modules are called otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """Something that an eval fetches: `kind` is huggingface, git_clone, direct_url, ...; `source` a data set's name or a URL."""

    kind: str
    source: str

    @property
    def gated(self) -> bool:
        """Whether its conditions have to be accepted first."""
        return self.source in GATED


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """An eval of inspect_evals. `sandbox`: which of solver and scorer need one."""

    folder: Path
    task: str
    n_samples: int | None
    version: str
    sandbox: tuple[str, ...]
    internet: bool
    k8s: bool
    extra: str | None
    assets: tuple[Asset, ...]

    @property
    def module(self) -> str:
        """What to import to have the task."""
        return f"{PACKAGE}.{self.folder.name}"

    def source(self) -> Iterator[str]:
        """The text of its Python files."""
        for path in sorted(self.folder.rglob("*.py")):
            yield path.read_text(encoding="utf-8", errors="replace")

    def roles(self) -> set[str]:
        """Names under which its code asks other models; without one, Inspect asks the model that is measured."""
        return {name for text in self.source() for name in ROLE.findall(text)}

    def key_names(self) -> set[str]:
        """Environment variables with keys that its code reads."""
        return {name for text in self.source() for name in KEY.findall(text)}

    def searches(self) -> bool:
        """Whether its code has a tool that searches the web."""
        return any("web_search(" in text for text in self.source())

    def copies(self) -> bool:
        """Whether its code copies repositories of the hub to a folder of its own, where it looks first the next time."""
        return any("local_dir=" in text or "load_hf_dataset_with_script(" in text for text in self.source())

    def libraries(self) -> dict[str, str]:
        """Modules that its image has for the programs that it runs -> the package of each."""
        try:
            lines = (self.folder / IMAGE).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        names = [found[0].lower() for line in lines if (found := re.match(r"[A-Za-z][\w.-]*", line))]
        return {IMPORTED_AS.get(name, name.replace("-", "_")): name for name in names}

    def missing(self) -> list[str]:
        """Requirements of its extra that are not installed."""
        return [] if self.extra is None else _missing(self.extra.replace("_", "-"))


def evals_folder() -> Path:
    """Where inspect_evals is installed. Raises SpecError."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SpecError(f"{PACKAGE} is not installed; {INSTALL}")
    return Path(next(iter(found.submodule_search_locations)))


@cache
def card_of(task: str) -> Card | None:
    """The card of a task of inspect_evals ("humaneval"); None where no eval has it. Raises SpecError."""
    for path in sorted(evals_folder().glob("*/eval.yaml")):
        text = path.read_text(encoding="utf-8")
        if re.search(rf"^\s*-?\s*name:\s*{re.escape(task)}\s*$", text, re.MULTILINE):
            for row in (table := yaml.safe_load(text)).get("tasks") or ():
                if row.get("name") == task:
                    return _card(path.parent, table, row)
    return None


def _card(folder: Path, table: dict[str, Any], row: dict[str, Any]) -> Card:
    metadata = table.get("metadata") or {}
    return Card(
        folder=folder,
        task=row["name"],
        n_samples=row.get("dataset_samples"),
        version=str(table.get("version")),
        sandbox=tuple(metadata.get("sandbox") or ()),
        internet=bool((metadata.get("requires") or {}).get("internet")),
        k8s=bool(metadata.get("supports_k8s")),
        extra=table.get("dependency"),
        assets=tuple(
            dict.fromkeys(
                Asset(kind=str(one.get("type")), source=str(one.get("source")))
                for one in table.get("external_assets") or ()
            )
        ),
    )


def _missing(extra: str) -> list[str]:
    from packaging.requirements import Requirement

    found = []
    for line in requires(PACKAGE) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            continue
        if not requirement.marker.evaluate({"extra": extra}) or STUBS.search(requirement.name):
            continue
        if requirement.name.replace("-", "_").lower() == PACKAGE:
            found += [one for inner in requirement.extras for one in _missing(inner)]
            continue
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                found.append(f"{requirement.name}{requirement.specifier}")
        except PackageNotFoundError:
            found.append(f"{requirement.name}{requirement.specifier}")
    return found
