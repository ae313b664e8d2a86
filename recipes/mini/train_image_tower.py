"""Stage 2: the image tower of the compact CLIP, learned from the teacher.

The tower begins as the teacher itself (`teacher.py`) at a smaller input, with a linear projection in place of
its classifier: the directions in which the teacher's logits vary most, and those in which the picture's
8x8 thumbnail does, which the tower has beside the teacher's features (its glimpse). Cosines with learned
prototypes of the 1,000 classes then have to say what the teacher says of the same crop at its full size, from
vectors under the noise that coding brings; and a linear head has to give the thumbnail back, so that the
vector keeps what a thing looks like beside what it is. The head is thrown away; the prototypes are what
the text tower is fitted to.

Batch norms are folded into the convolutions all the while. Run again after an interruption, it goes on from
its last checkpoint.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip_feature_codec.devices import autocast_dtype, pick_device
from clip_feature_codec.embed.openclip.glimpse import SIDE
from clip_feature_codec.files import atomic_writer
from data import CONFIG, Shards, as_batch, load_pictures, read_config
from teacher import CLASSES, fold_norms, known_classes, read_names, read_teacher

_LABELLED = 2048  # crops whose logits the first projection is made from


class Student(nn.Module):
    """The image tower with its two training heads: class prototypes and the thumbnail.

    Attributes:
        visual: the tower as open_clip builds it.
        prototypes: (1000, D), of any length.
    """

    def __init__(self, model_config: dict[str, Any]) -> None:
        super().__init__()
        dim = model_config["embed_dim"]
        self.visual: Any = open_clip.CLIP(**model_config).visual
        fold_norms(self.visual.trunk)
        self.prototypes = nn.Parameter(torch.randn(CLASSES, dim))
        self.thumbnail = nn.Linear(dim, 3 * 8 * 8)
        self.log_scale = nn.Parameter(torch.tensor(math.log(16.0)))

    @torch.no_grad()
    def begin(self, teacher: Path, features: Tensor, looks: int, share: float) -> None:
        """Take over the teacher's weights; what varies most in its logits and in looks is the projection.

        Args:
            teacher: the quantised file.
            features: what the projection is given for some pictures: the teacher's features (N, 1280) and
                their glimpses (N, 192).
            looks: how many of the vector's numbers are the glimpse's main directions at first.
            share: of the vectors' variance that is the glimpse's.
        """
        network = read_teacher(teacher)
        weight = network.classifier.weight - network.classifier.weight.mean(0)
        fold_norms(network)
        weights = {key: value for key, value in network.state_dict().items() if "classifier" not in key}
        self.visual.trunk.network.load_state_dict(weights)
        known, glimpses = torch.tensor_split(features - features.mean(0), [weight.shape[1]], dim=1)
        said = _main_directions(known @ weight.T, self.prototypes.shape[1] - looks)
        seen = _main_directions(glimpses, looks)
        louder = (known @ weight.T @ said.T).square().sum() / (glimpses @ seen.T).square().sum()
        seen = (louder * share / (1 - share)).sqrt() * seen
        projection = torch.cat(
            [F.pad(said @ weight, (0, seen.shape[1])), F.pad(seen, (weight.shape[1], 0))], dim=0
        )
        self.visual.head.proj.weight.copy_(projection)
        self.visual.head.proj.bias.copy_(-projection @ features.mean(0))
        self.prototypes.copy_(F.pad(said.T, (0, looks)))
        nn.init.zeros_(self.thumbnail.weight)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, S, S) in [-1, 1] -> class logits (N, 1000), thumbnails (N, 3, 8, 8) in [-1, 1].

        ``noise`` (N, D) is added to the unit vectors.
        """
        z = F.normalize(self.visual(x).float(), dim=-1)
        z = F.normalize(z + noise, dim=-1)
        logits = self.log_scale.exp() * z @ F.normalize(self.prototypes, dim=-1).T
        return logits, self.thumbnail(z * z.shape[1] ** 0.5).view(-1, 3, 8, 8)


def _main_directions(rows: Tensor, count: int) -> Tensor:
    """Orthonormal directions (count, D) in which rows (N, D) of mean 0 vary most."""
    found: Tensor = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1).T[:count]
    return found


def losses(
    model: Student, batch: dict[str, Tensor], noise: Tensor, config: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Divergence from the teacher and the names (nats), squared error of the thumbnails."""
    images, taught, classes = batch["images"], batch["logits"].float(), batch["classes"].long()
    x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    dtype = autocast_dtype(x.device) if x.device.type == "cuda" else None
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
        logits, thumbnail = model(x.contiguous(memory_format=torch.channels_last), noise)
    named = (classes >= 0).float()[:, None] * config["name_weight"]
    target = torch.lerp(taught.softmax(1), F.one_hot(classes.clamp(0), CLASSES).float(), named)
    divergence = F.kl_div(logits.float().log_softmax(1), target, reduction="batchmean")
    return divergence, F.mse_loss(thumbnail.float(), F.adaptive_avg_pool2d(x, 8))


def parameter_groups(model: Student) -> list[dict[str, Any]]:
    """A group for each tensor with the factor of its learning rate: the size of what it begins with.

    The teacher's layers differ a hundredfold in scale, and Adam's steps do not. The thumbnail's begins at 0.
    """
    return [
        {"params": [tensor], "factor": 0.5 if name.startswith("thumbnail") else _size(tensor)}
        for name, tensor in model.named_parameters()
    ]


def _size(tensor: Tensor) -> float:
    return max(0.01, tensor.detach().square().mean().sqrt().item())


def frozen(model: Student, blocks: int) -> Iterator[nn.Parameter]:
    """The tensors of the stem and of the first blocks."""
    trunk = model.visual.trunk.network
    if blocks:
        yield from trunk.conv_stem.parameters()
        yield from trunk.blocks[:blocks].parameters()


def learning_rate(step: int, config: dict[str, Any]) -> float:
    """Linear warm-up times a half cosine down to 0."""
    warm: float = min(1.0, (step + 1) / config["warmup_steps"])
    highest: float = config["lr"]
    return highest * warm * 0.5 * (1 + math.cos(math.pi * step / int(config["steps"])))


class Training:
    """Everything that the training changes, and its checkpoint."""

    def __init__(self, config: dict[str, Any], crops: Shards, device: torch.device) -> None:
        torch.manual_seed(config["seed"])
        self.config, self.crops, self.device, self.step = config, crops, device, 0
        self.model = Student(config["model"])
        self.model.to(device).to(memory_format=torch.channels_last)
        if config["compile"]:
            self.model.compile()
        self._prepare()

    def _prepare(self) -> None:
        groups = parameter_groups(self.model)  # they depend on the weights
        self.optimizer = torch.optim.AdamW(groups, weight_decay=self.config["weight_decay"])

    def begin(self, teacher: Path) -> None:
        """Begin as the teacher."""
        features = _teacher_features(teacher, self.crops, self.device)
        self.model.begin(teacher, features, self.config["looks"], self.config["looks_share"])
        self._prepare()

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        states = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        with atomic_writer(path) as file:
            torch.save({"step": self.step} | states, file)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        content = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step = content["step"]

    def advance(self) -> tuple[float, float]:
        """One step; everything random in it comes from (seed, step)."""
        config, device = self.config, self.device
        rng = np.random.default_rng([config["seed"], self.step])
        batch = self.crops.take(rng.integers(0, len(self.crops), config["batch_size"]))
        strength = rng.uniform(0, config["noise"], (config["batch_size"], 1))
        dim = config["model"]["embed_dim"]
        drawn = strength * rng.standard_normal((config["batch_size"], dim)) / dim**0.5
        noise = torch.from_numpy(drawn).float().to(device)
        still = self.step < config["frozen"][1] * config["steps"]
        for tensor in frozen(self.model, config["frozen"][0]):
            tensor.requires_grad_(not still)
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(self.step, config)
        divergence, appearance = losses(self.model, batch, noise, config)
        self.optimizer.zero_grad()
        (divergence + config["appearance_weight"] * appearance).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        return divergence.item(), appearance.item()

    @torch.no_grad()
    def look(self, images: np.ndarray, classes: np.ndarray) -> str:
        """How often the prototypes name pictures that were kept out, without noise and with the most."""
        found = []
        generator = torch.Generator().manual_seed(0)
        x, dim = as_batch(images, self.device), self.config["model"]["embed_dim"]
        for strength in (0.0, self.config["noise"]):
            noise = strength / dim**0.5 * torch.randn(len(x), dim, generator=generator)
            logits, thumbnail = self.model(x, noise.to(x.device))
            right = logits.topk(5).indices.cpu() == torch.from_numpy(classes)[:, None]
            error = F.mse_loss(thumbnail, F.adaptive_avg_pool2d(x, 8)).item()
            found.append(
                f"noise {strength}: top-1 {right[:, 0].float().mean():.1%}, "
                f"top-5 {right.any(1).float().mean():.1%}, thumbnail {10 * math.log10(4 / error):.2f} dB"
            )
        return "kept out, " + "; ".join(found)


@torch.no_grad()
def _teacher_features(teacher: Path, crops: Shards, device: torch.device) -> Tensor:
    """What the projection is given for the first crops, at the student's size: (N, 1280 + 192)."""
    network = read_teacher(teacher).to(device)
    found = []
    for first in range(0, min(_LABELLED, len(crops)), 64):
        images = crops.take(np.arange(first, min(first + 64, len(crops))))["images"]
        images = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        known = network.forward_head(network.forward_features(images), pre_logits=True)
        found.append(torch.cat([known, F.adaptive_avg_pool2d(images, SIDE).flatten(1)], dim=1).cpu())
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--teacher", type=Path, required=True, help="as for stage 1")
    parser.add_argument("--labels", type=Path, required=True, help="its classes, a line each")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="those of stage 1")
    parser.add_argument("--out", type=Path, required=True, help="folder of stage 1; gets image_tower.pt")
    parser.add_argument("--init", type=Path, help="an earlier training's image_tower.pt to begin with")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop then, to be gone on with")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    recipe = read_config(args.config)
    config, device = recipe["clip"], pick_device(args.device)
    crops = Shards(args.out / "crops-tower", ("images", "logits", "classes"), device)

    photos = load_pictures(args.photos, recipe["crops"]["tower"]["side"])
    classes = known_classes(photos, read_names(args.labels))
    kept_out = np.flatnonzero(classes >= 0)[-recipe["crops"]["kept_out"] :]
    training = Training(config, crops, device)
    checkpoint = args.out / "image_tower.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    elif args.init is not None:
        training.model.load_state_dict(torch.load(args.init, weights_only=True)["model"])
    else:
        training.begin(args.teacher)
    print(f"{len(crops)} crops, at step {training.step} of {config['steps']}", flush=True)
    began, saved, first = time.time(), time.time(), training.step
    while training.step < config["steps"] and time.time() - began < 60 * args.minutes:
        divergence, appearance = training.advance()
        if training.step % 50 == 0:
            speed = (training.step - first) * config["batch_size"] / (time.time() - began)
            print(
                f"step {training.step}: divergence {divergence:.3f}, thumbnail "
                f"{10 * math.log10(4 / appearance):.2f} dB, {speed:.0f} crops/s",
                flush=True,
            )
        if training.step % 500 == 0:
            print(training.look(photos.images[kept_out], classes[kept_out]), flush=True)
        if time.time() - saved > config["checkpoint_seconds"]:
            training.save(checkpoint)
            saved = time.time()
    training.save(checkpoint)
    print(training.look(photos.images[kept_out], classes[kept_out]), flush=True)


if __name__ == "__main__":
    main()
