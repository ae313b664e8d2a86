"""Stage 5: the painter, a decoder of one step, trained by the teacher's eyes.

The mean is held to the picture by the squared error. The detail on top of it is held to what the teacher
sees on several levels, to what it says of the picture, and to critics of its features that are told of the
vector. Both the painted and the true picture are shown to the teacher through the same random window, so that
only what survives a small change counts. Small pictures are judged at 64 pixels.

Run again after an interruption, it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.devices import autocast_dtype, pick_device
from clip_feature_codec.diffusion.unet import layout_planes
from clip_feature_codec.files import atomic_writer, write_atomic
from clip_feature_codec.images import to_pictures
from clip_feature_codec.names import CODEC_FILE
from code_crops import coded_names
from data import CONFIG, Shards, read_config
from painter import Critic, Painter, TeacherEyes, enlarged

_STANDARD = 256  # pictures that the teacher's features are standardised over
_SHEET = 12  # pictures across
_NETWORKS = ("painter", "critic", "average")


@dataclass(frozen=True)
class Batch:
    """N pictures with what one stream of each decodes to.

    Attributes:
        pictures: (N, 3, 128, 128) in [-1, 1].
        small: bool (N,): these have no more than 64 pixels.
        taught: the teacher's logits (N, 1000).
        vectors, planes, noise: as `Painter` takes them.
        window: affine maps (N, 2, 3), through which the teacher looks.
    """

    pictures: Tensor
    small: Tensor
    taught: Tensor
    vectors: Tensor
    planes: Tensor
    noise: Tensor
    window: Tensor


def draw(crops: Shards, step: int, count: int, config: dict[str, Any], device: torch.device) -> Batch:
    """The batch of a step: everything random in it comes from (seed, step)."""
    rng = np.random.default_rng([config["seed"], step])
    images, logits, small, coded, layouts = crops.take(rng.integers(0, len(crops), count)).values()
    rows = torch.arange(count, device=device)
    version = torch.from_numpy(rng.integers(0, coded.shape[1], count)).to(device)
    kept = rng.random((2, count)) >= np.array(config["dropout"])[:, None]
    kept[1] |= ~kept[0]  # one of the two at least
    told, laid = torch.from_numpy(kept).to(device)
    return Batch(
        images.permute(0, 3, 1, 2).float() / 127.5 - 1,
        small,
        logits.float(),
        coded[rows, version].float() * told[:, None],
        layout_planes(layouts[rows, version], laid),
        _noise(count, rng).to(device),
        torch.from_numpy(_windows(count, rng)).to(device),
    )


def _noise(count: int, rng: np.random.Generator) -> Tensor:
    side = Painter.layout_side
    return torch.from_numpy(rng.standard_normal((count, 1, side, side), np.float32))


def _windows(count: int, rng: np.random.Generator) -> np.ndarray:
    """Affine maps (N, 2, 3): up to a fifth nearer or farther, moved, mirrored half of the time."""
    scale = np.exp(rng.uniform(-0.2, 0.2, (count, 1))) * np.exp(rng.uniform(-0.05, 0.05, (count, 2)))
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = scale[:, 0] * rng.choice([-1, 1], count)
    theta[:, 1, 1] = scale[:, 1]
    theta[:, :, 2] = rng.uniform(-0.15, 0.15, (count, 2))
    return theta


def shown(pictures: Tensor, batch: Batch) -> Tensor:
    """Pictures as the teacher gets to see them: (N, 3, S, S)."""
    coarse = enlarged(F.avg_pool2d(pictures, 2))
    pictures = torch.where(batch.small[:, None, None, None], coarse, pictures)
    grid = F.affine_grid(batch.window, list(pictures.shape), align_corners=False)
    seen: Tensor = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return seen


class State:
    """Everything that the training changes, and its checkpoint."""

    def __init__(self, config: dict[str, Any], dim: int, device: torch.device) -> None:
        torch.manual_seed(config["seed"])
        self.painter = Painter(dim, config["widths"], config["fine"]).to(device)
        self.critic = Critic(dim, config["critic"]).to(device)
        for network in (self.painter, self.critic):
            network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.painter).requires_grad_(False)
        if config["compile"]:
            for network in (self.painter, self.critic):
                network.compile()
        betas = (0.9, 0.99)
        self.brush = torch.optim.AdamW(self.painter.parameters(), betas=betas, weight_decay=0.0)
        self.eye = torch.optim.AdamW(self.critic.parameters(), betas=betas, weight_decay=0.0)
        self.step = 0

    def parts(self) -> dict[str, Any]:
        """What the checkpoint holds beside the number of steps."""
        return {name: getattr(self, name) for name in ("painter", "critic", "average", "brush", "eye")}

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        with atomic_writer(path) as file:
            torch.save({"step": self.step, "config": self.painter.config} | states, file)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        content = torch.load(path, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(content[name])
        self.step = content["step"]

    def save_weights(self, path: Path) -> None:
        """Write all weights in float16: a third of the checkpoint, for another machine to begin with."""
        weights = {
            f"{name}.{key}": value.half().cpu().contiguous()
            for name in _NETWORKS
            for key, value in getattr(self, name).state_dict().items()
        }
        write_atomic(path, safetensors_bytes(weights))

    def begin(self, path: Path) -> None:
        """Take over what `save_weights` wrote."""
        weights = load_file(path)
        for name in _NETWORKS:
            own = {
                key.removeprefix(f"{name}."): v for key, v in weights.items() if key.startswith(f"{name}.")
            }
            getattr(self, name).load_state_dict(own)


def train_step(state: State, eyes: TeacherEyes, batch: Batch, config: dict[str, Any]) -> dict[str, Tensor]:
    """One step: at first by the pixels alone, then by the teacher's eyes, then with critics as well."""
    cast = _autocast(batch.pictures.device)
    with cast:
        mean, painted = state.painter(batch.vectors, batch.planes, batch.noise)
    coarse = F.avg_pool2d(batch.pictures, 2)
    # Without a layout a picture is a dozen times as far off: unweighted, nothing else would be learned.
    weights = config["blind"] + (1 - config["blind"]) * batch.planes[:, 3:, :1, :1]
    losses = {
        "mean": (weights * (mean - coarse).square()).mean(),
        "error": (weights * (F.avg_pool2d(painted, 2) - coarse).abs()).mean(),
    }
    told = {}
    if state.step >= config["eyes_from"]:
        with torch.no_grad():
            wanted, _ = eyes(shown(batch.pictures, batch))
        features, said = eyes(shown(painted, batch))
        levels = zip(config["levels"], features, wanted, strict=True)
        losses["features"] = torch.stack([w * F.mse_loss(a, b) for w, a, b in levels]).sum()
        losses["said"] = F.kl_div(said.log_softmax(1), batch.taught.softmax(1), reduction="batchmean")
        if state.step >= config["critics_from"]:
            told["hinge"] = train_critics(state, features, wanted, batch)
            state.critic.requires_grad_(False)
            with cast:
                scores = state.critic(features, batch.vectors)
            state.critic.requires_grad_(True)
            losses["fooled"] = -torch.stack([score.float().mean() for score in scores]).mean()
    state.brush.zero_grad()
    weighted = [config["weights"][name] * loss for name, loss in losses.items()]
    torch.stack(weighted).sum().backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.painter.parameters(), config["longest_gradient"])
    state.brush.step()
    with torch.no_grad():
        decay = min(config["ema_decay"], (1 + state.step) / (10 + state.step))
        for average, value in zip(state.average.parameters(), state.painter.parameters(), strict=True):
            average.lerp_(value, 1 - decay)
    state.step += 1
    return {name: loss.detach() for name, loss in (losses | told).items()}


def train_critics(state: State, features: list[Tensor], wanted: list[Tensor], batch: Batch) -> Tensor:
    """One step of the critics; their loss."""
    with _autocast(batch.pictures.device):
        fake = state.critic([level.detach() for level in features], batch.vectors)
        real = state.critic(wanted, batch.vectors)
    hinges = [
        F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean() for r, f in zip(real, fake, strict=True)
    ]
    hinge = torch.stack(hinges).mean()
    state.eye.zero_grad()
    hinge.backward()  # type: ignore[no-untyped-call]
    state.eye.step()
    return hinge


def _autocast(device: torch.device) -> torch.autocast:
    dtype = autocast_dtype(device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


@torch.no_grad()
def look(state: State, eyes: TeacherEyes, kept_out: dict[str, Tensor], sheet: Path) -> str:
    """What the averaged weights make of photographs that were kept out: PSNR, and the teacher's names."""
    originals = kept_out["images"].permute(0, 3, 1, 2).float() / 127.5 - 1
    planes = layout_planes(kept_out["layouts"], torch.ones(len(originals), dtype=torch.bool))
    planes = planes.to(originals.device)
    noise = _noise(len(originals), np.random.default_rng(0)).to(originals.device)
    parts = [
        state.average(*rows)
        for rows in zip(*(torch.split(x, 20) for x in (kept_out["vectors"], planes, noise)), strict=True)
    ]
    mean, painted = (torch.cat(part) for part in zip(*parts, strict=True))
    layout = F.interpolate(planes[:, :3], originals.shape[-2:], mode="bicubic")
    series = {"layout": layout, "mean": enlarged(mean), "painted": painted, "original": originals}
    found = []
    for name, unclipped in series.items():
        pictures = unclipped.clamp(-1, 1)
        error = (pictures - originals).square().mean((1, 2, 3)).clamp(min=1e-9)
        right = eyes(pictures)[1].topk(5).indices == kept_out["classes"][:, None]
        found.append(
            f"{name} {(10 * torch.log10(4 / error)).mean():.2f} dB, named {right.any(1).float().mean():.0%}"
        )
    rows = [
        torch.cat(list(pictures[:_SHEET]), dim=2) for pictures in (originals, layout, enlarged(mean), painted)
    ]
    to_pictures(torch.cat(rows, dim=1)[None].clamp(-1, 1))[0].save(sheet)
    return "kept out: " + "; ".join(found)


def learning_rate(step: int, config: dict[str, Any]) -> float:
    """Linear warm-up, constant, and a fall to 0 in the last quarter."""
    highest: float = config["lr"]
    left: float = 1 - step / config["steps"]
    return highest * min(1.0, (step + 1) / 200, 4 * left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--teacher", type=Path, required=True, help="as for stage 1")
    parser.add_argument("--out", type=Path, required=True, help="folder of the other stages; gets painter.*")
    parser.add_argument("--init", type=Path, help="an earlier training's painter.safetensors to begin with")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop then, to be gone on with")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    config, device = read_config(args.config)["painter"], pick_device(args.device)

    names = ("images", "logits", "small", *coded_names(FeatureCodec.load(args.out / CODEC_FILE)))
    crops = Shards(args.out / "crops-painter", names, device)
    with np.load(args.out / "kept-out.npz") as arrays:
        kept_out = {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
    eyes = TeacherEyes(args.teacher).to(device)
    eyes.standardise(draw(crops, config["steps"], _STANDARD, config, device).pictures)
    state = State(config, kept_out["vectors"].shape[-1], device)
    checkpoint = args.out / "painter.pt"
    if checkpoint.exists():
        state.load(checkpoint)
    elif args.init is not None:
        state.begin(args.init)
    print(f"{len(crops)} crops, at step {state.step} of {config['steps']}", flush=True)
    began, saved, first = time.time(), time.time(), state.step
    while state.step < config["steps"] and time.time() - began < 60 * args.minutes:
        for optimizer, share in ((state.brush, 1.0), (state.eye, config["critics_lr"])):
            for group in optimizer.param_groups:
                group["lr"] = share * learning_rate(state.step, config)
        batch = draw(crops, state.step, config["batch_size"], config, device)
        losses = train_step(state, eyes, batch, config)
        if state.step % 25 == 0:
            values = ", ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            speed = (state.step - first) * config["batch_size"] / (time.time() - began)
            print(f"step {state.step}: {values}, {speed:.1f} pictures/s", flush=True)
        if state.step % config["look_every"] == 0:
            print(look(state, eyes, kept_out, args.out / "painter.png"), flush=True)
        if time.time() - saved > config["checkpoint_seconds"]:
            state.save(checkpoint)
            saved = time.time()
    state.save(checkpoint)
    state.save_weights(args.out / "painter.safetensors")
    print(look(state, eyes, kept_out, args.out / "painter.png"), flush=True)


if __name__ == "__main__":
    main()
