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
from clip_feature_codec.evaluate.contestants import Batch, Budget, Coded, Contestant
from clip_feature_codec.evaluate.cost import measure
from clip_feature_codec.evaluate.metrics.pairs import PairMetrics
from clip_feature_codec.evaluate.metrics.vectors import cosine
from clip_feature_codec.evaluate.metrics.views import View
from clip_feature_codec.evaluate.progress import Finding
from clip_feature_codec.evaluate.results import ORIGINAL, Failure, Original, Row
from clip_feature_codec.images import MAX_PIXELS, load_image, resize_to
from clip_feature_codec.preview import analyse
from clip_feature_codec.reconstruct import painted_size
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
            picture = _original(store.source_path(entry), max_pixels)
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
        for view, inputs in zip(views, prepared, strict=True):
            vectors, cost = measure(partial(view.embed, inputs))
            finding.arrays[vectors_name(view)] = vectors
            if view is views[0]:
                share = cost.shared_by(len(batch.entries)).ms
                batch.vectors = vectors
                batch.analysis_ms = [ms + share for ms in batch.analysis_ms]
    return batch, finding


def _original(path: Path, max_pixels: int) -> Image.Image:
    if not path.exists():
        raise ImageError(f"{path}: the picture is not there any more; if it has moved, {IF_MOVED}")
    return load_image(path, max_pixels=max_pixels)


@dataclass(frozen=True)
class Trial:
    """How pictures are measured; called with a batch and a codec.

    Attributes:
        budgets: bytes that files may have.
        pairs: metrics of pixels.
        views: networks that see.
    """

    budgets: Sequence[Budget]
    pairs: PairMetrics
    views: Sequence[View]

    def __call__(self, batch: Batch, originals: Finding, contestant: Contestant) -> Finding:
        """Code and decode a batch at every budget, once for each seed, and measure what comes back."""
        finding = Finding({"rows": [], "failures": []})
        if not batch.entries:
            return finding
        for budget, files in zip(self.budgets, contestant.encode(batch, self.budgets), strict=True):
            coded = {row: file for row, file in enumerate(files) if file is not None}
            for seed in contestant.seeds if coded else ():
                self._measure(finding, batch, originals, contestant, budget, coded, seed)
        finding.data["failures"], batch.failures = batch.failures, []
        return finding

    def _measure(
        self,
        finding: Finding,
        batch: Batch,
        originals: Finding,
        contestant: Contestant,
        budget: Budget,
        coded: dict[int, Coded],
        seed: int | None,
    ) -> None:
        """Decode some files with one seed; their rows, vectors and pictures go into ``finding``."""
        references = [batch.references[row] for row in coded]
        decoded = contestant.decode(list(coded.values()), [picture.size for picture in references], seed)
        pictures = [picture for picture, _ in decoded]
        figures = self.pairs(references, pictures)
        for view in self.views:
            vectors = view(pictures)
            finding.arrays[vectors_name(view, budget, seed)] = vectors
            own = originals.arrays[vectors_name(view)][list(coded)]
            for figure, value in zip(figures, cosine(vectors, own), strict=True):
                figure[view.similarity] = float(value)
        series = contestant.series
        for (row, file), (picture, cost), figure in zip(coded.items(), decoded, figures, strict=True):
            name = batch.entries[row].name
            finding.data["rows"].append(
                asdict(
                    Row(
                        image=name,
                        series=series.id,
                        budget=budget,
                        seed=seed,
                        bytes=len(file.data),
                        payload_bytes=file.payload,
                        bpp=8 * len(file.data) / (picture.width * picture.height),
                        settings=file.settings,
                        metrics=figure,
                        encode_ms=file.cost.ms if file.cost else None,
                        decode_ms=cost.ms,
                        encode_mb=file.cost.mb if file.cost else None,
                        decode_mb=cost.mb,
                    )
                )
            )
            if seed == contestant.seeds[0] and series.counts == "file":
                finding.pictures[name, series.id, budget] = _webp(picture)


def _webp(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=_WEBP_QUALITY)
    return file.getvalue()
