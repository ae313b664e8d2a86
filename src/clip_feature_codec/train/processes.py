"""The processes that train together: ``torchrun`` starts them, and each has a device of its own."""

from __future__ import annotations

import atexit
import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from clip_feature_codec.devices import autocast_dtype, pick_device


class Processes:
    """This process's place among those that share a training; it may be the only one.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; of several GPUs, each process gets its own.

    Attributes:
        count: how many processes there are.
        rank: which one this is, from 0; the first reports and saves.
        device: where it computes.

    Raises:
        ConfigError: there is no such device.
    """

    def __init__(self, device: str) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = pick_device(device)
        if self.device.type == "cuda":
            own = int(os.environ.get("LOCAL_RANK", "0")) if self.count > 1 else self.device.index or 0
            self.device = torch.device("cuda", own)
            torch.cuda.set_device(self.device)
        self._dtype = autocast_dtype(self.device)
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            atexit.register(distributed.destroy_process_group)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports and saves."""
        return self.rank == 0

    def join(self, network: nn.Module) -> nn.Module:
        """A network on ``device`` whose gradients are averaged over all processes."""
        return DistributedDataParallel(network) if self.count > 1 else network

    def autocast(self) -> torch.autocast:
        """The precision in which networks run here: bfloat16 where `autocast_dtype` has it."""
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not None)

    def apart(self, network: nn.Module) -> AbstractContextManager[None]:
        """While gradients of a network that has been joined are only added up, and not averaged yet."""
        return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()
