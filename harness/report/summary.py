"""Facts about the runs: specs, versions, engines, origins of the components. From the feed alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.core.vector import Provenance
from harness.report import numbers
from harness.report.places import Standing
from harness.report.source import Run

SHOWN = 200
"""Characters of one value of a component's provenance that are shown."""
SEVERAL = 4
"""Values of one key that are shown, where a run has several."""
DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
"""A digest, of which group 1 is shown."""


def summary(runs: Sequence[Run], places: Sequence[Standing]) -> list[dict[str, Any]]:
    """For every run: counts, what produced the numbers, and the origin of each component."""
    return [_run(run, [place for place in places if place.run is run]) for run in runs]


def _run(run: Run, places: Sequence[Standing]) -> dict[str, Any]:
    vectors = [place.vector for place in places]
    every = [vector.provenance for vector in vectors]
    bases = dict.fromkeys(v.checkpoint.base for v in vectors if v.checkpoint.base)
    engines = (" ".join(part for part in (p.engine, p.dtype, p.device, p.served) if part) for p in every)
    packages = (f"{name} {version}" for p in every for name, version in p.packages.items())
    facts: dict[str, Sequence[str]] = {
        "run": _all(vector.run for vector in vectors),
        "spec": _all(p.spec for p in every),
        "harness": _all(p.harness for p in every),
        "engine": _all(engines),
        "packages": _all(packages),
        "checkpoints": _all(v.checkpoint.kind for v in vectors),
        "base": list(bases),
        "varied": [
            f"{name} = {', '.join(_all(str(v.variables[name]) for v in vectors if name in v.variables))}"
            for name in dict.fromkeys(name for vector in vectors for name in vector.variables)
        ],
        "standardised": _all(f"{v.reference.mode}{f' {v.reference.id}' if v.reference.id else ''}" for v in vectors),
    }
    return {
        "label": run.label,
        "path": str(run.path),
        "n": len(vectors),
        "lanes": len({place.lane for place in places}),
        "not_ok": sum(vector.status != "ok" for vector in vectors),
        "first": min((p.started for p in every), default=None),
        "last": max((p.started for p in every), default=None),
        "seconds": numbers.value(sum(p.seconds for p in every)),
        "facts": {name: [_shown(value) for value in values] for name, values in facts.items() if values},
        "sources": _sources(every),
    }


def _all(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _shown(value: str) -> str:
    return numbers.cut(DIGEST.sub(r"\1", value), SHOWN)


def _sources(every: Sequence[Provenance]) -> dict[str, dict[str, str]]:
    """Component -> its provenance; where that differs (rows of `vary`), each value."""
    tasks: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for one in every:
        for name, task in one.tasks.items():
            tasks.setdefault(name, {})[task.get("definition")] = task
    return {name: _source(list(of.values())) for name, of in tasks.items()}


def _source(of: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    found = {key: _all(str(task[key]) for task in of if task.get(key) is not None) for key in list(of[-1])[:12]}
    return {key: " | ".join(map(_shown, values[:SEVERAL])) for key, values in found.items() if values}
