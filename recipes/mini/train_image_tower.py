"""Stage 1: the image tower of the compact CLIP, learned from class names and thumbnails.

Each picture's unit vector is pulled towards a learned prototype of its class (cosine logits and
cross-entropy), and a linear head has to predict the picture's 8x8 thumbnail from it, so that the vector
keeps what a thing looks like beside what it is. Prototypes and head are thrown away afterwards; the text
tower is fitted to the finished vectors by ``fit_text_tower.py``.

Run again after an interruption, it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import nn

from clip_feature_codec.devices import autocast_dtype, pick_device
from clip_feature_codec.files import atomic_writer
from data import CONFIG, Pictures, as_batch, load_pictures, read_config


class Teacher(nn.Module):
    """The image tower with its two training heads: class prototypes and the thumbnail."""

    def __init__(self, model_config: dict[str, Any], classes: int) -> None:
        super().__init__()
        self.clip = open_clip.CLIP(**model_config)
        dim = model_config["embed_dim"]
        self.prototypes = nn.Parameter(torch.randn(classes, dim))
        self.thumbnail = nn.Linear(dim, 3 * 8 * 8)
        self.log_scale = nn.Parameter(torch.tensor(math.log(14.0)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised pictures (N, 3, S, S) -> class logits (N, C), thumbnails (N, 3, 8, 8) in [-1, 1]."""
        z = F.normalize(self.clip.visual(x).float(), dim=-1)
        logits = self.log_scale.exp() * z @ F.normalize(self.prototypes, dim=-1).T
        return logits, self.thumbnail(z * z.shape[1] ** 0.5).view(-1, 3, 8, 8)


def augment(
    images: np.ndarray, size: int, smallest: float, rng: np.random.Generator, device: torch.device
) -> torch.Tensor:
    """Random crops (``smallest`` to 1 of each side), half of them mirrored: uint8 (N, S, S, 3) -> [-1, 1]."""
    n = len(images)
    scale = rng.uniform(smallest, 1.0, (n, 2)).astype(np.float32)
    theta = np.zeros((n, 2, 3), np.float32)
    theta[:, 0, 0] = scale[:, 0] * rng.choice(np.array([-1, 1], np.float32), n)
    theta[:, 1, 1] = scale[:, 1]
    theta[:, :, 2] = rng.uniform(-1, 1, (n, 2)) * (1 - scale)
    x = as_batch(images, device)
    grid = F.affine_grid(torch.from_numpy(theta).to(device), [n, 3, size, size], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument(
        "--small", type=Path, nargs="+", required=True, help="64-px pictures (Parquet, folders)"
    )
    parser.add_argument("--large", type=Path, nargs="*", default=[], help="larger pictures, mixed in")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--init", type=Path, help="an earlier image_tower.pt to begin with")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    config = read_config(args.config)["clip"]

    pools = [load_pictures(args.small, 64)] + ([load_pictures(args.large, 96)] if args.large else [])
    pools = [pool.subset(pool.rows_without(config["held_out"])) for pool in pools]
    classes = sorted({label for pool in pools for label in pool.labels})
    print(f"{[len(pool) for pool in pools]} pictures, {len(classes)} classes", flush=True)
    train(config, pools, classes, args.out, pick_device(args.device), args.init)


def train(
    config: dict[str, Any],
    pools: list[Pictures],
    classes: list[str],
    out: Path,
    device: torch.device,
    init: Path | None = None,
) -> None:
    """The loop. Everything random in a step comes from (seed, step), so a resumed run goes on unchanged."""
    index = {name: i for i, name in enumerate(classes)}
    targets = [torch.tensor([index[label] for label in pool.labels]) for pool in pools]
    large = round(config["batch_size"] * config["large_fraction"]) if len(pools) > 1 else 0
    counts = [config["batch_size"] - large, large][: len(pools)]
    stages = [(size, passes * (len(pools[0]) // counts[0])) for size, passes in config["stages"]]
    sizes = [size for size, steps in stages for _ in range(steps)]

    torch.manual_seed(config["seed"])
    model = Teacher(config["model"], len(classes)).to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config["weight_decay"])
    if init is not None:
        model.load_state_dict(torch.load(init, map_location=device, weights_only=True)["model"])
    start = load_state(out / "image_tower.pt", model, optimizer, device)
    began = time.time()
    for step in range(start, len(sizes)):
        rng = np.random.default_rng([config["seed"], step])
        picks = [rng.integers(0, len(pool), count) for pool, count in zip(pools, counts, strict=True)]
        smallest = float(np.interp(step / len(sizes), (0, 1), config["smallest_crop"]))
        crops = [
            augment(p.images[i], sizes[step], smallest, rng, device)
            for p, i in zip(pools, picks, strict=True)
        ]
        y = torch.cat([t[i] for t, i in zip(targets, picks, strict=True)]).to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, len(sizes), config)
        label_loss, appearance, right = losses(model, torch.cat(crops), y, config)
        optimizer.zero_grad()
        (label_loss + config["appearance_weight"] * appearance).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 50 == 0:
            print(
                f"step {step}/{len(sizes)} {sizes[step]} px: labels {label_loss.item():.3f} "
                f"({right.item():.1%} right), thumbnail {10 * math.log10(4 / appearance.item()):.2f} dB, "
                f"{(step + 1 - start) * len(y) / (time.time() - began):.0f} images/s",
                flush=True,
            )
        if (step + 1) % 200 == 0 or step + 1 == len(sizes):
            with atomic_writer(out / "image_tower.pt") as file:
                states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save({"step": step + 1} | states, file)


def losses(
    model: Teacher, x: torch.Tensor, y: torch.Tensor, config: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cross-entropy of the labels, squared error of the thumbnails, share of the labels that are right."""
    mean, std = (
        torch.tensor(config["preprocess"][name], device=x.device).view(3, 1, 1) for name in ("mean", "std")
    )
    pixels = (((x + 1) / 2 - mean) / std).contiguous(memory_format=torch.channels_last)
    dtype = autocast_dtype(x.device)
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
        logits, thumbnail = model(pixels)
    label_loss = F.cross_entropy(logits.float(), y, label_smoothing=config["label_smoothing"])
    appearance = F.mse_loss(thumbnail.float(), F.adaptive_avg_pool2d(x, 8))
    return label_loss, appearance, (logits.argmax(1) == y).float().mean()


def learning_rate(step: int, steps: int, config: dict[str, Any]) -> float:
    """Linear warm-up times a half cosine down to 0."""
    warm: float = min(1.0, (step + 1) / config["warmup_steps"])
    return float(config["lr"]) * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> int:
    """Go on from a checkpoint if there is one; the number of steps done."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


if __name__ == "__main__":
    main()
