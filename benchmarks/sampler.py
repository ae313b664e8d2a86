"""Sampler overhead: DDIM's time over the same number of bare U-Net forward passes, ours and diffusers'.

Both U-Nets cost about the same FLOPs (counted, printed). Each round times all four in turn, so that what
else the machine does falls on all of them alike; the ratio is the median of the rounds' ratios.

    python benchmarks/sampler.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.denoiser import TorchDenoiser
from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import sampling_plan
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.evaluate.provenance import describe_machine

CLIP_DIM = 512
TIMESTEPS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="time DDIM against bare U-Net forward passes")
    parser.add_argument("--size", type=int, default=32, help="side of the pictures (default 32)")
    parser.add_argument("--rows", type=int, default=1, help="pictures at once (default 1)")
    parser.add_argument("--steps", type=int, default=10, help="sampling steps (default 10)")
    parser.add_argument("--rounds", type=int, default=25, help="measured rounds (default 25)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1: the steadiest)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    ours = CLIPCondUNet(UNetConfig(CLIP_DIM, base=32, ch_mult=(1, 2, 2))).eval()
    theirs = build_theirs(options.size).eval()
    x = torch.randn(options.rows, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    z = nn.functional.normalize(torch.ones(options.rows, CLIP_DIM))
    t = torch.full((options.rows,), TIMESTEPS // 2)

    print(describe_machine())
    print(
        f"{options.rows} picture(s) of {options.size}×{options.size}, {options.steps} steps, float32, "
        f"{options.threads} thread(s), medians of {options.rounds} rounds"
    )
    for name, flops in (
        ("clip-feature-codec", count_flops(lambda: ours(x, z, t))),
        ("diffusers", count_flops(lambda: theirs(x, t))),
    ):
        print(f"{name:20s} {flops / 1e9 / options.rows:.3f} GFLOP a picture and forward pass")

    seconds = measure(
        {
            "ours, forward": lambda: repeat(options.steps, lambda: ours(x, z, t)),
            "ours, DDIM": lambda: sample_ours(ours, z, options.size, options.steps),
            "theirs, forward": lambda: repeat(options.steps, lambda: theirs(x, t)),
            "theirs, DDIM": lambda: sample_theirs(theirs, x, options.steps),
        },
        options.rounds,
    )
    report("clip-feature-codec", seconds["ours, forward"], seconds["ours, DDIM"])
    report("diffusers", seconds["theirs, forward"], seconds["theirs, DDIM"])


def build_theirs(size: int) -> UNet2DModel:
    """Build diffusers' U-Net, unconditional, without attention, of widths that bring it near our FLOPs."""
    return UNet2DModel(
        sample_size=size,
        block_out_channels=(28, 56, 56),
        layers_per_block=2,  # it has one more of them in each level on the way up: hence the smaller widths
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        add_attention=False,
    ).to(memory_format=torch.channels_last)


def sample_ours(model: CLIPCondUNet, z: Tensor, size: int, steps: int) -> Tensor:
    """Pictures (N, 3, size, size) for vectors (N, D)."""
    generators = noise_generators(0, [bytes([row]) for row in range(len(z))])
    plan = sampling_plan("ddim", NoiseScheduler(TIMESTEPS), steps)
    return sample(TorchDenoiser(model), plan, z, size=size, generators=generators)


def sample_theirs(model: UNet2DModel, noise: Tensor, steps: int) -> Tensor:
    """Run the loop of diffusers' own DDIMPipeline, without its progress bar."""
    scheduler = DDIMScheduler(TIMESTEPS, beta_schedule="squaredcos_cap_v2", clip_sample=True)
    scheduler.set_timesteps(steps)
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t).sample, t, x, eta=0.0, use_clipped_model_output=True).prev_sample
    return x


def repeat(times: int, work: Callable[[], object]) -> None:
    for _ in range(times):
        work()


def count_flops(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def measure(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each piece of work in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for index in range(rounds + 1):
        # Every other round goes backwards, so that none always comes first.
        for name, run in list(work.items())[:: 1 if index % 2 else -1]:
            start = time.perf_counter()
            run()
            if index > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def report(name: str, forward: list[float], sampler: list[float]) -> None:
    ratio = statistics.median(b / a for a, b in zip(forward, sampler, strict=True))
    print(
        f"{name:20s} forward passes {statistics.median(forward):.3f} s, "
        f"DDIM {statistics.median(sampler):.3f} s, ratio {ratio:.3f}"
    )


if __name__ == "__main__":
    with torch.no_grad():
        main()
