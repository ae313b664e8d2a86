from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clip_feature_codec.distributed.cluster import connected


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A real Ray of two nodes with a core each, which this process is connected to."""
    from ray.cluster_utils import Cluster

    store = {"object_store_memory": 80 << 20}
    head = {"num_cpus": 1, "include_dashboard": False, **store}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    nodes.add_node(num_cpus=1, **store)
    with connected(nodes.address):
        yield nodes
    nodes.shutdown()
