"""The table of domains, and how one is opened from inspect-evals and, where given, a data folder or a task file."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.core.errors import DataError
from harness.tasks.tau2 import port
from harness.tasks.tau2.domain import Domain
from harness.tasks.tau2.files import DomainFiles

DOMAINS = {
    "airline": "harness.tasks.tau2.airline:AirlineDomain",
    "retail": "harness.tasks.tau2.retail:RetailDomain",
    "telecom": "harness.tasks.tau2.telecom:TelecomDomain",
    "mock": "harness.tasks.tau2.mock:MockDomain",
}
ALIASES = {"telecom-workflow": "telecom"}
"""Names in upstream's result files for an environment that has another policy text and the same tools."""


def open_domain(name: str, *, data: Path | None = None, tasks_file: Path | None = None) -> Domain:
    """The domain, loaded once per process. Raises DataError for a name that is unknown or data that are missing."""
    name = ALIASES.get(name, name)
    if name not in DOMAINS:
        raise DataError(f"unknown tau2 domain {name!r}; this version has {', '.join(DOMAINS)}; name one with --domain")
    return _open(name, data and data.resolve(), tasks_file and tasks_file.resolve())


@cache
def _open(name: str, data: Path | None, tasks_file: Path | None) -> Domain:
    module, _, attribute = DOMAINS[name].partition(":")
    files = DomainFiles(name, data, port.data_folder)
    domain: Domain = getattr(importlib.import_module(module), attribute)(files, source=_source(), tasks_file=tasks_file)
    return domain


def _source() -> str:
    try:
        return f"inspect-evals {version('inspect-evals')}"
    except PackageNotFoundError:
        return "no inspect-evals"
