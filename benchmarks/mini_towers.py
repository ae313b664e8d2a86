"""The figures of the mini pack's card that towers and tables give, on pictures that no stage was trained on.

    python benchmarks/mini_towers.py --small SMALL_VAL.parquet --photos PHOTOS_VAL.parquet --labels LABELS.txt

All are those of vectors that went through a stream. Parquet files are read as the recipe reads them; LABELS
is the teacher's list of 1,000 classes. ``--pack`` takes a folder with ``clip/`` and ``codec.json``, such as
the recipe's ``--out``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from scipy.stats import mannwhitneyu

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.images import load_image
from clip_feature_codec.names import CODEC_FILE
from clip_feature_codec.store.protocol import Store

RECIPE = Path(__file__).parent.parent / "recipes" / "mini"
sys.path.insert(0, str(RECIPE))
from data import CONFIG, class_names, load_pictures, read_config  # noqa: E402
from fit_text_tower import attributes  # noqa: E402
from stores import make_store  # noqa: E402
from teacher import known_classes, read_names  # noqa: E402

PROBED = 4000  # pictures that a probe is fitted on
BUDGETS = (30, 45, 60, 90)  # bytes of a stream of the vector alone


def embedded(codec: ClipCodec, images: np.ndarray) -> np.ndarray:
    """Vectors (N, D) of pictures uint8 (N, S, S, 3), a few at once: thousands would not fit in memory."""
    parts = np.array_split(images, len(images) // 64 + 1)
    return np.concatenate(
        [codec.embedder.embed_images([Image.fromarray(image) for image in part]) for part in parts]
    )


def name_figures(codec: ClipCodec, parquet: Path, names: list[list[str]], held_out: set[str]) -> None:
    """Print how often a picture's true name is among the first of 1,000 prompts, by its coded vector."""
    pictures = load_pictures([parquet], 256)
    classes = known_classes(pictures, names)
    rows = np.flatnonzero(classes >= 0)
    vectors = embedded(codec, pictures.images[rows])
    prompts = codec.embedder.embed_text([f"a photo of a {synonyms[0].lower()}" for synonyms in names])
    seen = np.array([names[classes[row]][0].lower() not in held_out for row in rows])
    rates = {f"{budget} bytes": Rate(max_bytes=budget, layers="semantic") for budget in BUDGETS}
    rates["quality 50"] = Rate(layers="semantic")
    for title, rate in rates.items():
        blobs = codec.features.encode(Layers(vectors), rate)
        decoded = codec.vectors(blobs)
        scores = decoded @ prompts.T
        ranks = (scores > scores[np.arange(len(rows)), classes[rows]][:, None]).sum(1)
        groups = {"names": ranks[seen], "held-out names": ranks[~seen]}
        shares = ", ".join(
            f"{name} ({len(found)} pictures) first {np.mean(found < 1):.1%}, "
            f"in the first five {np.mean(found < 5):.1%}"
            for name, found in groups.items()
            if len(found)
        )
        cosine = (vectors * decoded).sum(1).mean()
        size = np.mean([len(blob) for blob in blobs])
        print(f"1,000 prompts, {parquet.stem}, {title}: {size:.1f} bytes, cosine {cosine:.4f}; {shares}")


def class_figures(codec: ClipCodec, store: Store, labels: list[str], held_out: set[str]) -> None:
    """Print how well prompts find classes and streams find their originals."""
    vectors = store.vectors()
    groups = {
        "trained classes": [name for name in sorted(set(labels)) if name not in held_out],
        "held-out classes": sorted(held_out & set(labels)),
        "all classes": sorted(set(labels)),
    }
    for title, classes in groups.items():
        rows = [i for i, label in enumerate(labels) if label in classes]
        prompts = codec.embedder.embed_text([f"a photo of a {name}" for name in classes])
        scores = vectors[rows] @ prompts.T
        truth = np.array([classes.index(labels[i]) for i in rows])
        ranks = (scores > scores[np.arange(len(rows)), truth][:, None]).sum(1)
        hits = [np.sum(truth[np.argsort(-scores[:, c])[:10]] == c) for c in range(len(classes))]
        recall = np.mean(hits / np.bincount(truth))
        print(
            f"class prompts, {title} ({len(classes)}, {len(rows)} pictures): top-1 {np.mean(ranks < 1):.1%} "
            f"(chance {1 / len(classes):.1%}), top-5 {np.mean(ranks < 5):.1%}, "
            f"prompt finds its pictures among the first ten: {recall:.1%}"
        )


def stream_figures(codec: ClipCodec, store: Store, title: str) -> None:
    """Print what coding takes from the vectors."""
    originals = codec.embedder.embed_images(
        [load_image(Path(store.source_place(entry))) for entry in store.entries]
    )
    decoded = store.vectors()
    cosines = (originals * decoded).sum(1)
    first = np.mean((originals @ decoded.T).argmax(0) == np.arange(len(decoded)))
    sizes = [entry.bytes for entry in store.entries]
    pairs = originals @ originals.T
    other = (pairs.sum() - np.trace(pairs)) / (len(pairs) * (len(pairs) - 1))
    print(
        f"streams, {title}: {np.mean(sizes):.1f} bytes, cosine mean {cosines.mean():.5f} "
        f"worst {cosines.min():.5f}, own original nearest {first:.1%}; "
        f"cosine between two pictures {other:.3f}"
    )


def told_and_shown(codec: ClipCodec, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors with a one behind them (N, D + 1), and 8x8 thumbnails (N, 192), of uint8 (N, 64, 64, 3)."""
    vectors = embedded(codec, images)
    blocks = images.reshape(len(images), 8, 8, 8, 8, 3).mean((2, 4)).reshape(len(images), -1)
    return np.hstack([vectors, np.ones((len(vectors), 1))]), blocks


def appearance_figures(codec: ClipCodec, parquet: Path, learned_from: Path | None) -> None:
    """Print what vectors say of looks: 8x8 thumbnails by a linear probe, and the order of colour words.

    The probe is fitted on the first half of the pictures and measured on the second; 500 pictures for some
    hundred weights cost a long vector more than a short one, so that it may be fitted on others as well. Of
    each word, the area under the ROC curve is that of "a photo of something red" against the pixels.
    """
    pictures = load_pictures([parquet], 64)
    told, blocks = told_and_shown(codec, pictures.images)
    half = len(pictures) // 2
    fits = {"the other half": (told[:half], blocks[:half])}
    if learned_from is not None:
        images = load_pictures([learned_from], 64).images[:PROBED]
        fits[f"{len(images)} training pictures"] = told_and_shown(codec, images)
    for title, fit in fits.items():
        probe = np.linalg.lstsq(*fit, rcond=None)[0]
        errors = np.square(np.clip(told[half:] @ probe, 0, 255) - blocks[half:]).mean(1)
        decibels = np.mean(10 * np.log10(255**2 / errors))
        print(f"8x8 thumbnail by a linear probe fitted on {title}: {decibels:.2f} dB")
    vectors = told[:, :-1]
    areas = {}
    for word, shown in attributes(pictures.images).items():
        if 10 <= shown.sum() <= len(shown) - 10:
            scores = vectors @ codec.embedder.embed_text([f"a photo of something {word}"])[0]
            area = mannwhitneyu(scores[shown], scores[~shown]).statistic / (shown.sum() * (~shown).sum())
            areas[word] = float(area)
    words = ", ".join(f"{word} {area:.2f}" for word, area in areas.items())
    print(f"colour words, area under the ROC curve: mean {np.mean(list(areas.values())):.3f}; {words}")


def labels_of(parquet: Path) -> list[str]:
    """The first of each picture's class names."""
    return [class_names(text)[0] for text in pq.read_table(parquet, columns=["text"])["text"].to_pylist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--labels", type=Path, help="the 1,000 classes, a line each")
    parser.add_argument("--probe", type=Path, help="training pictures, to fit a probe of looks on")
    parser.add_argument("--pack", type=Path, help="another pack's folder")
    args = parser.parse_args()
    print(describe_machine())
    codec = (
        ClipCodec.load()
        if args.pack is None
        else ClipCodec.load(args.pack / CODEC_FILE, model=str(args.pack / "clip"))
    )
    held_out = set(read_config(CONFIG)["clip"]["held_out"])
    if args.labels is not None:
        for parquet in (args.photos, args.small):
            name_figures(codec, parquet, read_names(args.labels), held_out)
    appearance_figures(codec, args.small, args.probe)
    with tempfile.TemporaryDirectory() as folder:
        small = make_store(codec, args.small, Path(folder, "small"))
        photos = make_store(codec, args.photos, Path(folder, "photos"))
        class_figures(codec, small, labels_of(args.small), held_out)
        stream_figures(codec, small, "small")
        stream_figures(codec, photos, "photos")


if __name__ == "__main__":
    main()
