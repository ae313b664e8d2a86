"""The figures of the mini pack's model card, measured on pictures that no stage of it was trained on.

Takes Parquet files with columns ``image`` (encoded bytes) and ``text`` (comma-separated class names), as the
recipe does: ``--small`` for the class figures and the decoder, ``--photos`` for the decoder at 256 pixels.
WebP and the layout layer alone are measured beside it, all at 140 bytes, by the judge of
``benchmarks/judge``.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageOps
from scipy.stats import mannwhitneyu

from clip_feature_codec import ClipCodec
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.evaluate.analysis.summary import summarise
from clip_feature_codec.evaluate.comparison import Comparison
from clip_feature_codec.evaluate.contact_sheet import CELL, Tile, contact_sheet
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.instruments import Eyes
from clip_feature_codec.evaluate.metrics.judge import Judge
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.evaluate.results import ORIGINAL, Evaluation, PictureKey
from clip_feature_codec.images import load_image, save_image, to_tensor
from clip_feature_codec.store.protocol import Store

RECIPE = Path(__file__).parent.parent / "recipes" / "mini"
sys.path.insert(0, str(RECIPE))
from data import CONFIG, class_names, load_pictures, read_config  # noqa: E402
from fit_text_tower import attributes  # noqa: E402
from stores import make_store  # noqa: E402
from train_upsampler import detail  # noqa: E402

JUDGE = Path(__file__).parent / "judge"
BYTES = 140
CYCLES = 24  # per picture; what lies above is detail
SHOWN = 6  # best, and as many worst


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
    originals = codec.embedder.embed_images([load_image(store.source_path(entry)) for entry in store.entries])
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


def appearance_figures(codec: ClipCodec, parquet: Path) -> None:
    """Print what vectors say of looks: 8x8 thumbnails by a linear probe, and the order of colour words.

    The probe is fitted on the first half of the pictures and measured on the second. Of each word, the area
    under the ROC curve is that of "a photo of something red" and so on against the pictures' own pixels.
    """
    pictures = load_pictures([parquet], 64)
    vectors = codec.embedder.embed_images([Image.fromarray(image) for image in pictures.images])
    half = len(pictures) // 2
    blocks = pictures.images.reshape(len(pictures), 8, 8, 8, 8, 3).mean((2, 4)).reshape(len(pictures), -1)
    told = np.hstack([vectors, np.ones((len(vectors), 1))])
    probe = np.linalg.lstsq(told[:half], blocks[:half], rcond=None)[0]
    errors = np.square(np.clip(told[half:] @ probe, 0, 255) - blocks[half:]).mean(1)
    print(f"8x8 thumbnail by a linear probe: {np.mean(10 * np.log10(255**2 / errors)):.2f} dB")
    areas = {}
    for word, shown in attributes(pictures.images).items():
        if 10 <= shown.sum() <= len(shown) - 10:
            scores = vectors @ codec.embedder.embed_text([f"a photo of something {word}"])[0]
            area = mannwhitneyu(scores[shown], scores[~shown]).statistic / (shown.sum() * (~shown).sum())
            areas[word] = float(area)
    words = ", ".join(f"{word} {area:.2f}" for word, area in areas.items())
    print(f"colour words, area under the ROC curve: mean {np.mean(list(areas.values())):.3f}; {words}")


def decoder_figures(
    codec: ClipCodec, store: Store, options: PaintOptions, limit: int, title: str, sheet: Path | None
) -> None:
    """Print the figures of the decoder and of a WebP file at 140 bytes, and save the best and the worst."""
    evaluator = Evaluator.prepare(
        store,
        codec.decoder,
        codec.embedder,
        options,
        Comparison(budgets=[BYTES], baselines=["layout", "webp"]),
        eyes=Eyes(Judge.load(JUDGE)),
        limit=limit,
    )
    result = evaluator.run()
    shown = {key: load_image(data) for key, data in evaluator.pictures.items()}
    # Smaller pictures hardly reach above CYCLES.
    names = [image.name for image in result.images] if options.size >= 4 * CYCLES else []
    for point in summarise(result).points:
        means = {name: value.mean for name, value in point.metrics.items()}
        figures = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items() if mean is not None)
        painted = {name: shown.get((name, point.series, BYTES)) for name in names}
        ratios = [
            math.log(detail(to_tensor([picture]), to_tensor([shown[name, ORIGINAL, None]]), CYCLES))
            for name, picture in painted.items()
            if picture is not None
        ]
        fine = f", detail {math.exp(np.mean(ratios)):.2f} of {len(ratios)} originals'" if ratios else ""
        print(
            f"{title}, {point.series}, fidelity {options.fidelity}, guidance {options.guidance}: "
            f"{point.fits} pictures, {point.bytes.mean:.1f} bytes, {figures}{fine}"
        )
    if sheet is not None:
        save_image(best_and_worst(result, shown), sheet)
    evaluator.finish()


def best_and_worst(result: Evaluation, shown: Mapping[PictureKey, Image.Image]) -> Image.Image:
    """The pictures that the judge finds nearest to their originals, and the farthest, below these."""
    ours = [row for row in result.rows if row.series.startswith("clp@")]
    ranked = sorted(ours, key=lambda row: row.metrics["judge_similarity"] or 0.0)
    chosen = ranked[: -SHOWN - 1 : -1] + ranked[SHOWN - 1 :: -1]
    above = [tile(shown[row.image, ORIGINAL, None], "original") for row in chosen]
    below = [
        tile(
            shown[row.image, row.series, BYTES],
            f"{row.bytes} bytes, judge {row.metrics['judge_similarity']:.2f}",
        )
        for row in chosen
    ]
    title = f"The {SHOWN} best and the {SHOWN} worst of {len(ours)} at {BYTES} bytes"
    return contact_sheet(title, above + below, columns=len(chosen))


def tile(picture: Image.Image, line: str) -> Tile:
    fitted = ImageOps.contain(picture, (CELL, CELL))
    return Tile(fitted, fitted.size, [line])


def labels_of(parquet: Path) -> list[str]:
    """The first of each picture's class names."""
    return [class_names(text)[0] for text in pq.read_table(parquet, columns=["text"])["text"].to_pylist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=200, help="how many small ones to decode")
    parser.add_argument("--guidance", type=float, nargs="+", default=[PaintOptions.guidance])
    parser.add_argument("--fidelity", type=float, nargs="+", default=[PaintOptions.fidelity])
    parser.add_argument("--sheet", type=Path, help="picture of the best and the worst photographs")
    args = parser.parse_args()
    print(describe_machine())
    codec = ClipCodec.load()
    held_out = set(read_config(CONFIG)["clip"]["held_out"])
    with tempfile.TemporaryDirectory() as folder:
        small = make_store(codec, args.small, Path(folder, "small"))
        photos = make_store(codec, args.photos, Path(folder, "photos"))
        class_figures(codec, small, labels_of(args.small), held_out)
        appearance_figures(codec, args.small)
        stream_figures(codec, small, "small")
        stream_figures(codec, photos, "photos")
        for guidance, fidelity in itertools.product(args.guidance, args.fidelity):
            options = PaintOptions(guidance=guidance, fidelity=fidelity, size=64)
            decoder_figures(codec, small, options, args.pictures, "small", None)
            sheet = args.sheet if (guidance, fidelity) == (args.guidance[0], args.fidelity[0]) else None
            decoder_figures(codec, photos, replace(options, size=256), len(photos), "photos", sheet)


if __name__ == "__main__":
    main()
