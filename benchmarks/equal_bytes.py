"""The built-in model against other codecs at equal bytes, on pictures that it was not trained on.

    python benchmarks/equal_bytes.py --photos PHOTOS_VAL.parquet --small SMALL_VAL.parquet --out equal_bytes \
        --judge CLASSIFIER.tflite --labels LABELS.txt

Photographs are compared at 256 pixels on the longer side, the small pictures (the first 200) at 64. Prints
the tables, and writes for either a report, its figures as JSON and the curves. Killed, it goes on where it
was.

Recognition is by the classifier that ``--judge`` names, of ImageNet's classes, which must have had no part in
the codec; what is truly on a picture is in the Parquet files' column ``text``, synonyms behind commas. The
other judge, for similarity, rank and KID, is the network in ``benchmarks/judge``, which ``recipes/judge``
trains on the codec's own training pictures.

``--pack`` takes another pack's folder, such as an earlier version's: ``git worktree add old COMMIT``, then
``--pack old/src/clip_feature_codec/packs/mini``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

from clip_feature_codec import ClipCodec
from clip_feature_codec.cli.common import ProgressBars
from clip_feature_codec.decoders.options import OUR_SAMPLING, PaintOptions
from clip_feature_codec.evaluate.analysis.statistics import interval
from clip_feature_codec.evaluate.analysis.summary import summarise
from clip_feature_codec.evaluate.comparison import Comparison
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.instruments import Eyes
from clip_feature_codec.evaluate.metrics.classifier import Classifier
from clip_feature_codec.evaluate.metrics.judge import Judge
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.evaluate.report import html_page, text_table, write_figure, write_figures
from clip_feature_codec.evaluate.results import Evaluation
from clip_feature_codec.files import write_atomic
from clip_feature_codec.names import CODEC_FILE, PACK_DECODER
from stores import class_names, make_store

BUDGETS = (64, 140, 222, 340)
JUDGE = Path(__file__).parent / "judge"
PLOTTED = ("psnr", "clip_similarity", "recognition")


def run(
    codec: ClipCodec,
    parquet: Path,
    out: Path,
    count: int | None,
    options: PaintOptions,
    settings: Comparison,
    classifier: Classifier | None,
) -> None:
    """One set of pictures; its store and unfinished work lie in ``out`` as well."""
    names = class_names(parquet) if classifier else {}
    evaluator = Evaluator.prepare(
        make_store(codec, parquet, out, count=count),
        codec.decoder,
        codec.embedder,
        options,
        settings,
        eyes=Eyes(Judge.load(JUDGE), classifier, names or None),
    )
    begun = time.time()
    with ProgressBars(quiet=False) as progress:
        result = evaluator.run(command=f"python benchmarks/{Path(__file__).name}", progress=progress)
    minutes = (time.time() - begun) / 60
    print(f"{out.name}: {len(result.images)} pictures at {options.size} pixels, {minutes:.1f} minutes")
    summary = summarise(result)
    print(text_table(result, summary))
    if classifier and classifier.labels:
        labels = classifier.labels
        print(*recognised(result, {name for name in names if labels.classes_of(names[name])}), sep="\n")
    title = f"clip-feature-codec at equal bytes: {out.name}"
    page = html_page(result, evaluator.pictures, title, summary)
    write_atomic(out / "report.html", page.encode())
    whole = result.to_json() | {"summary": summary.to_json()}
    write_atomic(out / "evaluation.json", json.dumps(whole, indent=1).encode())
    write_figures(result, out / "figures", summary)
    write_figure(result, [name for name in PLOTTED if name in result.metrics], out / "curves.png", summary)
    evaluator.finish()


def recognised(result: Evaluation, known: set[str]) -> Iterator[str]:
    """Recognition of each codec and budget over the pictures alone whose true class is ``known``."""
    for (series, budget), rows in itertools.groupby(result.rows, key=lambda row: (row.series, row.budget)):
        values = {row.image: [row.metrics["recognition"]] for row in rows if row.image in known}
        found = interval(values)
        if found.mean is not None:
            spread = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
            where = f"{series}, {budget} bytes, {found.count} true classes"
            yield f"recognition, {where}: {found.mean:.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="Parquet file with a column image")
    parser.add_argument("--small", type=Path, required=True, help="the same, of 64-pixel pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for stores and results")
    parser.add_argument("--judge", type=Path, help="classifier as an .onnx or .tflite file, for recognition")
    parser.add_argument("--labels", type=Path, help="its classes, a line each, synonyms behind commas")
    parser.add_argument("--pack", type=Path, help="another pack's folder")
    parser.add_argument("--decoder", type=Path, help="another decoder of the same CLIP model")
    parser.add_argument("--steps", type=int, nargs="+", default=[OUR_SAMPLING.steps])
    parser.add_argument("--eta", type=float, help="sample by DDIM with this noise")
    parser.add_argument("--fidelity", type=float, default=PaintOptions.fidelity)
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--baselines", nargs="+", default=["all"])
    parser.add_argument("--photo-count", type=int, help="only the first so many photographs; 0: none")
    parser.add_argument("--small-count", type=int, default=200, help="the same of the small pictures")
    args = parser.parse_args()
    print(describe_machine())
    if args.pack is None:
        codec = ClipCodec.load(decoder=args.decoder)
    else:
        decoder = args.decoder or args.pack / PACK_DECODER
        codec = ClipCodec.load(args.pack / CODEC_FILE, decoder=decoder, model=str(args.pack / "clip"))
    classifier = Classifier.load(args.judge, args.labels) if args.judge else None
    settings = Comparison(budgets=args.budgets, steps=args.steps, baselines=args.baselines)
    for name, parquet, size, count in (
        ("photographs", args.photos, 256, args.photo_count),
        ("small pictures", args.small, 64, args.small_count),
    ):
        if count != 0:
            options = PaintOptions.of(size=size, eta=args.eta, fidelity=args.fidelity)
            run(codec, parquet, args.out / name, count, options, settings, classifier)


if __name__ == "__main__":
    main()
