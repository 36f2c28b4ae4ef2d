"""A real Ray cluster on this machine: a head without CPUs, and two nodes of one CPU each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FEW = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
"""Of a node."""


@contextmanager
def two_nodes() -> Iterator[Any]:
    """The cluster, which this process is connected to."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**FEW, "num_cpus": 0})
    for _ in range(2):
        made.add_node(**FEW)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
