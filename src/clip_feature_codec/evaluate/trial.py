"""One batch of pictures through one codec: coded at every budget, decoded, and measured."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.errors import BitstreamError, ImageError
from clip_feature_codec.evaluate.batch import Batch, Coded
from clip_feature_codec.evaluate.codecs import Codec
from clip_feature_codec.evaluate.cost import Cost, measure
from clip_feature_codec.evaluate.instruments import Instruments
from clip_feature_codec.evaluate.metrics.views import View
from clip_feature_codec.evaluate.results import ORIGINAL, Budget, Failure, Original, Row
from clip_feature_codec.evaluate.work import Finding
from clip_feature_codec.images import MAX_PIXELS, load_image, resize_to
from clip_feature_codec.preview import analyse
from clip_feature_codec.reconstruct import painted_size
from clip_feature_codec.sources.original import read_original
from clip_feature_codec.store.manifest import IF_MOVED, Entry
from clip_feature_codec.store.protocol import Store

Floats = NDArray[np.float32]

_WEBP_QUALITY = 88
"""Of the copies that reports show; what is measured are the pictures themselves."""


def vectors_name(view: View, budget: Budget = None, seed: int | None = None) -> str:
    """How a `Finding` calls the vectors of one network, of the files of one budget and seed."""
    return f"{view.key} {budget} {seed}"


def read_batch(
    store: Store,
    entries: Sequence[Entry],
    options: PaintOptions,
    views: Sequence[View],
    max_pixels: int = MAX_PIXELS,
) -> tuple[Batch, Finding]:
    """Read pictures and streams; what cannot be read is left out of the batch and listed as a failure.

    Pictures are held at the size of the comparison and of each network's input: originals may be large.

    Args:
        store: where they are.
        entries: which.
        options: size and shape of the comparison.
        views: the networks that see; the first is the streams' own CLIP.
        max_pixels: originals with more pixels are failures.
    """
    batch = Batch()
    finding = Finding({"images": [], "failures": []})
    prepared: list[list[Any]] = [[] for _ in views]
    for entry in entries:
        try:
            stream = store.read(entry)
            store.codec.decode([stream])  # now, while it can be told whose it is
            picture = _original(store.source_place(entry), max_pixels)
        except (BitstreamError, ImageError) as error:
            finding.data["failures"].append(Failure(str(store.stream_path(entry)), str(error)))
            continue
        reference = resize_to(picture, painted_size(stream, options))
        layout, cost = measure(partial(analyse, picture))
        batch.entries.append(entry)
        batch.paths.append(str(store.stream_path(entry)))
        batch.streams.append(stream)
        batch.references.append(reference)
        batch.aspects.append(stream.aspect)
        batch.layouts.append(layout)
        batch.analysis_ms.append(cost.ms)
        for view, inputs in zip(views, prepared, strict=True):
            inputs.append(view.prepare(picture, reference))
        original = Original(entry.name, *reference.size, hashlib.sha256(reference.tobytes()).hexdigest())
        finding.data["images"].append(asdict(original))
        finding.pictures[entry.name, ORIGINAL, None] = _webp(reference)
    if batch.entries:
        _embed(batch, finding, views, prepared)
    return batch, finding


def _original(place: str, max_pixels: int) -> Image.Image:
    found = read_original(place)
    if isinstance(found, Path) and not found.exists():
        raise ImageError(f"{place}: the picture is not there any more; if it has moved, {IF_MOVED}")
    return load_image(found, max_pixels, place)


def _embed(batch: Batch, finding: Finding, views: Sequence[View], prepared: Sequence[list[Any]]) -> None:
    """Have every network look at the originals; the first one's vectors are what our codec encodes."""
    for view, inputs in zip(views, prepared, strict=True):
        vectors, cost = measure(partial(view.embed, inputs))
        finding.arrays[vectors_name(view)] = vectors
        if view is views[0]:
            share = cost.shared_by(len(batch.entries)).ms
            batch.vectors = vectors
            batch.analysis_ms = [ms + share for ms in batch.analysis_ms]


@dataclass(frozen=True)
class Trial:
    """How pictures are measured; called with a batch and a codec.

    Attributes:
        budgets: bytes that files may have.
        instruments: what measures them.
    """

    budgets: Sequence[Budget]
    instruments: Instruments

    def __call__(self, batch: Batch, originals: Finding, codec: Codec) -> Finding:
        """Code and decode a batch at every budget, once for each seed, and measure what comes back."""
        finding = Finding({"rows": [], "failures": []})
        if not batch.entries:
            return finding
        for budget, files in zip(self.budgets, codec.encode(batch, self.budgets), strict=True):
            coded = {place: file for place, file in enumerate(files) if file is not None}
            for seed in codec.seeds if coded else ():
                self._decode(finding, batch, originals, codec, coded, (budget, seed))
        finding.data["failures"], batch.failures = batch.failures, []
        return finding

    def _decode(
        self,
        finding: Finding,
        batch: Batch,
        originals: Finding,
        codec: Codec,
        coded: dict[int, Coded],
        run: tuple[Budget, int | None],
    ) -> None:
        """Decode the files of one budget with one seed; rows, vectors and pictures go into ``finding``."""
        budget, seed = run
        series = codec.series
        names = [batch.entries[place].name for place in coded]
        references = [batch.references[place] for place in coded]
        decoded = codec.decode(list(coded.values()), [picture.size for picture in references], seed)
        pictures = [picture for picture, _ in decoded]
        figures = self.instruments.pairs(references, pictures)
        for view in self.instruments.views:
            vectors = view(pictures)
            finding.arrays[vectors_name(view, budget, seed)] = vectors
            own = originals.arrays[vectors_name(view)][list(coded)]
            for metric, values in view.compare(vectors, own, names).items():
                for figure, value in zip(figures, values.tolist(), strict=True):
                    figure[metric] = value
        for name, file, (picture, cost), figure in zip(names, coded.values(), decoded, figures, strict=True):
            size = picture.width * picture.height
            row = Row(name, series.id, budget, seed, *_sizes(file, size), figure, *_costs(file.cost, cost))
            finding.data["rows"].append(asdict(row))
            if seed == codec.seeds[0] and series.counts == "file":
                finding.pictures[name, series.id, budget] = _webp(picture)


def _sizes(file: Coded, pixels: int) -> tuple[int, int, float, str]:
    """A row's ``bytes``, ``payload_bytes``, ``bpp`` and ``settings``."""
    return len(file.data), file.payload, 8 * len(file.data) / pixels, file.settings


def _costs(encoding: Cost | None, decoding: Cost) -> tuple[float | None, ...]:
    """A row's ``encode_ms``, ``decode_ms``, ``encode_mb`` and ``decode_mb``."""
    if encoding is None:
        return None, decoding.ms, None, decoding.mb
    return encoding.ms, decoding.ms, encoding.mb, decoding.mb


def _webp(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=_WEBP_QUALITY)
    return file.getvalue()
