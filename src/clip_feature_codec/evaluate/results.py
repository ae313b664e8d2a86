"""What an evaluation finds, picture by picture, and its JSON form; everything else is derived from this."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.metrics.definitions import METRICS, Metric

FORMAT = 1
"""Version of the JSON form."""

WAY_OUT = "name a file that clip-codec eval --json wrote"

ORIGINAL = "original"
"""Stands for the originals where a series is named."""

Budget = int | None
"""Bytes that a file may have; None: as many as the picture's stream in the store has."""

PictureKey = tuple[str, str, Budget]
"""Picture's name, series (or `ORIGINAL`), budget: how reports ask for pictures."""


class Failure(NamedTuple):
    """What could not be measured.

    Attributes:
        stream: path of the picture's stream in the store.
        reason: in one line.
        series: the one that failed on it; empty where picture or stream themselves could not be read.
    """

    stream: str
    reason: str
    series: str = ""


@dataclass(frozen=True)
class Series:
    """One codec in one setting: a curve of the report.

    Attributes:
        id: unique in an evaluation, such as ``clp@8``, ``webp`` or ``webp:payload``.
        title: as written in reports.
        kind: ``ours``, ``classic`` (thumbnails), ``hash`` (BlurHash and the like), or ``external``.
        version: of the library or program, as it names itself.
        steps: network evaluations; None for codecs that have none.
        counts: what must fit the budget: the whole ``file``, or its ``payload`` without the container.
    """

    id: str
    title: str
    kind: Literal["ours", "classic", "hash", "external"]
    version: str
    steps: int | None = None
    counts: Literal["file", "payload"] = "file"


@dataclass(frozen=True)
class Original:
    """One picture of the evaluation.

    Attributes:
        name: its name in the store.
        width, height: size in pixels at which it is compared.
        sha256: of its pixels at that size, uint8 RGB, hexadecimal.
        metrics: what a classifier finds in the picture itself, where there is one.
    """

    name: str
    width: int
    height: int
    sha256: str
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One picture from one codec under one budget; there is none where no file fits.

    Attributes:
        image: the picture's name.
        series: `Series.id`.
        budget: bytes that were allowed; None: as many as the picture's stream in the store has.
        seed: chose the noise; None for codecs without any.
        bytes: size of the file.
        payload_bytes: size without header or container.
        bpp: bits of the file per pixel of the compared picture.
        settings: how the codec was set, in words, such as ``24 px, quality 35``.
        metrics: value of each metric of a pair; None where it is undefined for this picture.
        encode_ms, decode_ms: time taken for this picture; None where it was not measured.
        encode_mb, decode_mb: peak resident memory of the process that did it, in MB (10^6 bytes): for ours
            the evaluating one with all its networks; None for libraries inside of it, and where it cannot be
            measured.
    """

    image: str
    series: str
    budget: int | None
    seed: int | None
    bytes: int
    payload_bytes: int
    bpp: float
    settings: str
    metrics: dict[str, float | None]
    encode_ms: float | None = None
    decode_ms: float | None = None
    encode_mb: float | None = None
    decode_mb: float | None = None


@dataclass(frozen=True)
class SetValue:
    """A metric over a whole set of pictures (FID, KID, CMMD), of one seed.

    Attributes:
        series, budget: as in `Row`.
        metric: its name in `Evaluation.metrics`.
        value: the distance.
        deviation: standard deviation over subsets, where the metric has one.
        count: pictures that were compared.
    """

    series: str
    budget: int | None
    metric: str
    value: float
    deviation: float | None
    count: int


@dataclass
class Evaluation:
    """The result of an evaluation.

    Attributes:
        provenance: command, time, machine, versions, settings and hashes: what it takes to do it again.
        metrics: every metric that was computed, by name; those of a pair first.
        series: every codec and setting; the first is ours.
        images: the pictures that could be measured, in the store's order.
        rows: figures picture by picture.
        set_values: figures over the whole set.
        unavailable: metrics that could not be computed, with the reason.
        failures: what could not be measured.
    """

    provenance: dict[str, Any]
    metrics: dict[str, Metric]
    series: list[Series]
    images: list[Original]
    rows: list[Row]
    set_values: list[SetValue] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def budgets(self) -> list[int | None]:
        """Every budget that was asked for or occurs, from the smallest."""
        asked = self.provenance.get("settings", {}).get("budgets", [])
        return sorted({*asked, *(row.budget for row in self.rows)}, key=lambda budget: budget or 0)

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-able; `from_json` is its inverse."""
        return {
            "format": FORMAT,
            "provenance": self.provenance,
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "series": [asdict(series) for series in self.series],
            "images": [asdict(image) for image in self.images],
            "rows": [asdict(row) for row in self.rows],
            "set_values": [asdict(value) for value in self.set_values],
            "unavailable": self.unavailable,
            "failures": [failure._asdict() for failure in self.failures],
        }

    @classmethod
    def from_json(cls, data: object) -> Evaluation:
        """Read what `to_json` made.

        Raises:
            ConfigError: it is something else, or of a later format.
        """
        if not isinstance(data, dict) or "rows" not in data or "series" not in data:
            raise ConfigError(f"no result of an evaluation: it has no rows and series: {WAY_OUT}")
        if data.get("format") != FORMAT:
            raise ConfigError(
                f"the evaluation has format {data.get('format')!r}: this version reads {FORMAT}"
            )
        try:
            found = cls(
                provenance=dict(data["provenance"]),
                metrics={name: _metric(name, **metric) for name, metric in data["metrics"].items()},
                series=[Series(**series) for series in data["series"]],
                images=[Original(**image) for image in data["images"]],
                rows=[Row(**row) for row in data["rows"]],
                set_values=[SetValue(**value) for value in data["set_values"]],
                unavailable=dict(data["unavailable"]),
                failures=[Failure(**failure) for failure in data["failures"]],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ConfigError(f"the evaluation is damaged: {type(error).__name__}: {error}") from None
        found._check()
        return found

    def _check(self) -> None:
        """Refuse rows that are of nothing, or hold no numbers."""
        known = {image.name for image in self.images}, {series.id for series in self.series}
        for row in self.rows:
            listed = isinstance(row.image, str) and row.image in known[0]
            if not listed or not isinstance(row.series, str) or row.series not in known[1]:
                raise ConfigError(f"the evaluation is damaged: {row.series} of {row.image} is not listed")
            numbers = [row.bytes, row.payload_bytes, row.bpp]
            if isinstance(row.metrics, dict):
                numbers += [value for value in row.metrics.values() if value is not None]
            if not isinstance(row.metrics, dict) or not all(type(one) in (int, float) for one in numbers):
                raise ConfigError(f"the evaluation is damaged: {row.series} of {row.image} has no numbers")


def _metric(name: str, **fields: Any) -> Metric:
    """A metric as it was written; results of version 0.1 say nothing of caps, and have the same ones."""
    return Metric(**({"cap": METRICS[name].cap} | fields if name in METRICS else fields))
