"""From finished parts to the whole: ranks among all pictures, and distances between sets of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.errors import StoreError
from clip_feature_codec.evaluate.codecs import Codec
from clip_feature_codec.evaluate.metrics.distributions import set_distance, too_few
from clip_feature_codec.evaluate.metrics.pixels import pooled_psnr
from clip_feature_codec.evaluate.metrics.vectors import retrieval_ranks
from clip_feature_codec.evaluate.metrics.views import CLASSIFIER, View
from clip_feature_codec.evaluate.results import ORIGINAL, Budget, Failure, Original, Row, SetValue
from clip_feature_codec.evaluate.trial import vectors_name
from clip_feature_codec.evaluate.work import Part, WorkFolder

Floats = NDArray[np.float32]


class Assembly:
    """Reads the parts of a finished run: one series, and one network's vectors, at a time.

    Attributes:
        images: the pictures that could be measured.
        failures: what could not be read, or coded by a baseline.
    """

    def __init__(self, work: WorkFolder, chunks: Sequence[int], views: Sequence[View]) -> None:
        self._work, self._chunks, self._views = work, chunks, views
        parts = self._parts(ORIGINAL)
        originals = [part for part in parts if part.data["images"]]
        self.images = [Original(**image) for part in originals for image in part.data["images"]]
        self.failures: list[Failure] = []
        self._note_failures(parts)
        self._places = {image.name: i for i, image in enumerate(self.images)}
        self._galleries = {
            view.key: np.concatenate([part.array(vectors_name(view)) for part in originals])
            for view in (views if originals else ())
        }
        self._recognise_originals()

    def series(self, codec: Codec, budgets: Sequence[Budget]) -> tuple[list[Row], list[SetValue]]:
        """The rows of one series with their ranks, and its values over the whole set (first seed)."""
        parts = self._parts(codec.series.id)
        self._note_failures(parts)
        rows_of = [(part, [Row(**row) for row in part.data["rows"]]) for part in parts]
        rows: list[Row] = []
        values: list[SetValue] = []
        for budget, seed in product(budgets, codec.seeds):
            chosen = [
                (part, [row for row in found if (row.budget, row.seed) == (budget, seed)])
                for part, found in rows_of
            ]
            sources = [part for part, found in chosen if found]
            found = [row for _, found in chosen for row in found]
            for view in self._views if found else ():
                name, gallery = vectors_name(view, budget, seed), self._galleries[view.key]
                vectors = np.concatenate([part.array(name) for part in sources])
                if view.rank:
                    self._rank(view, found, vectors, gallery)
                if seed == codec.seeds[0] and len(found) == len(self.images):
                    values += self._distances(view, codec.series.id, budget, vectors, gallery)
            if seed == codec.seeds[0] and found and len(found) == len(self.images):
                psnr = pooled_psnr([row.metrics["psnr"] for row in found])
                values.append(SetValue(codec.series.id, budget, "pooled_psnr", psnr, None, len(found)))
            rows += found
        return rows, values

    def _recognise_originals(self) -> None:
        """Note what classifiers find in the originals themselves: no codec can be expected to do better."""
        names = [image.name for image in self.images]
        for view in self._views if names else ():
            if view.key == CLASSIFIER:
                gallery = self._galleries[view.key]
                for metric, values in view.compare(gallery, gallery, names).items():
                    for image, value in zip(self.images, values.tolist(), strict=True):
                        image.metrics[metric] = value

    def _rank(self, view: View, rows: Sequence[Row], vectors: Floats, gallery: Floats) -> None:
        """Note each row's rank: its vectors are (N, D), those of all originals (M, D)."""
        own = [self._places[row.image] for row in rows]
        others = np.setdiff1d(np.arange(len(gallery)), own)
        for row, rank in zip(rows, retrieval_ranks(vectors, gallery[[*own, *others]]), strict=True):
            row.metrics[view.rank] = float(rank)

    def _distances(
        self, view: View, series: str, budget: Budget, vectors: Floats, gallery: Floats
    ) -> list[SetValue]:
        """How far the pictures' vectors (M, D) are from those of their originals (M, D), as sets."""
        values = []
        for metric in view.sets:
            if not too_few(metric, *vectors.shape):
                value, deviation = set_distance(metric, gallery, vectors)
                values.append(SetValue(series, budget, metric, value, deviation, len(vectors)))
        return values

    def _parts(self, series: str) -> list[Part]:
        parts = []
        for chunk in self._chunks:
            part = self._work.part(chunk, series)
            if part is None:
                raise StoreError(f"{self._work.folder}: a finished part is gone: run the evaluation again")
            parts.append(part)
        return parts

    def _note_failures(self, parts: Sequence[Part]) -> None:
        self.failures += [Failure(*failure) for part in parts for failure in part.data["failures"]]
