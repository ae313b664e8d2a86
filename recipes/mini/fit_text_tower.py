"""Stage 2: the text tower, fitted to the finished image vectors; writes the CLIP model of the pack.

A caption's target is the mean vector of the pictures it describes: a class's mean, moved along an
attribute's offset where the caption names a colour or a brightness. Attributes cost no labels: they are
counted from the pixels. An attribute's offset is the mean difference between the pictures that have it
and their own class's mean, so that "green" does not come to mean "frog".
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save as safetensors_bytes
from skimage.color import rgb2hsv

from clip_feature_codec.devices import pick_device
from clip_feature_codec.embed import Embedder, load_embedder
from clip_feature_codec.files import atomic_writer, write_atomic
from data import CONFIG, Pictures, load_pictures, read_config

CLASS_TEMPLATES = ["{c}", "a {c}", "the {c}", "a photo of a {c}", "a picture of a {c}", "an image of the {c}"]
BOTH_TEMPLATES = ["a {a} {c}", "{a} {c}", "a photo of a {a} {c}", "the {a} {c}"]
ATTRIBUTE_TEMPLATES = ["{a}", "something {a}", "a {a} thing", "a {a} picture", "a photo of something {a}"]


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


def embed_pictures(embedder: Embedder, pictures: Pictures) -> np.ndarray:
    """Unit vectors float32 (N, D) of pictures that have the size of the model's input already."""
    config = embedder.space.preprocessing
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    rows = []
    for start in range(0, len(pictures), 256):
        x = torch.from_numpy(pictures.images[start : start + 256]).permute(0, 3, 1, 2)
        rows.append(
            embedder.embed_batch(
                ((x.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
            )
        )
    return np.concatenate(rows)


def caption_targets(z: torch.Tensor, pictures: Pictures) -> tuple[list[str], torch.Tensor]:
    """All captions with their unit target vectors (captions, D)."""
    classes = sorted(set(pictures.labels))
    index = {name: i for i, name in enumerate(classes)}
    label = torch.tensor([index[name] for name in pictures.labels])
    means = torch.zeros(len(classes), z.shape[1]).index_add_(0, label, z)
    means /= torch.bincount(label, minlength=len(classes)).unsqueeze(1)
    offsets = {
        word: (z[mask] - means[label[mask]]).mean(0)
        for word, mask in ((w, torch.from_numpy(m)) for w, m in attributes(pictures.images).items())
        if mask.sum() >= 20
    }
    captions, targets = [], []
    for name, mean in zip(classes, means, strict=True):
        for synonym in pictures.synonyms[name]:
            captions += [t.format(c=synonym) for t in CLASS_TEMPLATES]
            targets += [mean] * len(CLASS_TEMPLATES)
        for word, offset in offsets.items():
            captions += [t.format(a=word, c=name) for t in BOTH_TEMPLATES]
            targets += [mean + offset] * len(BOTH_TEMPLATES)
    for word, offset in offsets.items():
        for template in ATTRIBUTE_TEMPLATES:
            # Words on their own are few among the captions: repeated, so that they are learned as well.
            captions += [template.format(a=word)] * 20
            targets += [z.mean(0) + 2 * offset] * 20
    return captions, F.normalize(torch.stack(targets), dim=-1)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="pictures with class names")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder with image_tower.pt; gets clip/, vectors.npy"
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    config = read_config(args.config)["clip"]
    device = pick_device(args.device)

    torch.manual_seed(config["seed"])
    model = open_clip.CLIP(**config["model"])
    state = torch.load(args.out / "image_tower.pt", map_location="cpu", weights_only=True)["model"]
    visual = {key.removeprefix("clip."): v for key, v in state.items() if key.startswith("clip.visual.")}
    model.load_state_dict(model.state_dict() | visual)
    with torch.no_grad():
        model.logit_scale.copy_(state["log_scale"])
    save_model(model, config, args.out / "clip")  # image tower only; the text tower is random yet
    embedder = load_embedder(str(args.out / "clip"), device=args.device)

    side = config["model"]["vision_cfg"]["image_size"]
    pictures = load_pictures(args.data, side)
    vectors = embed_pictures(embedder, pictures)
    with atomic_writer(args.out / "vectors.npy") as file:
        np.save(file, vectors)
    seen = pictures.rows_without(config["held_out"])
    pictures = pictures.subset(seen)
    captions, targets = caption_targets(torch.from_numpy(vectors[seen]), pictures)
    print(f"{len(captions)} captions over {len(pictures)} pictures", flush=True)
    fit(model.to(device), captions, targets, args.steps, device)
    save_model(model, config, args.out / "clip")


if __name__ == "__main__":
    main()
