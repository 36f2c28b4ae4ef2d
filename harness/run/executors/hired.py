"""The pool for an option `workers`: processes of this machine, or workers of a Ray cluster."""

from __future__ import annotations

from harness.run.executors.cluster import Cluster, ClusterOptions
from harness.run.executors.executor import Work
from harness.run.executors.pool import Pool
from harness.run.executors.processes import Processes


def hired(work: Work, workers: int | ClusterOptions) -> Pool:
    """`workers`: a number of processes on this machine, or the options of a cluster. Raises SpecError."""
    return Processes(work, workers) if isinstance(workers, int) else Cluster(work, workers)
