"""The input of a policy: a running trajectory as an array, its columns ordered by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.core.errors import DataError
from harness.feed.feed import Feed
from harness.mixing.domains import Floats
from harness.reward_models.reference import Reference


def history(
    feed: Feed, trajectory: str, *, domains: Sequence[str], components: Sequence[str], reference: Reference | None = None,
    until: int | None = None,
) -> Floats:  # fmt: skip
    """One trajectory so far, shape [T, N + |D|], in the given order of columns; a domain that it never had is 0.

    `until`: the current step, where a training was resumed at an earlier step than the feed's last. Raises DataError.
    """
    vectors = feed.trajectory(trajectory).latest()
    if until is not None:
        vectors = Feed([vector for vector in vectors if vector.step is not None and vector.step <= until])
    for what, here, mine in (("components", vectors.components, components), ("domains", vectors.domains, domains)):
        strange = [name for name in here if name not in mine]
        lacking = [name for name in mine if name not in here] if what == "components" else []
        if strange or lacking:
            raise DataError(f"the feed has the {what} {', '.join(here)}, the agent was fitted on {', '.join(mine)}")
    found = vectors.matrix(reference)
    ordered = np.zeros((len(found), len(domains) + len(components)))
    for place, name in enumerate(domains):
        if name in vectors.domains:
            ordered[:, place] = found[:, vectors.domains.index(name)]
    for place, name in enumerate(components):
        ordered[:, len(domains) + place] = found[:, len(vectors.domains) + vectors.components.index(name)]
    return ordered
