"""The figures of the mini pack's card that its decoder gives, on pictures that no stage was trained on.

Takes Parquet files with columns ``image`` (encoded bytes) and ``text`` (comma-separated class names), as the
recipe does: ``--small`` at 64 pixels, ``--photos`` at 256. `mini_towers.py` gives the other figures.
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
from PIL import Image, ImageOps

from clip_feature_codec import ClipCodec
from clip_feature_codec.decoders.options import OUR_SAMPLING, PaintOptions
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
from stores import make_store  # noqa: E402
from train_upsampler import detail  # noqa: E402

JUDGE = Path(__file__).parent / "judge"
BYTES = 140
CYCLES = 24  # per picture; what lies above is detail
SHOWN = 6  # best, and as many worst


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=200, help="how many small ones to decode")
    parser.add_argument("--guidance", type=float, nargs="+", default=[OUR_SAMPLING.guidance])
    parser.add_argument("--fidelity", type=float, nargs="+", default=[PaintOptions.fidelity])
    parser.add_argument("--sheet", type=Path, help="picture of the best and the worst photographs")
    args = parser.parse_args()
    print(describe_machine())
    codec = ClipCodec.load()
    with tempfile.TemporaryDirectory() as folder:
        small = make_store(codec, args.small, Path(folder, "small"))
        photos = make_store(codec, args.photos, Path(folder, "photos"))
        for guidance, fidelity in itertools.product(args.guidance, args.fidelity):
            options = PaintOptions(guidance=guidance, fidelity=fidelity, size=64)
            decoder_figures(codec, small, options, args.pictures, "small", None)
            sheet = args.sheet if (guidance, fidelity) == (args.guidance[0], args.fidelity[0]) else None
            decoder_figures(codec, photos, replace(options, size=256), len(photos), "photos", sheet)


if __name__ == "__main__":
    main()
