"""Stage 1: crops of the pictures, and what the teacher says of each.

The student sees a crop at its own size and learns the teacher's logits for the very same crop: on few
photographs, that and blends of two crops (Beyer et al. 2022, "Knowledge distillation: a good teacher is
patient and consistent") carry over far more than the photographs' names would. The decoder's crops are not
labelled: networks look at them while it learns.

Crops are kept in shards, drawn from (seed, shard); the shards that are there already are left as they are.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clip_feature_codec.devices import pick_device
from clip_feature_codec.files import atomic_writer
from data import CONFIG, Pictures, load_pictures, read_config
from teacher import SIDE, TeacherFile, TeacherNetwork, known_classes, read_names

_PHOTO_SIDE, _SMALL_SIDE = 288, 64  # pixels, as which the pictures are held


@dataclass(frozen=True)
class Pool:
    """Pictures that are drawn with the same probability, and their classes (N,), -1 where unknown."""

    images: np.ndarray
    classes: np.ndarray


def make_pools(photos: Pictures, small: Pictures, names: list[list[str]], kept_out: int) -> dict[str, Pool]:
    """Photographs with a name that the teacher knows but the last few, other photographs, small pictures."""
    classes = known_classes(photos, names)
    named, other = np.flatnonzero(classes >= 0)[:-kept_out], np.flatnonzero(classes < 0)
    return {
        "named": Pool(photos.images[named], classes[named]),
        "other": Pool(photos.images[other], classes[other]),
        "small": Pool(small.images, known_classes(small, names)),
    }


def random_crop(image: np.ndarray, smallest: float, rng: np.random.Generator) -> Image.Image:
    """A part of a picture, a third of the time all of it, mirrored half of the time."""
    side = len(image)
    width, height = side * (np.ones(2) if rng.random() < 1 / 3 else rng.uniform(smallest, 1.0, 2))
    left, top = rng.uniform(0, side - width + 1e-9), rng.uniform(0, side - height + 1e-9)
    picture = Image.fromarray(image[:, :: rng.choice([-1, 1])])
    return picture.crop(tuple(round(edge) for edge in (left, top, left + width, top + height)))


@dataclass(frozen=True)
class Crop:
    """A crop, uint8, at the student's and at the teacher's size; its class (-1: unknown); is it small?"""

    image: np.ndarray
    shown: np.ndarray
    known: int
    small: bool


def draw_crop(pools: dict[str, Pool], config: dict[str, Any], rng: np.random.Generator) -> Crop:
    """One crop or a blend of two."""
    if rng.random() < config["blended"]:
        weight = rng.uniform(0.25, 0.75)
        first, second = (_draw_one(pools, config, rng) for _ in range(2))
        image, shown = (
            np.rint(weight * getattr(first, size) + (1 - weight) * getattr(second, size)).astype(np.uint8)
            for size in ("image", "shown")
        )
        return Crop(image, shown, -1, first.small or second.small)
    return _draw_one(pools, config, rng)


def _draw_one(pools: dict[str, Pool], config: dict[str, Any], rng: np.random.Generator) -> Crop:
    kind = rng.choice(list(config["shares"]), p=list(config["shares"].values()))
    row = rng.integers(len(pools[kind].images))
    crop = random_crop(pools[kind].images[row], config["smallest"][kind], rng)
    image = np.asarray(crop.resize((config["side"],) * 2, Image.Resampling.BICUBIC))
    shown = np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return Crop(image, shown, int(pools[kind].classes[row]), kind == "small")


def open_teacher(path: Path, device: str) -> TeacherFile | TeacherNetwork:
    """The teacher, as LiteRT runs it or as a network."""
    return TeacherFile(path) if path.suffix == ".tflite" else TeacherNetwork(path, pick_device(device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--for", dest="reader", choices=("tower", "decoder"), required=True)
    parser.add_argument(
        "--teacher", type=Path, help="quantised file, or what teacher.py made; for the tower's crops"
    )
    parser.add_argument("--labels", type=Path, required=True, help="its classes, a line each")
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--small", type=Path, nargs="+", required=True, help="64-px pictures")
    parser.add_argument("--out", type=Path, required=True, help="gets crops-tower/ or crops-decoder/")
    parser.add_argument("--shard", type=int, help="only this one; several processes may run side by side")
    parser.add_argument("--device", default="auto", help="of a teacher that is no quantised file")
    args = parser.parse_args()
    recipe = read_config(args.config)
    config = recipe["crops"] | recipe["crops"][args.reader]
    photos, small = load_pictures(args.photos, _PHOTO_SIDE), load_pictures(args.small, _SMALL_SIDE)
    pools = make_pools(photos, small, read_names(args.labels), config["kept_out"])
    print({kind: len(pool.images) for kind, pool in pools.items()}, flush=True)
    teacher = None if args.teacher is None else open_teacher(args.teacher, args.device)
    folder = args.out / f"crops-{args.reader}"
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(config["shards"]) if args.shard is None else [args.shard]:
        done = folder / f"{shard:03}-classes.npy"
        if done.exists():
            continue
        began = time.time()
        rng = np.random.default_rng([config["seed"], shard])
        crops = [draw_crop(pools, config, rng) for _ in range(config["per_shard"])]
        arrays = {
            "images": np.stack([crop.image for crop in crops]),
            "small": np.array([crop.small for crop in crops]),
            "classes": np.array([crop.known for crop in crops], np.int16),  # last: the shard is whole
        }
        if teacher is not None:
            logits = teacher.logits(np.stack([crop.shown for crop in crops]))
            arrays = {"logits": logits.astype(np.float16)} | arrays
        for name, array in arrays.items():
            with atomic_writer(folder / f"{shard:03}-{name}.npy") as file:
                np.save(file, array)
        print(f"shard {shard}: {config['per_shard'] / (time.time() - began):.0f} crops/s", flush=True)


if __name__ == "__main__":
    main()
