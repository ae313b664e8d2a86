"""Decodes a store and measures every picture against its original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from clip_feature_codec.diffusion.checkpoint import Decoder
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import BitstreamError, ConfigError, ImageError, MetricError, StoreError
from clip_feature_codec.evaluate.metrics import METRICS, Lpips, cosine, psnr, ssim, summary
from clip_feature_codec.images import load_image, resize_to, to_tensor
from clip_feature_codec.reconstruct import BATCH_SIZE, PaintOptions, paint, painted_size
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.manifest import Entry


@dataclass(frozen=True)
class Row:
    """The figures of one picture.

    Attributes:
        name: the picture's name in the store.
        bytes: size of its ``.clp`` file.
        bpp: bits of that file per pixel of the decoded picture.
        width, height: size at which it was compared, in pixels.
        psnr, ssim, lpips, clip_similarity: see `metrics.METRICS`; None where undefined or not available.
    """

    name: str
    bytes: int
    bpp: float
    width: int
    height: int
    psnr: float | None
    ssim: float | None
    lpips: float | None
    clip_similarity: float | None


@dataclass(frozen=True)
class Sample:
    """One picture to look at: original and reconstruction, of one size."""

    row: Row
    original: Image.Image
    reconstruction: Image.Image


@dataclass
class Evaluation:
    """The result of `evaluate_store`.

    Attributes:
        settings: how it was decoded, with which models and on which device.
        rows: one per picture that could be measured, in the store's order.
        unavailable: metrics that could not be computed here, with the reason.
        failures: (stream, reason) of each picture that could not be measured.
        samples: the first pictures themselves.
    """

    settings: dict[str, Any]
    rows: list[Row]
    unavailable: dict[str, str]
    failures: list[tuple[str, str]]
    samples: list[Sample] = field(repr=False)

    def summary(self) -> dict[str, dict[str, float | int | None]]:
        """Mean, standard deviation, median and count of bytes, bits per pixel and each metric."""
        columns = ["bytes", "bpp", *(name for name in METRICS if name not in self.unavailable)]
        return {name: asdict(summary(getattr(row, name) for row in self.rows)) for name in columns}

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, JSON-able."""
        return {
            "settings": self.settings,
            "summary": self.summary(),
            "unavailable": self.unavailable,
            "failures": [{"stream": name, "reason": reason} for name, reason in self.failures],
            "images": [asdict(row) for row in self.rows],
        }


def evaluate_store(
    store: FeatureStore,
    decoder: Decoder,
    embedder: ClipEmbedder,
    options: PaintOptions,
    *,
    batch_size: int = BATCH_SIZE,
    limit: int | None = None,
    require: Sequence[str] = (),
    samples: int = 24,
    quiet: bool = True,
) -> Evaluation:
    """Decode a store's streams and compare them with their originals.

    The original is resized to the decoded picture's size; CLIP similarity is that of the original as it is.
    A metric whose weights are not on this machine is reported as unavailable, and the rest is computed.

    Args:
        store: streams and where their pictures lie.
        decoder: paints the reconstructions.
        embedder: the CLIP model for CLIP similarity.
        options: how to decode.
        batch_size: pictures decoded at a time.
        limit: only the first pictures of the store.
        require: metrics that must be there.
        samples: how many pictures to keep in the result, for looking at.
        quiet: without a progress bar.

    Raises:
        ConfigError: a required metric is unknown, or an option is out of range.
        MetricError: a required metric is not available.
        StoreError: not one picture could be measured.
        SpaceMismatchError: store, decoder and CLIP model do not belong together.
    """
    for name in require:
        if name not in METRICS:
            raise ConfigError(f"unknown metric {name!r}; there are {', '.join(METRICS)}")
    store.codec.space.require_same(embedder.space, "the CLIP model")
    lpips, unavailable = _load_lpips(decoder)
    for name in require:
        if name in unavailable:
            raise MetricError(unavailable[name])
    measure = _Measure(store, decoder, embedder, options, lpips)
    entries = store.entries[:limit]
    result = Evaluation(_settings(measure, len(entries)), [], unavailable, [], [])
    with tqdm(total=len(entries), unit="img", desc="evaluating", disable=quiet) as bar:
        for start in range(0, len(entries), batch_size):
            chunk = entries[start : start + batch_size]
            measured, failures = measure(chunk)
            result.rows += [sample.row for sample in measured]
            result.samples += measured[: samples - len(result.samples)]
            result.failures += failures
            bar.update(len(chunk))
    if not result.rows:
        why = f"; the first: {result.failures[0][1]}" if result.failures else ", the store is empty"
        raise StoreError(f"{store.folder}: no picture could be measured{why}")
    return result


def _load_lpips(decoder: Decoder) -> tuple[Lpips | None, dict[str, str]]:
    try:
        return Lpips(next(decoder.unet.parameters()).device), {}
    except MetricError as error:
        return None, {"lpips": str(error)}


def _settings(measure: _Measure, pictures: int) -> dict[str, Any]:
    return asdict(measure.options) | {
        "space": measure.store.codec.space.label,
        "decoder_canvas": measure.decoder.image_size,
        "device": str(measure.embedder.device),
        "pictures": pictures,
    }


@dataclass(frozen=True)
class _Original:
    """What is kept of one picture while its reconstruction is painted: little, whatever its size."""

    entry: Entry
    blob: bytes
    reference: Image.Image
    pixels: torch.Tensor


@dataclass(frozen=True)
class _Measure:
    """Everything loaded once; called with a batch of entries."""

    store: FeatureStore
    decoder: Decoder
    embedder: ClipEmbedder
    options: PaintOptions
    lpips: Lpips | None

    def __call__(self, entries: Sequence[Entry]) -> tuple[list[Sample], list[tuple[str, str]]]:
        """Measure what can be measured, and list the other streams with the reason."""
        originals, failures = [], []
        for entry in entries:
            try:
                originals.append(self._original(entry))
            except (BitstreamError, ImageError) as error:
                failures.append((str(self.store.stream_path(entry)), str(error)))
        if not originals:
            return [], failures
        blobs = [original.blob for original in originals]
        painted = list(paint(blobs, self.store.codec, self.decoder, self.options, len(blobs)))
        similarity = cosine(
            self.embedder.embed_batch(torch.stack([original.pixels for original in originals])),
            self.embedder.embed_images(painted),
        )
        rows = map(self._row, originals, painted, similarity.tolist())
        samples = [
            Sample(row, original.reference, picture)
            for row, original, picture in zip(rows, originals, painted, strict=True)
        ]
        return samples, failures

    def _original(self, entry: Entry) -> _Original:
        blob = self.store.read(entry)
        self.store.codec.decode([blob])
        picture = load_image(self.store.source_path(entry))
        size = painted_size(blob, self.store.codec, self.options)
        return _Original(entry, blob, resize_to(picture, size), self.embedder.preprocess(picture))

    def _row(self, original: _Original, picture: Image.Image, similarity: float) -> Row:
        reference, blob = original.reference, original.blob
        return Row(
            name=original.entry.name,
            bytes=len(blob),
            bpp=8 * len(blob) / (picture.width * picture.height),
            width=picture.width,
            height=picture.height,
            psnr=psnr(reference, picture),
            ssim=ssim(reference, picture),
            lpips=self.lpips(to_tensor([reference]), to_tensor([picture]))[0] if self.lpips else None,
            clip_similarity=similarity,
        )
