"""A made-up evaluation for the tests of reports: figures that a formula gives, no pictures decoded."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from clip_feature_codec.evaluate.metrics.definitions import METRICS, SET_METRICS
from clip_feature_codec.evaluate.results import Evaluation, Failure, Original, Row, Series, SetValue
from samples import make_picture

BUDGETS = (64, 140, 222, 340, 1000)
OURS = [
    Series("clp@8", "Ours, 8 steps", "ours", "clip-feature-codec 0.1.0", steps=8),
    Series("clp@50", "Ours, 50 steps", "ours", "clip-feature-codec 0.1.0", steps=50),
]
BASELINES = [
    Series("layout", "Layout alone", "ours", "clip-feature-codec 0.1.0"),
    Series("jpeg", "JPEG", "classic", "Pillow 13.0.0, libjpeg-turbo 3.1"),
    Series("webp", "WebP", "classic", "Pillow 13.0.0, libwebp 1.5.0"),
    Series("avif", "AVIF", "classic", "Pillow 13.0.0, libavif 1.3.0"),
    Series("jxl", "JPEG XL", "classic", "imagecodecs 2026.1, libjxl 0.11"),
    Series("blurhash", "BlurHash", "hash", "blurhash-python 1.2"),
    Series("thumbhash", "ThumbHash", "hash", "thumbhash 0.1.2"),
    Series("jpeg:payload", "JPEG, no container", "classic", "Pillow 13.0.0", counts="payload"),
    Series("webp:payload", "WebP, no container", "classic", "Pillow 13.0.0", counts="payload"),
    Series("j2k", "JPEG 2000", "external", "opj_compress 2.5"),
]
# First budget that every picture fits, dB at 100 bytes, dB for each doubling.
_CURVES = {
    "clp@8": (0, 18.9, 0.9),
    "clp@50": (0, 18.4, 0.9),
    "layout": (0, 21.3, 1.1),
    "jpeg": (1000, 16.0, 2.2),
    "webp": (140, 19.6, 1.55),
    "avif": (340, 17.0, 2.0),
    "jxl": (140, 18.9, 1.45),
    "blurhash": (0, 17.2, 0.15),
    "thumbhash": (0, 17.1, 0.0),
    "jpeg:payload": (140, 18.8, 1.6),
    "webp:payload": (64, 20.2, 1.4),
    "j2k": (222, 17.5, 1.7),
}
_PAIRS = ("psnr", "ssim", "lpips", "dists", "clip_similarity", "judge_similarity", "judge_rank")


def example_evaluation(
    count: int = 24,
    budgets: Sequence[int | None] = BUDGETS,
    *,
    baselines: bool = True,
    names: Sequence[str] = (),
    seeds: int = 1,
) -> Evaluation:
    """``count`` pictures under every budget; a codec fits a third of them one budget before it fits all."""
    names = names or [f"photo_{i:03}.jpg" for i in range(count)]
    series = [*OURS, *BASELINES] if baselines else OURS[:1]
    rng = np.random.default_rng(3)
    images = [Original(name, 256, (192, 256, 171)[i % 3], f"{i:064x}") for i, name in enumerate(names)]
    easy = rng.normal(0.0, 1.6, len(images))
    rows, sets = [], []
    for one in series:
        for budget in budgets:
            fitting = _fitting(one, budget, len(images))
            for i in fitting:
                for seed in range(seeds) if one.steps else [None]:
                    noise = rng.normal(0.0, 0.35)
                    rows.append(_row(images[i], one, budget, seed, float(easy[i] + noise), rng))
            if len(fitting) == len(images) and one.counts == "file":
                kid = 0.31 - 0.03 * np.log2((budget or 140) / 64) + 0.09 * (one.kind != "ours")
                sets.append(SetValue(one.id, budget, "kid", float(kid), 0.011, len(images)))
    metrics = {name: METRICS[name] for name in _PAIRS} | {"kid": SET_METRICS["kid"]}
    return Evaluation(
        provenance={
            "command": ["clip-codec", "eval", "store", "--budgets", "64,140", "--html", "my report.html"],
            "created": "2026-11-23T20:00:00+00:00",
            "machine": "AMD EPYC, 2 cores, Linux, Python 3.11.9, torch 2.9.1",
            "packages": {"torch": "2.9.1", "numpy": "2.4.6"},
            "settings": {"steps": [8, 50], "eta": 0.0, "guidance": 1.0, "seeds": seeds},
            "store_sha256": "5f" * 32,
        },
        metrics=metrics,
        series=series,
        images=images,
        rows=rows,
        set_values=sets,
        unavailable={
            "ms_ssim": "a side is below 161 pixels",
            "fid": "24 pictures are too few: 500 are needed",
        },
        failures=[Failure("store/broken.clp", "store/broken.clp: the stream is cut short")],
    )


def example_pictures(
    evaluation: Evaluation, originals: Sequence[Image.Image] = ()
) -> dict[tuple[str, str, int | None], bytes]:
    """A picture for each first seed's row, coarser where the row's PSNR is lower, and the originals."""
    pictures: dict[tuple[str, str, int | None], bytes] = {}
    shown = {}
    for i, image in enumerate(evaluation.images):
        shown[image.name] = (
            originals[i] if originals else make_picture(i, (image.width // 4, image.height // 4))
        )
        pictures[image.name, "original", None] = webp(shown[image.name])
    for row in evaluation.rows:
        if not row.seed:
            original = shown[row.image]
            side = max(2, round((row.metrics["psnr"] or 0) ** 3 / 560))
            small = original.resize((side, max(2, side * original.height // original.width)))
            pictures[row.image, row.series, row.budget] = webp(small.resize(original.size))
    return pictures


def webp(picture: Image.Image) -> bytes:
    """Encode a picture as WebP."""
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=70)
    return encoded.getvalue()


def _fitting(series: Series, budget: int | None, count: int) -> range:
    if budget is None:
        return range(count)
    first = _CURVES[series.id][0]
    smaller = max((one for one in BUDGETS if one < first), default=0)
    return range(count) if budget >= first else range(count // 3) if budget == smaller else range(0)


def _row(
    image: Original,
    series: Series,
    budget: int | None,
    seed: int | None,
    easy: float,
    rng: np.random.Generator,
) -> Row:
    _, base, slope = _CURVES[series.id]
    size = (budget or 140) - int(rng.integers(0, 3))
    size = min(size, {"thumbhash": 25, "blurhash": 120}.get(series.id, size))
    quality = base + slope * np.log2(size / 100)
    semantic = {"clp@8": 5.0, "clp@50": 6.5}.get(series.id, 0.0)
    psnr = float(quality + easy)
    look = quality + semantic + 0.3 * easy
    values: dict[str, float | None] = {
        "psnr": psnr,
        "ssim": float(np.clip(0.5 + 0.022 * (psnr - 20), 0, 1)),
        "lpips": float(max(0.05, 0.62 - 0.025 * (look - 19))),
        "dists": None if image.height == 171 else float(max(0.05, 0.4 - 0.015 * (look - 19))),
        "clip_similarity": float(min(0.99, 0.62 + 0.03 * (look - 19))),
        "judge_similarity": float(min(0.99, 0.55 + 0.033 * (look - 19))),
        "judge_rank": float(max(1, round(14 - look / 2))),
    }
    if image.name.endswith("0.jpg"):
        values["psnr"] = None
    slow = {"clp@8": 850.0, "clp@50": 5200.0}.get(series.id, 0.9)
    return Row(
        image.name,
        series.id,
        budget,
        seed,
        size + (26 if series.counts == "payload" else 0),
        size,
        8 * size / (image.width * image.height),
        "" if series.steps else f"{int(8 + size / 6)} px, quality {int(20 + size / 20)}",
        values,
        encode_ms=float(slow / 20 + 40),
        decode_ms=slow,
        encode_mb=None,
        decode_mb=310.0 if series.steps else 1.2,
    )
