"""Where an evaluation was made: machine and versions."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from clip_feature_codec import __version__
from clip_feature_codec.devices import usable_cores

PACKAGES = (
    *("torch", "torchvision", "open_clip_torch", "timm", "numpy", "scipy", "scikit-image", "Pillow"),
    *("torchmetrics", "lpips", "bjontegaard", "imagecodecs", "blurhash-python"),
    *("onnxruntime", "ai-edge-litert", "pi-heif"),
)
"""The packages that figures depend on."""


def describe_machine() -> str:
    """One line: processor, cores this process may use, operating system, Python and torch."""
    return (
        f"{_processor()}, {usable_cores()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, torch {metadata.version('torch')}"
    )


def environment() -> dict[str, Any]:
    """Machine in words, versions of this package and of those that figures depend on; JSON-able."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "version": __version__,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
