"""A Ray cluster: one that is there, or one that is started here for as long as the work takes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from clip_feature_codec.distributed.pipeline import Function, Stage
from clip_feature_codec.errors import ClusterError
from clip_feature_codec.extras import extra

_DEATHS = 10  # of processes of a stage, one after another, before any has begun to work

LOCAL = "local"
"""The address that has a cluster started on this machine."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Use a cluster during the block; one that was started for it ends with it.

    A program that is connected to one already goes on with that.

    Args:
        address: ``host:port`` of a cluster; ``auto``, the one that this machine is a node of; or
            ``local``: one is started, with all cores and GPUs of this machine.

    Raises:
        ClusterError: there is no such cluster.
        MissingExtraError: Ray is not installed.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # read when it is imported
    with extra("ray", "work on a Ray cluster"):
        import ray
        import ray.data
    connect = not ray.is_initialized()
    if connect:
        _connect(address)
    _set_up(ray.data.DataContext.get_current())
    try:
        yield
    finally:
        if connect:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options["include_dashboard"] = False
    try:
        ray.init(address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ClusterError(f"Ray cluster {address!r}: cannot be reached: {reason}") from None


def network_stage(make: Callable[[], Function], device: str, cores: int = 1) -> Stage:
    """A stage whose processes each run a network.

    Each has a GPU to itself, where the cluster has any and they are wanted; or else cores.

    Args:
        make: gives the function.
        device: where the network runs (see `devices.pick_device`).
        cores: of a process that has no GPU.

    Raises:
        ClusterError: a GPU is wanted, and the cluster has none.
    """
    import ray

    gpus = ray.cluster_resources().get("GPU", 0)
    if device.startswith("cuda") and not gpus:
        raise ClusterError(f"device {device!r}: found no GPU in the Ray cluster")
    return Stage(make, gpus=1.0) if gpus and device != "cpu" else Stage(make, cores=cores)


def _set_up(context: Any) -> None:
    """Let the commands say how far the work is and what went wrong, and go on when a process is killed."""
    context.enable_progress_bars = context.print_on_execution_start = False
    # Errors of ours come as values (see `pipeline`): who dies when it begins was killed, and another begins.
    context.max_consecutive_actor_init_deaths = _DEATHS
    logging.getLogger("ray.data").setLevel(logging.ERROR)
