"""Where tensors live and in which precision: the one place that asks the hardware."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from clip_feature_codec.errors import ConfigError

if TYPE_CHECKING:
    import torch


_DRIVERS = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/kfd", "/dev/dxg")
"""Of GPUs that torch may know, on Linux: of NVIDIA's cards and boards, of AMD's, and of Windows below it."""


def is_cpu(name: str) -> bool:
    """Whether `pick_device` would give the CPU for ``name``; torch is asked only where there is a doubt.

    To import it takes a second or more, and the core of this program works without it.

    Raises:
        ConfigError: see `pick_device`.
    """
    if name == "cpu" or (name == "auto" and not (_may_have_gpu() and find_spec("torch"))):
        return True
    return pick_device(name).type == "cpu"


def _may_have_gpu() -> bool:
    system = platform.system()
    if system == "Linux":
        return any(Path(driver).exists() for driver in _DRIVERS)
    if system == "Darwin":
        return platform.machine() == "arm64"
    if system == "Windows":
        from ctypes.util import find_library

        return find_library("nvcuda") is not None
    return True


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


def usable_threads() -> int:
    """How many threads a network may use on the CPU: all cores, or OMP_NUM_THREADS, as with torch."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else usable_cores()


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
