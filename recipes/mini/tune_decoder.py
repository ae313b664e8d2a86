"""Stage 6: the decoder, tuned at the few timesteps that its steps visit.

Training draws all timesteps alike; two steps visit two of them, and what the first of these predicts from
pure noise is the picture of fidelity 1. Here most crops are drawn at those.

Run again after an interruption, it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.devices import pick_device
from clip_feature_codec.diffusion.plans import sampling_plan
from clip_feature_codec.names import DECODER_FILE
from code_crops import SHOWN_BYTES
from data import CONFIG, read_config
from learning import Batch, Learning, autocast, draw, enlarged, kept_canvases, open_crops, open_kept, psnr

TUNED_FILE = "tuned.safetensors"


def draw_timesteps(
    decoder: DiffusionDecoder, visits: list[float], rng: np.random.Generator, count: int
) -> np.ndarray:
    """Timesteps (N,): of ``visits``, the shares of those that as many steps visit; the others anywhere."""
    visited = [step.t for step in sampling_plan("dpm-solver++", decoder.scheduler, len(visits))]
    anywhere = rng.integers(0, decoder.scheduler.timesteps, count)
    chosen = rng.choice(len(visits) + 1, count, p=[*visits, 1 - sum(visits)])
    return np.choose(chosen, [*visited, anywhere])


def loss(decoder: DiffusionDecoder, batch: Batch, t: Tensor, noise: Tensor) -> Tensor:
    """The mean squared error of what the network predicts, see `train.losses.decoder_losses`."""
    side, unet, scheduler = decoder.image_size, decoder.unet, decoder.scheduler
    small = F.avg_pool2d(batch.pictures, batch.pictures.shape[-1] // side)
    residual = unet.residual(batch.planes, (side, side))
    x0 = residual.of(small)
    with autocast(t.device):
        output = unet(scheduler.q_sample(x0, t, noise), batch.vectors, t, batch.planes)
    return F.mse_loss(output.float(), scheduler.target(x0, noise, t))


@torch.no_grad()
def look(decoder: DiffusionDecoder, kept: dict[str, Tensor]) -> str:
    """PSNR of photographs that were kept out, of canvases enlarged: one step's, and two steps'."""
    originals = kept["images"].permute(0, 3, 1, 2).float() / 127.5 - 1
    found = []
    for size in SHOWN_BYTES:
        figures = [
            psnr(enlarged(kept_canvases(decoder, kept, size, steps)[0], originals), originals)
            for steps in (1, 2)
        ]
        found.append(f"{size} bytes {figures[0]:.3f} and {figures[1]:.3f} dB")
    return "kept out: " + ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the other stages; gets tuned decoder"
    )
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    config, device = read_config(args.config)["tuning"], pick_device(args.device)
    crops, kept = open_crops(args.out, device), open_kept(args.out, device)
    decoder = load_decoder(args.out / "decoder" / DECODER_FILE, device)
    learning = Learning(decoder.unet, config, args.out / "tuning.pt")
    tuned = dataclasses.replace(decoder, unet=learning.average)
    print(f"{len(crops)} crops, at step {learning.step}", flush=True)

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([config["seed"], step])
        batch = draw(crops, np.arange(len(crops)), rng, config)
        shown = torch.from_numpy(rng.random(len(batch.planes)) >= config["layout_dropout"]).to(device)
        batch = dataclasses.replace(batch, planes=batch.planes * shown[:, None, None, None])
        t = torch.from_numpy(draw_timesteps(decoder, config["visits"], rng, len(shown))).to(device)
        noise = rng.standard_normal((len(shown), 3, decoder.image_size, decoder.image_size), np.float32)
        return {"error": loss(decoder, batch, t, torch.from_numpy(noise).to(device))}

    learning.run(losses, lambda step: look(tuned, kept))
    print(look(tuned, kept))
    facts = decoder.extra | {"steps": decoder.extra["steps"] + learning.step}
    save_decoder(args.out / "decoder" / TUNED_FILE, tuned, extra=facts)


if __name__ == "__main__":
    main()
