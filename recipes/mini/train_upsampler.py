"""Stage 6: the upsampler, which learns by the eyes of the teacher.

It paints above the decoder's canvas by what the vector says is there. What it paints is held to the
photograph where the canvas speaks: in its low frequencies, by the squared error. Above them no stream can
say where each edge is. There the eyes compare: what they see on coarse levels and name, place by place, and
of fine levels only how strong each feature is in each region and how much it varies; and so with the
energy of the finest octaves, so that flat areas stay flat. Both pictures are shown through the same random
window, so that only what survives a small change counts, at the size at which a classifier would see them.

It learns from photographs alone, in squares of them, and from canvases of one step of the decoder (the mean
of all pictures that a stream allows) and of two. With ``--init`` it begins with the weights of an earlier
upsampler, which need not have been told of vectors.

Run again after an interruption, it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.decoders.options import OUR_SAMPLING
from clip_feature_codec.devices import autocast_dtype, pick_device
from clip_feature_codec.diffusion.noise import noise_generators
from clip_feature_codec.diffusion.plans import sampling_plan
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.samplers import sample
from clip_feature_codec.diffusion.unet import layout_planes
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.files import atomic_writer
from clip_feature_codec.images import to_pictures
from clip_feature_codec.names import CODEC_FILE, DECODER_FILE
from code_crops import KEPT_OUT, coded_names
from data import CONFIG, Shards, read_config
from eyes import Eyes
from teacher import SIDE, read_teacher

_STANDARD = 128  # pictures that the eyes' features are standardised over
_REGIONS = (10, 5)  # sides of the regions of the two fine levels, in their pixels
_SHEET = 10  # pictures across


@dataclass(frozen=True)
class Batch:
    """N photographs with what one stream of each decodes to.

    Attributes:
        pictures: (N, 3, S, S) in [-1, 1].
        vectors: (N, D).
        planes: the layouts, as `layout_planes` gives them.
        corners: (N, 2), of the squares that are learned from, in the canvases' pixels.
        window: affine maps (N, 2, 3), through which the eyes look at those.
        steps: of the decoder.
    """

    pictures: Tensor
    vectors: Tensor
    planes: Tensor
    corners: np.ndarray
    window: Tensor
    steps: int


def draw(crops: Shards, rows: np.ndarray, step: int, config: dict[str, Any], device: torch.device) -> Batch:
    """The batch of a step, of some ``rows``: everything random in it comes from (seed, step)."""
    rng, count = np.random.default_rng([config["seed"], step]), config["batch_size"]
    images, coded, layouts = crops.take(rng.choice(rows, count)).values()
    version = torch.from_numpy(rng.integers(0, coded.shape[1], count)).to(device)
    kept = torch.from_numpy(rng.random(count) >= config["dropout"]).to(device)
    turned = torch.from_numpy(rng.random(count) < 0.5).to(device)[:, None, None, None]
    chosen = torch.arange(count, device=device)
    pictures = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    planes = layout_planes(layouts[chosen, version], torch.ones_like(kept))
    side = pictures.shape[-1] // Upsampler.factor
    return Batch(
        torch.where(turned, pictures.flip(3), pictures),
        coded[chosen, version].float() * kept[:, None],
        torch.where(turned, planes.flip(3), planes),
        rng.integers(0, side - config["square"] + 1, (count, 2)),
        torch.from_numpy(_windows(count, rng)).to(device),
        int(rng.integers(1, 3)),
    )


def _windows(count: int, rng: np.random.Generator) -> np.ndarray:
    """Affine maps (N, 2, 3): up to a sixth nearer or farther, moved, mirrored half of the time."""
    scale = np.exp(rng.uniform(-0.15, 0.15, (count, 1))) * np.exp(rng.uniform(-0.05, 0.05, (count, 2)))
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = scale[:, 0] * rng.choice([-1, 1], count)
    theta[:, 1, 1] = scale[:, 1]
    theta[:, :, 2] = rng.uniform(-0.1, 0.1, (count, 2))
    return theta


def shown(pictures: Tensor, window: Tensor) -> Tensor:
    """Pictures as the eyes get to see them: (N, 3, S, S)."""
    grid = F.affine_grid(window, list(pictures.shape), align_corners=False)
    seen: Tensor = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return seen


def squares(pictures: Tensor, corners: np.ndarray, side: int, scale: int) -> Tensor:
    """The squares of (N, 3, H, W) that begin at ``corners``, both in units of ``scale`` pixels."""
    side *= scale
    cut = [
        picture[:, y : y + side, x : x + side]
        for picture, (y, x) in zip(pictures, scale * corners, strict=True)
    ]
    return torch.stack(cut).contiguous(memory_format=torch.channels_last)


def canvases(decoder: DiffusionDecoder, vectors: Tensor, planes: Tensor, steps: int, seed: int) -> Tensor:
    """What so many steps of the decoder paint, (N, 3, S, S); the guidance is the default."""
    size = decoder.image_size
    with _autocast(vectors.device):
        return sample(
            decoder.denoiser,
            sampling_plan("dpm-solver++", decoder.scheduler, steps),
            vectors,
            size=size,
            guidance=OUR_SAMPLING.guidance if steps > 1 else 1.0,
            layout=planes,
            residual=Residual.around(planes, (size, size), decoder.unet_config.residual_gain),
            generators=noise_generators(seed, [row.to_bytes(4) for row in range(len(vectors))]),
        ).float()


def statistics(features: list[Tensor]) -> list[Tensor]:
    """How strong each feature of the fine levels is in each region, and how much it varies there."""
    found = []
    for level, region in zip(features, _REGIONS, strict=False):
        mean = F.avg_pool2d(level, region, ceil_mode=True)
        square = F.avg_pool2d(level.square(), region, ceil_mode=True)
        found.append(torch.cat([mean, (square - mean.square()).clamp(min=1e-3).sqrt()], dim=1))
    return found


def energies(pictures: Tensor) -> list[Tensor]:
    """The root mean square of the finest octaves in squares of an eighth of the side."""
    found = []
    luma = pictures.mean(1, keepdim=True)
    for _ in range(3):
        lower = F.avg_pool2d(luma, 2)
        band = luma - F.interpolate(lower, scale_factor=2.0, mode="bilinear")
        found.append((F.avg_pool2d(band.square(), luma.shape[-1] // 8) + 1e-5).sqrt())
        luma = lower
    return found


class State:
    """Everything that the training changes, and its checkpoint."""

    def __init__(self, config: dict[str, Any], dim: int, device: torch.device) -> None:
        torch.manual_seed(config["seed"])
        self.upsampler = Upsampler(config["channels"], config["blocks"], dim).to(device)
        self.upsampler.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.upsampler).requires_grad_(False)
        self.brush = torch.optim.AdamW(self.upsampler.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
        self.step, self.seconds = 0, 0.0

    def parts(self) -> dict[str, Any]:
        """What the checkpoint holds beside the number of steps."""
        return {name: getattr(self, name) for name in ("upsampler", "average", "brush")}

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        facts = {"step": self.step, "seconds": self.seconds, "config": self.upsampler.config}
        with atomic_writer(path) as file:
            torch.save(facts | states, file)

    def begin(self, path: Path) -> None:
        """Take over the weights of a decoder's upsampler."""
        earlier = load_decoder(path).upsampler
        if earlier is None:
            raise SystemExit(f"{path} has no upsampler")
        for network in (self.upsampler, self.average):
            network.load_state_dict(network.state_dict() | earlier.state_dict())

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        content = torch.load(path, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(content[name])
        self.step, self.seconds = content["step"], content["seconds"]


def losses(
    painted: Tensor, real: Tensor, window: Tensor, eyes: Eyes, config: dict[str, Any]
) -> dict[str, Tensor]:
    """What separates painted pictures from those that they stand for, by name."""
    found = {
        "low": F.mse_loss(F.avg_pool2d(painted, 8), F.avg_pool2d(real, 8)),
        "error": (painted - real).abs().mean(),
    }
    bands = zip(energies(painted), energies(real), strict=True)
    found["energy"] = torch.stack([(a - b).abs().mean() for a, b in bands]).sum()
    with _autocast(real.device):
        with torch.no_grad():
            wanted, taught = eyes(shown(real, window))
        seen, said = eyes(shown(painted, window))
    wanted, seen = ([level.float() for level in levels] for levels in (wanted, seen))
    coarse = zip(config["levels"], seen, wanted, strict=True)
    found["features"] = torch.stack([weight * F.mse_loss(a, b) for weight, a, b in coarse]).sum()
    fine = zip(statistics(seen), statistics(wanted), strict=True)
    found["statistics"] = torch.stack([F.mse_loss(a, b) for a, b in fine]).sum()
    said, taught = (logits.float().log_softmax(1) for logits in (said, taught))
    found["said"] = F.kl_div(said, taught, reduction="batchmean", log_target=True)
    return found


def train_step(
    state: State, decoder: DiffusionDecoder, eyes: Eyes, batch: Batch, config: dict[str, Any]
) -> dict[str, Tensor]:
    """One step of the upsampler."""
    small = canvases(decoder, batch.vectors, batch.planes, batch.steps, len(batch.vectors) * state.step)
    small = squares(small, batch.corners, config["square"], 1)
    real = squares(batch.pictures, batch.corners, config["square"], Upsampler.factor)
    with _autocast(real.device):
        painted = state.upsampler(small, batch.vectors).float()
    found = losses(painted, real, batch.window, eyes, config)
    state.brush.zero_grad()
    torch.stack([config["weights"][name] * loss for name, loss in found.items()]).sum().backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.upsampler.parameters(), config["longest_gradient"])
    state.brush.step()
    with torch.no_grad():
        decay = min(config["ema_decay"], (1 + state.step) / (10 + state.step))
        for average, value in zip(state.average.parameters(), state.upsampler.parameters(), strict=True):
            average.lerp_(value, 1 - decay)
    state.step += 1
    return {name: loss.detach() for name, loss in found.items()}


def _autocast(device: torch.device) -> torch.autocast:
    dtype = autocast_dtype(device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


@torch.no_grad()
def look(
    state: State, decoder: DiffusionDecoder, eyes: Eyes, kept: dict[str, Tensor], sheet: Path, size: int
) -> str:
    """What the averaged weights make of photographs that were kept out: PSNR, and what the eyes name."""
    originals = kept["images"].permute(0, 3, 1, 2).float() / 127.5 - 1
    vectors, layouts = kept[f"vectors{size}"], kept[f"layouts{size}"]
    planes = layout_planes(layouts, torch.ones(len(originals), dtype=torch.bool, device=layouts.device))
    series = {"original": originals, "layout": planes[:, :3]}
    for steps in (1, 2):
        small = canvases(decoder, vectors, planes, steps, 0)
        with _autocast(vectors.device):
            parts = [
                state.average(*rows)
                for rows in zip(torch.split(small, 20), torch.split(vectors, 20), strict=True)
            ]
        series[f"{steps} steps"] = torch.cat(parts).float()
    found = []
    for name, unclipped in series.items():
        large = F.interpolate(unclipped, originals.shape[-2:], mode="bicubic").clamp(-1, 1)
        series[name] = large
        error = (large - originals).square().mean((1, 2, 3)).clamp(min=1e-9)
        seen = F.interpolate(large, (SIDE, SIDE), mode="bilinear", antialias=True)
        with _autocast(seen.device):
            logits = torch.cat([eyes(part)[1].float() for part in torch.split(seen, 25)])
        right = (logits.topk(5).indices == kept["classes"][:, None]).any(1)
        told = f"detail {detail(large, originals, 24):.2f}, named {right.float().mean():.0%}"
        found.append(f"{name} {(10 * torch.log10(4 / error)).mean():.2f} dB, {told}")
    rows = [torch.cat(list(pictures[:_SHEET]), dim=2) for pictures in series.values()]
    to_pictures(torch.cat(rows, dim=1)[None])[0].save(sheet)
    return f"kept out, {size} bytes: " + "; ".join(found)


def detail(painted: Tensor, real: Tensor, cycles: float) -> float:
    """Ratio of the spectral energy above so many cycles per picture, geometric mean over (N, 3, H, W)."""

    def energy(x: Tensor) -> Tensor:
        down, across = (torch.fft.fftfreq(side, 1 / side, device=x.device) for side in x.shape[-2:])
        high = torch.hypot(down[:, None], across) > cycles
        power: Tensor = (torch.fft.fft2(x.mean(1)).abs().square() * high).sum((1, 2))
        return power

    return float((energy(painted) / energy(real)).log().mean().exp())


def learning_rate(state: State, minutes: float, config: dict[str, Any]) -> float:
    """Linear warm-up, constant, and a fall to 0 in the last part of the time."""
    highest: float = config["lr"]
    left: float = 1 - state.seconds / (60 * minutes)
    share: float = min(1.0, (state.step + 1) / 100, max(0.0, left) / config["cooldown"])
    return highest * share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--teacher", type=Path, required=True, help="the quantised classifier (.tflite)")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the other stages; gets upsampler.*"
    )
    parser.add_argument(
        "--init", type=Path, help="a decoder with an upsampler to begin with, such as a pack's"
    )
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    config, device = read_config(args.config)["upsampler"], pick_device(args.device)

    names = ("images", *coded_names(FeatureCodec.load(args.out / CODEC_FILE)))
    crops = Shards(args.out / "crops-decoder", names, device)
    rows = np.flatnonzero(~np.concatenate([np.load(file) for file in crops.files("small")]))
    decoder = load_decoder(args.out / "decoder" / DECODER_FILE, device)
    with np.load(args.out / KEPT_OUT) as arrays:
        kept = {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
    standard = draw(crops, rows, 10**9, config | {"batch_size": _STANDARD}, device)
    seen = squares(standard.pictures, standard.corners, config["square"], Upsampler.factor)
    eyes = Eyes(read_teacher(args.teacher), shown(seen, standard.window)).to(device)
    state = State(config, decoder.space.dim, device)
    checkpoint = args.out / "upsampler.pt"
    if checkpoint.exists():
        state.load(checkpoint)
    elif args.init is not None:
        state.begin(args.init)
    print(f"{len(rows)} crops of photographs, at step {state.step}", flush=True)
    saved, first, minutes = time.time(), state.step, config["minutes"]
    began = time.time() - state.seconds
    start = time.time()
    while state.seconds < 60 * minutes:
        for group in state.brush.param_groups:
            group["lr"] = learning_rate(state, minutes, config)
        batch = draw(crops, rows, state.step, config, device)
        found = train_step(state, decoder, eyes, batch, config)
        state.seconds = time.time() - began
        if state.step % 25 == 0:
            values = ", ".join(f"{name} {value.item():.3f}" for name, value in found.items())
            speed = (state.step - first) * config["batch_size"] / (time.time() - start)
            print(f"step {state.step}: {values}, {speed:.1f} pictures/s", flush=True)
        if state.step % config["look_every"] == 0:
            print(look(state, decoder, eyes, kept, args.out / f"upsampler-{state.step}.png", 140), flush=True)
        if time.time() - saved > config["checkpoint_seconds"]:
            state.save(checkpoint)
            saved = time.time()
    state.save(checkpoint)
    for size in (64, 140, 340):
        print(look(state, decoder, eyes, kept, args.out / f"upsampler-{size}.png", size), flush=True)


if __name__ == "__main__":
    main()
