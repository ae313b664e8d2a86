"""What one evaluation of the U-Net costs at 256 pixels: weights, arithmetic, time beside the default."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.evaluate.provenance import describe_machine

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "base=64": {"base": 64},
    "patch=2": {"patch": 2},
    "patch=4": {"patch": 4},
    "patch=4, attention on the two coarse levels": {"patch": 4, "attention_levels": (1, 2)},
}


def main() -> None:
    inputs = torch.randn(1, 3, 256, 256), torch.randn(1, 512), torch.zeros(1, dtype=torch.long)
    networks = {name: CLIPCondUNet(UNetConfig(512, **options)).eval() for name, options in CONFIGS.items()}
    times: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for _ in range(4):  # the first round warms up and is left out
            for name, network in networks.items():
                began = time.perf_counter()
                network(*inputs)
                times[name].append(time.perf_counter() - began)
    print(describe_machine())
    print("| U-Net | million weights | GFLOP per evaluation | time beside the default's |")
    print("|---|---|---|---|")
    for name, network in networks.items():
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(*inputs)
        weights = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        ratios = [mine / default for mine, default in zip(times[name][1:], times["default"][1:], strict=True)]
        gflop = counter.get_total_flops() / 1e9
        print(f"| {name} | {weights:.1f} | {gflop:.1f} | {statistics.median(ratios):.3f} |")


if __name__ == "__main__":
    main()
