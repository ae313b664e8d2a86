from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clip_feature_codec.bundle import Bundle
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.distributed.cluster import connected


@pytest.fixture(scope="module")
def mini() -> FeatureCodec:
    return Bundle.find("mini").codec


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A real Ray of two nodes with a core each, which this process is connected to."""
    nodes = started()
    with connected(nodes.address):
        yield nodes
    nodes.shutdown()


def started(attempts: int = 3) -> Any:
    """Start the nodes; Ray gives each thirty seconds, in which a busy machine may not get there."""
    from ray.cluster_utils import Cluster

    store = {"object_store_memory": 80 << 20}
    nodes = Cluster()
    try:
        nodes.add_node(num_cpus=1, include_dashboard=False, **store)
        nodes.add_node(num_cpus=1, **store)
    except Exception as error:
        if attempts == 1 or "timed out during startup" not in str(error):
            raise
        nodes.shutdown()
        return started(attempts - 1)
    return nodes
