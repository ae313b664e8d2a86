"""Stage 4: the learned upsampler, from the decoder's canvas to four times its side.

Learned from photographs alone: first by the absolute error, then against a discriminator that sees patches
of the result beside a bicubic enlargement of what it was made from (conditional PatchGAN, Isola et al. 2017;
hinge loss, Lim & Ye 2017; spectral normalisation, Miyato et al. 2018; feature matching, Wang et al. 2018,
pix2pixHD, eq. 4). Inputs are thumbnails, blurred and noised a little, since a decoder's canvas is no perfect
one (conditioning augmentation, Ho et al. 2022, Cascaded Diffusion Models). In the last part of the training,
half of them are what the decoder of stage 3 makes of the same photographs, beginning from thumbnails under
noise: a canvas that begins from noise alone differs from its photograph in all that the stream does not say,
and an upsampler that is held to the photograph there learns to blur.

Run again after an interruption, it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.decoders.options import OUR_SAMPLING
from clip_feature_codec.devices import autocast_dtype, pick_device
from clip_feature_codec.diffusion.unet import layout_planes
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.files import atomic_writer
from clip_feature_codec.images import to_pictures
from clip_feature_codec.names import DECODER_FILE
from data import CONFIG, as_batch, load_pictures, read_config


class Discriminator(nn.Module):
    """Real or painted, for overlapping patches of 47 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [6, channels, 2 * channels, 4 * channels]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in itertools.pairwise(widths)
        )
        self.head = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, pictures: Tensor, enlarged: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pictures and the enlarged inputs (N, 3, H, W) -> scores (N, 1, H / 8, W / 8), features."""
        # What an enlargement does not show is small: shown apart, and enlarged as well.
        x = torch.cat([pictures, 4 * (pictures - enlarged)], dim=1)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x), features


def crops(
    images: np.ndarray, painted: np.ndarray, count: int, side: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Random squares of photographs and the same of their canvases, mirrored half of the time.

    Args:
        images: uint8 (N, F S, F S, 3), F being the upsampler's factor.
        painted: uint8 (N, S, S, 3).
        count: how many.
        side: of the photographs' squares.
        rng: draws.

    Returns:
        float32 in [-1, 1], (count, 3, side, side) and (count, 3, side / F, side / F).
    """
    factor = Upsampler.factor
    rows = rng.integers(0, len(images), count)
    corners = rng.integers(0, painted.shape[1] - side // factor + 1, (count, 2))
    turns = rng.choice([-1, 1], count)

    def cut(source: np.ndarray, scale: int) -> Tensor:
        width = side * scale // factor
        squares = [
            source[i, scale * y : scale * y + width, scale * x : scale * x + width][:, ::turn]
            for i, (y, x), turn in zip(rows, corners, turns, strict=True)
        ]
        return as_batch(np.stack(squares))

    return cut(images, factor), cut(painted, 1)


@torch.no_grad()
def repainted(
    decoder: DiffusionDecoder,
    small: Tensor,
    vectors: Tensor,
    planes: Tensor,
    start: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Drown pictures in noise in part, and paint them from there (SDEdit, Meng et al. 2022).

    Args:
        decoder: paints, with the guidance that is the default.
        small: pictures (N, 3, S, S) in [-1, 1], S being the decoder's size.
        vectors: their CLIP vectors (N, D).
        planes: their layouts, as `layout_planes` gives them.
        start: timesteps (N,) to begin from.
        generator: of the noise.

    Returns:
        Pictures as ``small``.
    """
    unet, scheduler = decoder.unet, decoder.scheduler
    residual = unet.residual(planes, small.shape[-2:])
    noise = torch.randn(small.shape, generator=generator).to(small.device)
    x0 = residual.of(small)
    for i in range(OUR_SAMPLING.steps):
        t = start * (OUR_SAMPLING.steps - i) // OUR_SAMPLING.steps
        x = scheduler.q_sample(x0, t, noise)
        output = torch.lerp(
            unet(x, torch.zeros_like(vectors), t, planes), unet(x, vectors, t, planes), OUR_SAMPLING.guidance
        )
        x0 = residual.of(residual.picture(scheduler.predict_x0(x, t, output)).clamp(-1.0, 1.0))
        noise = scheduler.predict_eps(x, t, x0)
    return residual.picture(x0)


def painted_canvases(
    work: Path, photographs: np.ndarray, start: tuple[float, float], device: torch.device
) -> np.ndarray:
    """What the decoder makes of photographs, the last pictures of its training data.

    Args:
        work: folder of stage 3; the result is kept there.
        photographs: uint8 (N, F S, F S, 3), F being the upsampler's factor.
        start: where the painting begins, drawn from this range for each: shares of all timesteps.
        device: to paint on.

    Returns:
        uint8 (N, S, S, 3).
    """
    decoder = load_decoder(work / "decoder" / DECODER_FILE, device)
    low, high = (round(share * decoder.scheduler.timesteps) for share in start)
    kept = work / f"painted-{decoder.extra['steps']}-{low}to{high}.npy"
    if kept.exists():
        found: np.ndarray = np.load(kept)
        return found
    (conditions,) = work.glob("conditions-*.npz")
    with np.load(conditions) as arrays:
        vectors = torch.from_numpy(arrays["vectors"][-len(photographs) :])
        layouts = torch.from_numpy(arrays["layouts"][-len(photographs) :])
    generator = torch.Generator().manual_seed(0)
    canvases = []
    for first in range(0, len(photographs), 64):
        rows = torch.arange(first, min(first + 64, len(photographs)))
        version = rows % vectors.shape[1]
        canvases += to_pictures(
            repainted(
                decoder,
                shrink(as_batch(photographs[rows], device)),
                vectors[rows, version].to(device),
                layout_planes(layouts[rows, version], torch.ones(len(rows), dtype=torch.bool)).to(device),
                torch.randint(low, high + 1, (len(rows),), generator=generator).to(device),
                generator,
            )
        )
    painted = np.stack([np.asarray(canvas) for canvas in canvases])
    with atomic_writer(kept) as file:
        np.save(file, painted)
    return painted


def shrink(x: Tensor) -> Tensor:
    """What a perfect decoder would paint of the pictures."""
    small: Tensor = F.interpolate(x, scale_factor=1 / Upsampler.factor, mode="bicubic", antialias=True)
    return small


def worn(small: Tensor, config: dict[str, Any], generator: torch.Generator) -> Tensor:
    """The same with some blur and some noise, of a strength that differs from picture to picture."""
    shape = (len(small), 1, 1, 1)
    soft = F.avg_pool2d(F.pad(small, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    small = torch.lerp(small, soft, config["blur"] * torch.rand(shape, generator=generator))
    noise = torch.randn(small.shape, generator=generator)
    worse: Tensor = small + noise * config["noise"] * torch.rand(shape, generator=generator)
    return worse


def draw(images: np.ndarray, painted: np.ndarray, step: int, config: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The batch of a step: squares of photographs, and what the upsampler is to make them of."""
    rng, generator = np.random.default_rng([config["seed"], step]), torch.Generator().manual_seed(step)
    real, canvases = crops(images, painted, config["batch_size"], config["crop"], rng)
    small = worn(shrink(real), config, generator)
    if step >= config["painted_from"] * config["steps"]:
        small[::2] = canvases[::2]
    return real, small


def detail(painted: Tensor, real: Tensor, cycles: float) -> float:
    """Ratio of the spectral energy above so many cycles per picture, geometric mean over (N, 3, H, W)."""

    def energy(x: Tensor) -> Tensor:
        down, across = (torch.fft.fftfreq(side, 1 / side, device=x.device) for side in x.shape[-2:])
        high = torch.hypot(down[:, None], across) > cycles
        power: Tensor = (torch.fft.fft2(x.mean(1)).abs().square() * high).sum((1, 2))
        return power

    return float((energy(painted) / energy(real)).log().mean().exp())


class State:
    """Everything that the training changes, and its checkpoint."""

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        torch.manual_seed(config["seed"])
        self.upsampler = Upsampler(config["channels"], config["blocks"]).to(device)
        self.discriminator = Discriminator(config["discriminator"]).to(device)
        for network in (self.upsampler, self.discriminator):
            network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.upsampler).requires_grad_(False)
        self.painter = torch.optim.AdamW(self.upsampler.parameters(), betas=(0.5, 0.99), weight_decay=0.0)
        self.judge = torch.optim.AdamW(self.discriminator.parameters(), betas=(0.5, 0.99), weight_decay=0.0)
        self.step = 0

    def parts(self) -> dict[str, Any]:
        """What the checkpoint holds beside the number of steps."""
        names = ("upsampler", "discriminator", "average", "painter", "judge")
        return {name: getattr(self, name) for name in names}

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        with atomic_writer(path) as file:
            torch.save({"step": self.step, "config": self.upsampler.config} | states, file)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        content = torch.load(path, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(content[name])
        self.step = content["step"]


def train_step(state: State, real: Tensor, small: Tensor, config: dict[str, Any]) -> dict[str, Tensor]:
    """One step of both networks; the discriminator joins after the warm-up."""
    enlarged = F.interpolate(small, scale_factor=float(Upsampler.factor), mode="bicubic")
    dtype = autocast_dtype(real.device)
    autocast = torch.autocast(real.device.type, dtype=dtype, enabled=dtype is not None)
    fooling = state.step >= config["warmup_steps"]
    with autocast:
        painted = state.upsampler(small)
    losses = {"error": F.l1_loss(painted.float(), real)}
    if fooling:
        with autocast:
            score_real, _ = state.discriminator(real, enlarged)
            score_painted, _ = state.discriminator(painted.detach(), enlarged)
        hinge = F.relu(1 - score_real.float()).mean() + F.relu(1 + score_painted.float()).mean()
        state.judge.zero_grad()
        hinge.backward()  # type: ignore[no-untyped-call]
        state.judge.step()
        state.discriminator.requires_grad_(False)
        with autocast:
            score, features = state.discriminator(painted, enlarged)
            with torch.no_grad():
                _, wanted = state.discriminator(real, enlarged)
        state.discriminator.requires_grad_(True)
        distances = [F.l1_loss(a.float(), b.float()) for a, b in zip(features, wanted, strict=True)]
        losses["features"] = torch.stack(distances).sum()
        losses["fooled"] = -score.float().mean()
    weights = {"error": 1.0, "features": config["feature_weight"], "fooled": config["adversarial_weight"]}
    state.painter.zero_grad()
    torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.upsampler.parameters(), 1.0)
    state.painter.step()
    with torch.no_grad():
        decay = min(config["ema_decay"], (1 + state.step) / (10 + state.step))
        for mean, value in zip(state.average.parameters(), state.upsampler.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
    if fooling:
        losses["hinge"] = hinge
    return {name: loss.detach() for name, loss in losses.items()}


def look(state: State, images: np.ndarray, painted: np.ndarray, device: torch.device) -> str:
    """PSNR and detail of the averaged weights on whole pictures, from thumbnails and from canvases."""
    real = as_batch(images, device)
    found = []
    for name, small in (("thumbnails", shrink(real)), ("canvases", as_batch(painted, device))):
        with torch.no_grad():
            large = torch.cat([state.average(part) for part in torch.split(small, 4)]).clamp(-1, 1)
        psnr = (10 * torch.log10(4 / (large - real).square().mean((1, 2, 3)))).mean().item()
        found.append(f"from {name} {psnr:.2f} dB, detail {detail(large, real, 24):.2f}")
    return "; ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="photographs: the last of stage 3's --data"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of stage 3; gets upsampler.pt")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    recipe = read_config(args.config)
    config, device = recipe["upsampler"], pick_device(args.device)

    images = load_pictures(args.data, Upsampler.factor * recipe["decoder"]["out_size"]).images
    painted = painted_canvases(args.out, images, config["start"], device)
    shown = config["shown"]
    state = State(config, device)
    checkpoint = args.out / "upsampler.pt"
    if checkpoint.exists():
        state.load(checkpoint)
    began, first = time.time(), state.step
    while state.step < config["steps"]:
        real, small = draw(images[shown:], painted[shown:], state.step, config)
        for group in (*state.painter.param_groups, *state.judge.param_groups):
            group["lr"] = config["lr"] * min(1.0, 4 * (1 - state.step / config["steps"]))
        losses = train_step(state, real.to(device), small.to(device), config)
        state.step += 1
        if state.step % 50 == 0:
            values = ", ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            speed = (state.step - first) / (time.time() - began)
            print(f"step {state.step}/{config['steps']}: {values}, {speed:.2f} steps/s", flush=True)
        if state.step % 500 == 0 or state.step == config["steps"]:
            state.save(checkpoint)
            print(look(state, images[:shown], painted[:shown], device), flush=True)


if __name__ == "__main__":
    main()
