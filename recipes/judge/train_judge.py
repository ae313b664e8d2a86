"""Train an independent judge of pictures: a small classifier that no stage of the codec has ever seen.

What an evaluation calls ``--judge``: its features measure similarity, KID and FID where no large network is
at hand. It shares neither architecture (a RegNet; the compact CLIP is a ResNet) nor seed nor weights with the
codec, which is never trained against it. The result is a folder in timm's own format.

    python train_judge.py --data SMALL.parquet ... --test VAL.parquet --out judge

Run again after an interruption, it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.models import save_for_hf
from torch import nn

from clip_feature_codec.devices import autocast_dtype, pick_device
from clip_feature_codec.files import atomic_writer

sys.path.insert(0, str(Path(__file__).parents[1] / "mini"))
from data import Pictures, as_batch, load_pictures

SIZE = 64
SEED = 20261123
MODEL = "regnetx_002"
MEAN, STD = 0.5, 0.25
LABEL_SMOOTHING = 0.1
WEIGHT_DECAY = 0.05


def build(classes: int) -> nn.Module:
    model: nn.Module = timm.create_model(MODEL, num_classes=classes)
    return model.to(memory_format=torch.channels_last)


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


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Linear warm-up over the first twentieth, then a half cosine down to 0."""
    warm = min(1.0, (step + 1) / max(1, steps // 20))
    return highest * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def logits_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Class scores (N, C) of pictures (N, 3, S, S) in [-1, 1]."""
    pixels = (((x + 1) / 2 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
    dtype = autocast_dtype(x.device)
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
        scores: torch.Tensor = model(pixels)
    return scores.float()


def train(
    pictures: Pictures, classes: list[str], args: argparse.Namespace, device: torch.device
) -> nn.Module:
    """The loop. Everything random in a step comes from (seed, step), so a resumed run goes on unchanged."""
    index = {name: i for i, name in enumerate(classes)}
    targets = torch.tensor([index[label] for label in pictures.labels])
    torch.manual_seed(SEED)
    model = build(len(classes)).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    state_file, start = args.out / "state.pt", 0
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = int(state["step"])
    began = time.time()
    for step in range(start, args.steps):
        rng = np.random.default_rng([SEED, step])
        picks = rng.integers(0, len(pictures), args.batch_size)
        x = augment(pictures.images[picks], SIZE, 0.7, rng, device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr)
        scores, y = logits_of(model, x), targets[picks].to(device)
        loss = F.cross_entropy(scores, y, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 50 == 0:
            right = (scores.argmax(1) == y).float().mean().item()
            speed = (step + 1 - start) * len(y) / (time.time() - began)
            print(
                f"step {step}/{args.steps}: loss {loss.item():.3f}, {right:.1%} right, {speed:.0f} images/s",
                flush=True,
            )
        if (step + 1) % 200 == 0 or step + 1 == args.steps:
            with atomic_writer(state_file) as file:
                states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save({"step": step + 1} | states, file)
    return model.eval()


def accuracy(model: nn.Module, pictures: Pictures, classes: list[str], device: torch.device) -> float:
    """Share of pictures whose class comes first."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(pictures), 256):
            x = torch.from_numpy(pictures.images[start : start + 256]).to(device).permute(0, 3, 1, 2)
            best = logits_of(model, x.float() / 127.5 - 1).argmax(1).tolist()
            labels = pictures.labels[start : start + 256]
            right += sum(classes[i] == label for i, label in zip(best, labels, strict=True))
    return right / len(pictures)


def save(model: nn.Module, classes: list[str], folder: Path) -> None:
    """Write timm's folder format, weights in float16; its configuration says how pictures are prepared."""
    preprocessing = {
        "input_size": [3, SIZE, SIZE],
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
    }
    described: Any = model.cpu().half().to(memory_format=torch.contiguous_format)
    described.pretrained_cfg = {"architecture": MODEL, "num_classes": len(classes), **preprocessing}
    save_for_hf(described, str(folder), safe_serialization=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="Parquet files or folders")
    parser.add_argument("--test", type=Path, nargs="+", help="pictures that the accuracy is printed for")
    parser.add_argument("--out", type=Path, required=True, help="folder for the result and the checkpoint")
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = pick_device(args.device)
    pictures = load_pictures(args.data, SIZE)
    classes = sorted(set(pictures.labels))
    print(f"{len(pictures)} pictures, {len(classes)} classes", flush=True)
    model = train(pictures, classes, args, device)
    if args.test:
        test = load_pictures(args.test, SIZE)
        print(f"{accuracy(model, test, classes, device):.1%} of {len(test)} test pictures right")
    save(model, classes, args.out)


if __name__ == "__main__":
    main()
