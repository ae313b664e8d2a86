"""Where tensors live and in which precision: the one place that asks the hardware."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from clip_feature_codec.errors import ConfigError

if TYPE_CHECKING:
    import torch


def pick_device(name: str = "auto") -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` into a device that is there.

    ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: the name is unknown, or this machine has no such device.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is not one of auto, cpu, cuda, mps") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device.type not in there:
        raise ConfigError(f"device {name!r} is not one of auto, cpu, cuda, mps")
    if not there[device.type]:
        raise ConfigError(f"device {name!r} is not available on this machine: use 'cpu' or 'auto'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r}: found {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device


def usable_cores() -> int:
    """The number of processor cores that this process may use."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len(allowed)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype in which matrix work is fastest here without loss scaling: bfloat16, or None for float32.

    A CPU without native bfloat16 instructions emulates them ten times slower than float32, so bfloat16 is
    taken only where the processor lists them.
    """
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    return torch.bfloat16 if device.type == "cpu" and _cpu_has_bfloat16() else None


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
