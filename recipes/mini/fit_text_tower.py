"""Stage 3: the text tower, fitted to the finished image vectors; writes the CLIP model of the pack.

A class name's target is the class's prototype, which the image tower learned to point to (`prototypes`). A
word that stands for many classes (`groups.toml`: dog, vehicle, indoors) has the mean of theirs. A name that
only pictures have, such as a piece of clothing, has the mean of theirs, less that of all. A colour or a
brightness has the direction that best tells the pictures that have it from the others (linear discriminant
analysis, Fisher 1936); the difference of their means would point to what else differs, frogs for "green".
Attributes cost no labels: pixels are counted.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from skimage.color import rgb2hsv
from torch import Tensor

import clip_feature_codec.embed.openclip.glimpse  # noqa: F401 (timm finds it by its name)
from clip_feature_codec.devices import pick_device
from clip_feature_codec.embed import Embedder, load_embedder
from clip_feature_codec.files import write_atomic
from data import CONFIG, Pictures, load_pictures, read_config
from teacher import known_classes, read_names, unfold_norms

GROUPS = Path(__file__).with_name("groups.toml")
CLASS_TEMPLATES = ["{c}", "a {c}", "the {c}", "a photo of a {c}", "a picture of a {c}", "an image of the {c}"]
BOTH_TEMPLATES = ["a {a} {c}", "{a} {c}", "a photo of a {a} {c}", "the {a} {c}"]
ATTRIBUTE_TEMPLATES = ["{a}", "something {a}", "a {a} thing", "a {a} picture", "a photo of something {a}"]
PLACE_TEMPLATES = [*ATTRIBUTE_TEMPLATES, "{a}", "a photo taken {a}", "a picture {a}"]

_FEWEST = 20  # pictures of a name, or with an attribute
_SHRINKAGE = 0.3  # of the covariance, towards a multiple of the identity
_BOTH = 0.5  # length of an attribute beside a thing


def attributes(images: np.ndarray) -> dict[str, np.ndarray]:
    """Words for what the pixels show: uint8 (N, S, S, 3) -> word to bool (N,).

    A colour word holds for a picture when at least a fifth of its pixels have that colour.
    """
    hsv = rgb2hsv(images[:, ::6, ::6])
    hue, saturation, value = hsv[..., 0] * 360, hsv[..., 1], hsv[..., 2]
    vivid = (saturation > 0.35) & (value > 0.25)
    hues = {
        "orange": (15, 42),
        "yellow": (42, 70),
        "green": (70, 165),
        "blue": (180, 260),
        "purple": (260, 315),
    }
    masks = {word: vivid & (hue >= low) & (hue < high) for word, (low, high) in hues.items()}
    masks["red"] = vivid & ((hue < 15) | (hue >= 345))
    masks["brown"] = (hue > 10) & (hue < 45) & (saturation > 0.3) & (value > 0.15) & (value <= 0.6)
    masks["black"] = value < 0.15
    masks["white"] = (value > 0.85) & (saturation < 0.12)
    masks["grey"] = (saturation < 0.12) & (value > 0.25) & (value < 0.75)
    words = {word: mask.mean((1, 2)) >= 0.2 for word, mask in masks.items()}
    brightness = value.mean((1, 2))
    return words | {"dark": brightness < 0.3, "bright": brightness > 0.75}


def shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """Pictures uint8 (N, S, S, 3) at another size."""
    size = (side, side)
    return np.stack([np.asarray(Image.fromarray(i).resize(size, Image.Resampling.BICUBIC)) for i in images])


def embed_pictures(embedder: Embedder, images: np.ndarray) -> np.ndarray:
    """Unit vectors float32 (N, D) of pictures uint8 (N, S, S, 3) that have the model's input size."""
    config = embedder.space.preprocessing
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    rows = []
    for start in range(0, len(images), 32):  # more at once do not fit a core's cache
        x = torch.from_numpy(images[start : start + 32]).permute(0, 3, 1, 2)
        rows.append(
            embedder.embed_batch(
                ((x.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
            )
        )
    return np.concatenate(rows)


def read_groups(names: list[list[str]]) -> dict[str, dict[str, list[int]]]:
    """The tables of ``groups.toml``: the numbers of each word's classes."""
    number = {name: i for i, synonyms in reversed(list(enumerate(names))) for name in synonyms}

    def classes(parts: list[Any]) -> list[int]:
        found: set[int] = set()
        for part in parts:
            found |= {number[part]} if isinstance(part, str) else set(range(part[0], part[1] + 1))
        return sorted(found)

    tables = tomllib.loads(GROUPS.read_text())
    return {title: {word: classes(parts) for word, parts in table.items()} for title, table in tables.items()}


class Captions:
    """All captions and their target vectors, unit length."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._targets: list[Tensor] = []

    def add(self, templates: list[str], target: Tensor, times: int = 1, **words: str) -> None:
        """Each template with the words filled in, so many times over."""
        self.texts += [template.format(**words) for template in templates] * times
        self._targets += [target] * (len(templates) * times)

    def targets(self) -> Tensor:
        """Float32 (captions, D)."""
        return F.normalize(torch.stack(self._targets), dim=-1)


def attribute_directions(images: np.ndarray, z: Tensor) -> dict[str, Tensor]:
    """The unit vector (D,) along which the pictures with an attribute differ most from the others, by word.

    Args:
        images: uint8 (N, S, S, 3).
        z: their vectors (N, D).
    """
    spread = torch.cov(z.T)
    spread += _SHRINKAGE * spread.diagonal().mean() * torch.eye(len(spread))
    directions = {}
    for word, holds in attributes(images).items():
        rows = torch.from_numpy(holds)
        if _FEWEST <= rows.sum() <= len(rows) - _FEWEST:
            difference = z[rows].mean(0) - z[~rows].mean(0)
            directions[word] = F.normalize(torch.linalg.solve(spread, difference), dim=0)
    return directions


def write_captions(
    names: list[list[str]],
    held_out: set[str],
    prototypes: Tensor,
    pictured: dict[str, Tensor],
    attributed: dict[str, Tensor],
) -> Captions:
    """Captions of classes, groups of classes, other names and attributes.

    Args:
        names: of each class.
        held_out: classes, by their first names in lower case, of which no caption speaks.
        prototypes: unit vectors of the classes (1000, D).
        pictured: unit vectors (D,) of names that are no classes.
        attributed: unit vectors of attributes.
    """
    captions = Captions()
    targets = {
        tuple(synonyms): prototypes[number]
        for number, synonyms in enumerate(names)
        if synonyms[0].lower() not in held_out
    }
    targets |= {(name,): target for name, target in pictured.items()}
    for synonyms, target in targets.items():
        for name in synonyms:
            captions.add(CLASS_TEMPLATES, target, c=name.lower())
        for word, direction in attributed.items():
            captions.add(BOTH_TEMPLATES[:1], target + _BOTH * direction, a=word, c=synonyms[0].lower())
    groups = read_groups(names)
    for word, classes in groups["things"].items():
        target = F.normalize(prototypes[classes].mean(0), dim=0)
        captions.add(CLASS_TEMPLATES, target, times=8, c=word)
        for colour, direction in attributed.items():
            captions.add(BOTH_TEMPLATES, target + _BOTH * direction, a=colour, c=word)
    for word, classes in groups["places"].items():
        captions.add(PLACE_TEMPLATES, prototypes[classes].mean(0), times=40, a=word)
    for word, direction in attributed.items():
        # Words on their own are few among the captions: repeated, so that they are learned as well.
        captions.add(ATTRIBUTE_TEMPLATES, direction, times=40, a=word)
    return captions


def fit(model: Any, captions: list[str], targets: torch.Tensor, steps: int, device: torch.device) -> None:
    """Train the text tower so that each caption's vector meets its target and no other."""
    tokens = open_clip.SimpleTokenizer(context_length=model.context_length)(captions)
    text = [p for n, p in model.named_parameters() if not n.startswith("visual.")]
    optimizer = torch.optim.AdamW(text, lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for step in range(steps):
        pick = torch.randint(len(captions), (256,), generator=generator)
        goal = targets[pick].to(device)
        out = F.normalize(model.encode_text(tokens[pick].to(device)).float(), dim=-1)
        # Captions of one target are each other's positives: soft labels from the targets themselves.
        soft = (goal @ goal.T * 30).softmax(-1)
        loss = (1 - (out * goal).sum(-1)).mean() + 0.1 * F.cross_entropy(out @ goal.T * 30, soft)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(
                f"step {step}/{steps}: cosine to target {(out * goal).sum(-1).mean().item():.3f}", flush=True
            )
    model.eval()


def save_model(model: Any, config: dict[str, Any], folder: Path) -> None:
    """Write the model in open_clip's folder format, weights in float16."""
    weights = {
        key: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    write_atomic(folder / "open_clip_model.safetensors", safetensors_bytes(weights))
    description = {"model_cfg": config["model"], "preprocess_cfg": config["preprocess"]}
    write_atomic(folder / "open_clip_config.json", json.dumps(description, indent=1).encode() + b"\n")


def build_clip(config: dict[str, Any], learned: dict[str, Tensor]) -> Any:
    """The CLIP model with the image tower of stage 2; the text tower is random yet."""
    torch.manual_seed(config["seed"])
    model = open_clip.CLIP(**config["model"])
    visual = {key.removeprefix("visual."): v for key, v in learned.items() if key.startswith("visual.")}
    trunk = {key.removeprefix("trunk."): v for key, v in visual.items() if key.startswith("trunk.")}
    unfold_norms(trunk, model.visual.trunk)
    model.visual.head.load_state_dict(
        {key.removeprefix("head."): v for key, v in visual.items() if key.startswith("head.")}
    )
    with torch.no_grad():
        model.logit_scale.copy_(learned["log_scale"])
    return model.eval()


def pictured_names(pictures: Pictures, vectors: Tensor, names: list[list[str]]) -> dict[str, Tensor]:
    """Unit vectors (D,) towards the pictures of each name that is no class of the teacher's."""
    unknown = known_classes(pictures, names) < 0
    found = {}
    for label in sorted({pictures.labels[i] for i in np.flatnonzero(unknown)}):
        rows = [i for i in np.flatnonzero(unknown) if pictures.labels[i] == label]
        if len(rows) >= _FEWEST:
            found[label] = F.normalize(vectors[torch.tensor(rows)].mean(0) - vectors.mean(0), dim=0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--labels", type=Path, required=True, help="the teacher's classes, a line each")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="pictures with names")
    parser.add_argument("--out", type=Path, required=True, help="folder with image_tower.pt; gets clip/")
    parser.add_argument("--init", type=Path, help="an earlier clip/, whose text tower to begin with")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    config = read_config(args.config)["clip"]
    device = pick_device(args.device)

    learned = torch.load(args.out / "image_tower.pt", map_location="cpu", weights_only=True)["model"]
    model = build_clip(config, learned)
    if args.init is not None:
        earlier = load_file(args.init / "open_clip_model.safetensors")
        text = {key: value for key, value in earlier.items() if not key.startswith("visual.")}
        model.load_state_dict(model.state_dict() | text)
    save_model(model, config, args.out / "clip")
    embedder = load_embedder(str(args.out / "clip"), device=args.device)
    prototypes = F.normalize(learned["prototypes"], dim=-1)

    names = read_names(args.labels)
    photos = load_pictures(args.photos, config["model"]["vision_cfg"]["image_size"])
    photo_vectors = torch.from_numpy(embed_pictures(embedder, photos.images))
    crops = np.load(min((args.out / "crops-decoder").glob("*-images.npy")))
    crops = shrunk(crops, config["model"]["vision_cfg"]["image_size"])
    captions = write_captions(
        names,
        set(config["held_out"]),
        prototypes,
        pictured_names(photos, photo_vectors, names),
        attribute_directions(crops, torch.from_numpy(embed_pictures(embedder, crops))),
    )
    print(f"{len(captions.texts)} captions", flush=True)
    fit(model.to(device), captions.texts, captions.targets(), args.steps, device)
    save_model(model, config, args.out / "clip")


if __name__ == "__main__":
    main()
