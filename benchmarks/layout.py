"""The layout layer alone against thumbnails of the same bytes, on photos in Parquet files.

    python benchmarks/layout.py photos_val.parquet --plot docs/layout.png

Every photo is brought to 256 pixels on its longer side; that is the original. For each budget each codec
takes its best file, by PSNR, over all scales and qualities whose file is no larger, upscaled with Lanczos.
Bytes are whole files, ours with header and aspect ratio.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.codec import bitstream
from clip_feature_codec.codec.layout.coder import LayoutCoder
from clip_feature_codec.evaluate.baselines.baseline import Baseline
from clip_feature_codec.evaluate.baselines.known import load_baselines
from clip_feature_codec.evaluate.metrics.pixels import psnr, ssim
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.images import load_image, output_size, resize_to, squash

SIZE = 256
BUDGETS = (20, 30, 40, 64, 100, 140, 200)
OURS = "layout"
BASELINES = ("blurhash", "thumbhash", "jpeg", "webp", "avif", "jxl")
REPEATS = 20
Score = tuple[float, float]
Scores = dict[str, list[list[Score | None]]]
"""PSNR and SSIM by codec, photo and budget; None where no file fits."""


def photos(source: Path) -> list[Image.Image]:
    return [load_image(data) for data in pq.read_table(source, columns=["image"])["image"].to_pylist()]


def original(photo: Image.Image) -> Image.Image:
    return resize_to(photo, output_size(photo.width / photo.height, SIZE))


def score(picture: Image.Image, target: Image.Image) -> Score:
    return psnr(picture, target) or 99.0, ssim(picture, target) or 0.0


def our_files(photo: Image.Image, coder: LayoutCoder) -> list[bytes]:
    """A file for every budget."""
    tables = hashlib.sha256(coder.to_bytes()).digest()
    aspect = photo.width / photo.height
    rooms = np.array(BUDGETS) - bitstream.overhead(aspect, 1)
    row = coder.analyse(np.asarray(squash(photo, coder.canvas)))
    payloads = coder.encode_to_bytes(np.repeat(row[None], len(rooms), axis=0), rooms)
    return [bitstream.pack(tables, "klt", None, payload, aspect) for payload in payloads]


def our_picture(blob: bytes, size: tuple[int, int], coder: LayoutCoder, tables: bytes) -> NDArray[np.uint8]:
    stream = bitstream.parse(blob, tables)
    return coder.render(coder.decode([stream.layout or b""])[0], *size)


def best_files(codec: Baseline, target: Image.Image) -> list[tuple[Score, bytes] | None]:
    """The best file of one codec for every budget."""
    found: list[tuple[Score, bytes] | None] = []
    for settings in codec.search(target, BUDGETS):
        if settings is None:
            found.append(None)
            continue
        data = codec.encode(target, settings)
        found.append((score(codec.decode(data, target.size), target), data))
    return found


def milliseconds(work: Callable[[], object]) -> float:
    """Median time of a call."""
    work()
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def row(name: str, scores: list[list[Score | None]]) -> str:
    """One line: mean PSNR and SSIM at each budget, over the photos of which a file fits."""
    cells = []
    for at in range(len(BUDGETS)):
        fitting = [scores_of[at] for scores_of in scores if scores_of[at] is not None]
        values = [value for value in fitting if value is not None]
        if not values:
            cells.append("none fits")
            continue
        mean = np.mean(values, axis=0)
        some = "" if len(values) == len(scores) else f" ({len(values)})"
        cells.append(f"{mean[0]:.2f} {mean[1]:.3f}{some}")
    return f"{name:10}" + "".join(f"{cell:>17}" for cell in cells)


def best_baseline(scores: Scores) -> list[list[Score | None]]:
    """The best of all the others for each photo and budget."""
    names = [name for name in scores if name != OURS]
    count = len(scores[OURS])

    def best(photo: int, at: int) -> Score | None:
        return max((found for name in names if (found := scores[name][photo][at])), default=None)

    return [[best(photo, at) for at in range(len(BUDGETS))] for photo in range(count)]


def plot(scores: Scores, path: Path) -> None:
    """PSNR against bytes; codecs appear at the budgets at which every photo has a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, values in scores.items():
        bytes_, decibels = [], []
        for at, budget in enumerate(BUDGETS):
            fitting = [found[0] for scores_of in values if (found := scores_of[at]) is not None]
            if len(fitting) == len(values):
                bytes_.append(budget)
                decibels.append(np.mean(fitting))
        if bytes_:
            line = axes.plot(bytes_, decibels, marker="o", markersize=4, label=name)[0]
            if name == OURS:
                line.set(color="black", linewidth=2.5)
    axes.set_xlabel("bytes of the file")
    axes.set_ylabel(f"PSNR at {SIZE} pixels, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="The layout layer against thumbnails of the same bytes.")
    parser.add_argument("photos", type=Path, help="Parquet file with a column image")
    parser.add_argument("--count", type=int, help="only the first so many photos")
    parser.add_argument(
        "--against",
        nargs="*",
        default=BASELINES,
        choices=BASELINES,
        help="only these; nothing: ours alone, at once",
    )
    parser.add_argument("--plot", type=Path, help="where to draw PSNR against bytes")
    arguments = parser.parse_args()
    given = photos(arguments.photos)[: arguments.count]
    coder = LayoutCoder.builtin()
    tables = hashlib.sha256(coder.to_bytes()).digest()
    baselines = load_baselines(arguments.against)
    scores: Scores = {OURS: [], **{codec.name: [] for codec in baselines}}
    times: dict[str, list[float]] = {name: [] for name in scores}
    for photo in given:
        target = original(photo)
        blobs = our_files(photo, coder)
        if any(len(blob) > budget for blob, budget in zip(blobs, BUDGETS, strict=True)):
            raise SystemExit("a file is above its budget")
        shown = [Image.fromarray(our_picture(blob, target.size, coder, tables)) for blob in blobs]
        scores[OURS].append([score(picture, target) for picture in shown])
        times[OURS].append(milliseconds(partial(our_picture, blobs[-1], target.size, coder, tables)))
        for codec in baselines:
            found = best_files(codec, target)
            scores[codec.name].append([entry and entry[0] for entry in found])
            if (last := found[-1]) is not None:
                times[codec.name].append(milliseconds(partial(codec.decode, last[1], target.size)))
    print(f"{describe_machine()}; {len(given)} photos")
    print("PSNR in dB and SSIM; in brackets how many photos have a file that fits, where not all do")
    print(f"{'bytes':10}" + "".join(f"{budget:>17}" for budget in BUDGETS))
    for name, values in scores.items():
        print(row(name, values))
    if baselines:
        print(row("best baseline", best_baseline(scores)))
    ours = statistics.median(times[OURS])
    print(f"to {SIZE} pixels, at {BUDGETS[-1]} bytes: {OURS} {ours:.2f} ms")
    for name, taken in times.items():
        if name != OURS and taken:
            theirs = statistics.median(taken)
            print(f"  {name} {theirs:.2f} ms, {theirs / ours:.1f} times ours")
    if arguments.plot:
        plot(scores, arguments.plot)


if __name__ == "__main__":
    main()
