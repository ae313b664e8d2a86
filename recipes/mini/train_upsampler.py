"""Stage 7: the upsampler, which learns by the eyes of the teacher.

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
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.devices import pick_device
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.images import to_pictures
from code_crops import SHOWN_BYTES
from data import CONFIG, Shards, read_config
from eyes import Eyes
from learning import (
    Learning,
    autocast,
    canvases,
    draw,
    enlarged,
    kept_canvases,
    open_crops,
    open_kept,
    psnr,
)
from teacher import SIDE, read_teacher
from tune_decoder import TUNED_FILE

WHOLE_FILE = "whole.safetensors"

_STANDARD = 128  # pictures that the eyes' features are standardised over
_REGIONS = (10, 5)  # sides of the regions of the two fine levels, in their pixels
_SHEET = 10  # pictures across


@dataclass(frozen=True)
class Squares:
    """N squares of photographs, and of canvases of what one stream of each decodes to.

    Attributes:
        small: (N, 3, S, S), of the canvases.
        vectors: (N, D).
        real: (N, 3, 4 S, 4 S), of the photographs.
        window: affine maps (N, 2, 3), through which the eyes look at those.
    """

    small: Tensor
    vectors: Tensor
    real: Tensor
    window: Tensor


def draw_squares(
    crops: Shards, rows: np.ndarray, step: int, decoder: DiffusionDecoder, config: dict[str, Any]
) -> Squares:
    """Those of a step, of some ``rows``: everything random in them comes from (seed, step)."""
    rng, count, side = np.random.default_rng([config["seed"], step]), config["batch_size"], config["square"]
    batch = draw(crops, rows, rng, config)
    corners = rng.integers(0, decoder.image_size - side + 1, (count, 2))
    steps = int(rng.integers(1, 3))
    small = canvases(decoder, batch.vectors, batch.planes, steps, count * step)
    return Squares(
        squares(small, corners, side, 1),
        batch.vectors,
        squares(batch.pictures, corners, side, Upsampler.factor),
        torch.from_numpy(_windows(count, rng)).to(small.device),
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


def losses(painted: Tensor, given: Squares, eyes: Eyes, config: dict[str, Any]) -> dict[str, Tensor]:
    """What separates painted pictures from the photographs that they stand for, by name."""
    real = given.real
    found = {
        "low": F.mse_loss(F.avg_pool2d(painted, 8), F.avg_pool2d(real, 8)),
        "error": (painted - real).abs().mean(),
    }
    bands = zip(energies(painted), energies(real), strict=True)
    found["energy"] = torch.stack([(a - b).abs().mean() for a, b in bands]).sum()
    with autocast(real.device):
        with torch.no_grad():
            wanted, taught = eyes(shown(real, given.window))
        seen, said = eyes(shown(painted, given.window))
    wanted, seen = ([level.float() for level in levels] for levels in (wanted, seen))
    coarse = zip(config["levels"], seen, wanted, strict=True)
    found["features"] = torch.stack([weight * F.mse_loss(a, b) for weight, a, b in coarse]).sum()
    fine = zip(statistics(seen), statistics(wanted), strict=True)
    found["statistics"] = torch.stack([F.mse_loss(a, b) for a, b in fine]).sum()
    said, taught = (logits.float().log_softmax(1) for logits in (said, taught))
    found["said"] = F.kl_div(said, taught, reduction="batchmean", log_target=True)
    return {name: config["weights"][name] * loss for name, loss in found.items()}


@torch.no_grad()
def look(
    upsampler: nn.Module,
    decoder: DiffusionDecoder,
    eyes: Eyes,
    kept: dict[str, Tensor],
    sheet: Path,
    size: int,
) -> str:
    """What it makes of photographs that were kept out: PSNR, and what the eyes name."""
    originals = kept["images"].permute(0, 3, 1, 2).float() / 127.5 - 1
    series = {"original": originals}
    for steps in (1, 2):
        small, vectors, planes = kept_canvases(decoder, kept, size, steps)
        with autocast(vectors.device):
            parts = zip(torch.split(small, 20), torch.split(vectors, 20), strict=True)
            series[f"{steps} steps"] = torch.cat([upsampler(*part) for part in parts]).float()
        series["layout"] = planes[:, :3]
    found = []
    for name, unclipped in series.items():
        large = series[name] = enlarged(unclipped, originals)
        seen = F.interpolate(large, (SIDE, SIDE), mode="bilinear", antialias=True)
        with autocast(seen.device):
            logits = torch.cat([eyes(part)[1].float() for part in torch.split(seen, 25)])
        right = (logits.topk(5).indices == kept["classes"][:, None]).any(1)
        told = f"detail {detail(large, originals, 24):.2f}, named {right.float().mean():.0%}"
        found.append(f"{name} {psnr(large, originals):.2f} dB, {told}")
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


def begun(path: Path | None, config: dict[str, Any], dim: int) -> Upsampler:
    """The upsampler to begin with: new, or with the weights of a decoder's."""
    torch.manual_seed(config["seed"])
    upsampler = Upsampler(config["channels"], config["blocks"], dim)
    if path is not None:
        earlier = load_decoder(path).upsampler
        if earlier is None:
            raise SystemExit(f"{path} has no upsampler")
        upsampler.load_state_dict(upsampler.state_dict() | earlier.state_dict())
    return upsampler


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

    crops, kept = open_crops(args.out, device), open_kept(args.out, device)
    rows = np.flatnonzero(~np.concatenate([np.load(file) for file in crops.files("small")]))
    decoder = load_decoder(args.out / "decoder" / TUNED_FILE, device)
    standard = draw_squares(crops, rows, 10**9, decoder, config | {"batch_size": _STANDARD})
    eyes = Eyes(read_teacher(args.teacher), shown(standard.real, standard.window)).to(device)
    upsampler = begun(args.init, config, decoder.space.dim).to(device)
    upsampler.to(memory_format=torch.channels_last)
    learning = Learning(upsampler, config, args.out / "upsampler.pt")
    print(f"{len(rows)} crops of photographs, at step {learning.step}", flush=True)

    def step_losses(step: int) -> dict[str, Tensor]:
        given = draw_squares(crops, rows, step, decoder, config)
        with autocast(device):
            painted = upsampler(given.small, given.vectors).float()
        return losses(painted, given, eyes, config)

    def seen(name: str, size: int) -> str:
        return look(learning.average, decoder, eyes, kept, args.out / f"upsampler-{name}.png", size)

    learning.run(step_losses, lambda step: seen(str(step), 140))
    for size in SHOWN_BYTES:
        print(seen(str(size), size), flush=True)
    whole = dataclasses.replace(decoder, upsampler=learning.average)
    save_decoder(args.out / "decoder" / WHOLE_FILE, whole)


if __name__ == "__main__":
    main()
