"""The table of domains, and how one is opened: from inspect-evals, a data folder, a task file, or upstream's own package."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.core.errors import DataError, SpecError
from harness.core.tau2.upstream import OURS, Upstream
from harness.tasks.tau2 import port
from harness.tasks.tau2 import upstream as upstream_package
from harness.tasks.tau2.banking import WAYS
from harness.tasks.tau2.domain import Domain
from harness.tasks.tau2.files import DomainFiles

DOMAINS = {
    "airline": "harness.tasks.tau2.airline:AirlineDomain",
    "retail": "harness.tasks.tau2.retail:RetailDomain",
    "telecom": "harness.tasks.tau2.telecom:TelecomDomain",
    "mock": "harness.tasks.tau2.mock:MockDomain",
    "banking_knowledge": "harness.tasks.tau2.banking:BankingDomain",
    "telecom-workflow": "harness.tasks.tau2.telecom:WorkflowDomain",
}
AUTO = "auto"
INSPECT = "inspect_evals"
TAU2 = "tau2"
SOURCES = (AUTO, INSPECT, TAU2)
RETRIEVES = "banking_knowledge"
"""The domain whose agent retrieves documents."""
RETRIEVAL = ", retrieval "
FOLDERS = {"telecom-workflow": "telecom"}
"""Domains whose files lie in another's folder."""


def open_domain(
    name: str,
    *,
    data: Path | None = None,
    tasks_file: Path | None = None,
    source: str = AUTO,
    upstream: Upstream = OURS,
    retrieval: str | None = None,
    scoring: bool = False,
) -> Domain:
    """The domain, loaded once per process. Raises DataError for an unknown name or missing data, SpecError for an unknown
    `source` or options that exclude each other.

    `source` auto is inspect-evals, and upstream's package where only that is installed or has the retrieval variant.
    `retrieval` is banking_knowledge's variant; `scoring`: no document will be retrieved, so that no API key is needed.
    """
    if source not in SOURCES:
        raise SpecError(f"`source` {source!r} is unknown; it takes {', '.join(SOURCES)}")
    chosen = _chosen(retrieval) if source == AUTO else source
    switches = Upstream(telecom_db=upstream.telecom_db, calculate=upstream.calculate)
    file = tasks_file and tasks_file.resolve()
    if chosen == TAU2:
        if data is not None:
            raise SpecError("`data` is of no use with upstream's package, which has its own; TAU2_DATA_DIR says where")
        return _open_upstream(name, file, switches, retrieval, scoring)
    if name not in DOMAINS:
        raise DataError(f"unknown tau2 domain {name!r}; this version has {', '.join(DOMAINS)}; name one with `domain`")
    if name != RETRIEVES and retrieval is not None:
        raise SpecError(f"`retrieval` is for {RETRIEVES}; domain {name} retrieves nothing")
    return _open(name, data and data.resolve(), file, switches, retrieval)


def _chosen(retrieval: str | None) -> str:
    if not upstream_package.is_installed():
        return INSPECT
    return INSPECT if port.is_installed() and retrieval in (None, *WAYS) else TAU2


@cache
def _open_upstream(
    name: str, tasks_file: Path | None, upstream: Upstream, retrieval: str | None, scoring: bool
) -> Domain:
    from harness.tasks.tau2.upstream_domain import UpstreamDomain

    return UpstreamDomain(name, tasks_file=tasks_file, upstream=upstream, retrieval=retrieval, scoring=scoring)


@cache
def _open(name: str, data: Path | None, tasks_file: Path | None, upstream: Upstream, retrieval: str | None) -> Domain:
    module, _, attribute = DOMAINS[name].partition(":")
    files = DomainFiles(FOLDERS.get(name, name), data, port.data_folder)
    ways = {} if name != RETRIEVES else {"retrieval": retrieval}
    domain: Domain = getattr(importlib.import_module(module), attribute)(
        files, source=_source(), tasks_file=tasks_file, upstream=upstream, **ways
    )
    return domain


def of_package(source: str) -> str:
    """A source without its retrieval variant, on which no verdict depends."""
    return source.partition(RETRIEVAL)[0]


def _source() -> str:
    try:
        return f"inspect-evals {version('inspect-evals')}"
    except PackageNotFoundError:
        return "no inspect-evals"
