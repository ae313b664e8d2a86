"""What each metric means: title, range, direction, network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SSIM_SHORTEST_SIDE = 11
"""Pixels of SSIM's window: 3.5 standard deviations of 1.5 pixels to each side, and the middle one."""

MS_SSIM_SHORTEST_SIDE = 161
"""The fewest pixels that, halved four times, still hold SSIM's window."""

LPIPS_SHORTEST_SIDE = 31
"""The fewest pixels from which AlexNet's second pooling still makes one."""


PSNR_CAP = 60.0
"""What a mean takes for a picture that is given back exactly, in dB, and for any PSNR above: libvmaf's bound
for 8 bits (6 dB for each, and 12)."""


@dataclass(frozen=True)
class Metric:
    """What a metric's numbers mean.

    Attributes:
        title: as written in reports, with the unit.
        low: the least value there can be; an unbiased estimate (KID's) may fall a little below.
        high: the greatest; None when there is no bound.
        better: whether higher or lower values are better.
        digits: after the decimal point, in tables.
        undefined: when there is no value (None) although the metric works; empty when there always is one.
        network: the network that computes it; empty when none does.
        weights: file and SHA-256 (its beginning) of that network's weights.
        over: what one value speaks of: a ``pair`` of pictures, or a ``set`` of pictures beside another.
        cap: what means, differences and curves take for greater values and for pictures without one, so that
            they are over the same pictures for every codec; None: they take values as they are.
        note: what else must be known of it, a clause; empty when there is nothing to say.
    """

    title: str
    low: float
    high: float | None
    better: Literal["higher", "lower"]
    digits: int
    undefined: str = ""
    network: str = ""
    weights: str = ""
    over: Literal["pair", "set"] = "pair"
    cap: float | None = None
    note: str = ""


def _below(pixels: int) -> str:
    return f"a side is below {pixels} pixels"


METRICS: dict[str, Metric] = {
    "psnr": Metric(
        *("PSNR (dB)", 0.0, None, "higher", 2, "the pictures are identical"),
        cap=PSNR_CAP,
        note=f"identical pictures count as {PSNR_CAP:g} dB in means, as does all above",
    ),
    "ssim": Metric("SSIM", -1.0, 1.0, "higher", 4, _below(SSIM_SHORTEST_SIDE)),
    "ms_ssim": Metric("MS-SSIM", 0.0, 1.0, "higher", 4, _below(MS_SSIM_SHORTEST_SIDE)),
    "lpips": Metric("LPIPS", 0.0, None, "lower", 4, _below(LPIPS_SHORTEST_SIDE)),
    "dists": Metric("DISTS", 0.0, 2.0, "lower", 4),
    "clip_similarity": Metric("CLIP similarity", -1.0, 1.0, "higher", 4),
    "clip_rank": Metric("CLIP rank", 1.0, None, "lower", 2),
    "judge_similarity": Metric("Judge similarity", -1.0, 1.0, "higher", 4),
    "judge_rank": Metric("Judge rank", 1.0, None, "lower", 2),
    "recognition": Metric(
        *("Recognition", 0.0, 1.0, "higher", 3),
        note="share of pictures whose class is among the classifier's first five",
    ),
    "recognition_top1": Metric(
        *("Recognition, first place", 0.0, 1.0, "higher", 3),
        note="share of pictures whose class is the classifier's first",
    ),
}
"""Every metric of a pair, by its name in results. A rank is the place of a picture's own original among all
originals, the nearest first: see `vectors.retrieval_ranks`."""

POOLED_PSNR = Metric(
    *("Pooled PSNR (dB)", 0.0, PSNR_CAP, "higher", 2),
    over="set",
    note="of the squared error averaged over pictures, which is 0 for identical ones",
)
"""``pooled_psnr`` in results, over a set, too: see `pixels.pooled_psnr`."""

SET_METRICS: dict[str, Metric] = {
    "fid": Metric("FID", 0.0, None, "lower", 2, over="set"),
    "kid": Metric("KID", 0.0, None, "lower", 4, over="set"),
    "cmmd": Metric("CMMD", 0.0, 39.603, "lower", 3, over="set"),  # 2000 (1 - exp(-2² / 200)), rounded up
}
"""Every distance between two sets, by its name in results: see `distributions`."""
