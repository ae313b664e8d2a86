"""The codecs of an evaluation behind one interface: ours painted, our layout layer alone, baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from PIL import Image

from clip_feature_codec import __version__
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.decoders.protocol import Decoder
from clip_feature_codec.devices import usable_cores
from clip_feature_codec.errors import CodecError
from clip_feature_codec.evaluate.baselines.baseline import Baseline
from clip_feature_codec.evaluate.baselines.search_cache import SearchCache
from clip_feature_codec.evaluate.batch import Batch, Coded
from clip_feature_codec.evaluate.cost import Cost, measure
from clip_feature_codec.evaluate.results import Budget, Failure, Series
from clip_feature_codec.preview import preview
from clip_feature_codec.reconstruct import paint

T = TypeVar("T")

LAYOUT_ALONE = "layout"
"""Our layout layer without anything else, as `--baselines` and results call it."""


class Codec(Protocol):
    """A codec in one setting.

    Attributes:
        series: how results call it.
        seeds: what chooses the noise, once for each time that a file is decoded; (None,) without noise.
    """

    series: Series
    seeds: Sequence[int | None]

    def encode(self, batch: Batch, budgets: Sequence[Budget]) -> list[list[Coded | None]]:
        """For each budget a file for each picture; None where none fits."""
        ...

    def decode(
        self, files: Sequence[Coded], sizes: Sequence[tuple[int, int]], seed: int | None
    ) -> list[tuple[Image.Image, Cost]]:
        """The pictures in some files, RGB of the given sizes (width, height), and what each took."""
        ...


class PaintedCodec:
    """Our streams, painted by a decoder in so many steps."""

    def __init__(
        self, codec: FeatureCodec, decoder: Decoder, options: PaintOptions, seeds: int, batch_size: int
    ) -> None:
        self._codec, self._decoder, self._options = codec, decoder, options
        self._batch_size = batch_size
        # A decoder that takes no layouts would find half of the budget spent on what it ignores.
        self._layers = "both" if decoder.layout_side else "semantic"
        self.seeds: Sequence[int | None] = range(options.seed, options.seed + seeds)
        steps = options.sampling(decoder.usual).steps
        sampler = "DDIM " if options.sampler == "ddim" else ""
        fidelity = f", fidelity {options.fidelity:g}" if options.fidelity else ""
        self.series = Series(
            id=f"clp@{steps}",
            title=f"clp, {steps} {sampler}step{'s' if steps > 1 else ''}{fidelity}",
            kind="ours",
            version=f"clip-feature-codec {__version__}",
            steps=steps,
        )

    def encode(self, batch: Batch, budgets: Sequence[Budget]) -> list[list[Coded | None]]:
        """See `Codec`."""
        return [batch.coded(self._codec, self._layers, budget) for budget in budgets]

    def decode(
        self, files: Sequence[Coded], sizes: Sequence[tuple[int, int]], seed: int | None
    ) -> list[tuple[Image.Image, Cost]]:
        """See `Codec`; the time is shared evenly by the pictures of a batch."""
        options = replace(self._options, seed=seed or 0)
        streams = [coded.stream for coded in files if coded.stream is not None]
        painted, cost = measure(
            lambda: list(paint(streams, self._codec, self._decoder, options, self._batch_size))
        )
        return [(picture, cost.shared_by(len(streams))) for picture in painted]


class LayoutCodec:
    """The layout layer with the whole budget, shown as it is."""

    seeds: Sequence[int | None] = (None,)

    def __init__(self, codec: FeatureCodec, options: PaintOptions) -> None:
        self._codec, self._options = codec, options
        self.series = Series(LAYOUT_ALONE, "clp, layout alone", "ours", f"clip-feature-codec {__version__}")

    def encode(self, batch: Batch, budgets: Sequence[Budget]) -> list[list[Coded | None]]:
        """See `Codec`."""
        return [batch.coded(self._codec, "layout", budget) for budget in budgets]

    def decode(
        self, files: Sequence[Coded], sizes: Sequence[tuple[int, int]], seed: int | None
    ) -> list[tuple[Image.Image, Cost]]:
        """See `Codec`."""
        size, square = self._options.size, self._options.square
        streams = [coded.stream for coded in files if coded.stream is not None]
        return [measure(partial(preview, stream, self._codec, size, square)) for stream in streams]


class BaselineCodec:
    """Another codec, at the settings that give its best file under each budget."""

    seeds: Sequence[int | None] = (None,)

    def __init__(self, baseline: Baseline, cache: SearchCache) -> None:
        self._baseline, self._cache = baseline, cache
        self.series = Series(
            baseline.name, baseline.title, baseline.kind, baseline.version, counts=baseline.counts
        )

    def encode(self, batch: Batch, budgets: Sequence[Budget]) -> list[list[Coded | None]]:
        """See `Codec`; searches run side by side, and what they find is encoded again, alone."""
        limits = list(zip(*(batch.limits(budget) for budget in budgets), strict=True))
        pool = ThreadPoolExecutor(usable_cores())  # the encoders work outside Python's lock
        try:
            searches = [
                pool.submit(self._cache.search, self._baseline, reference, wanted)
                for reference, wanted in zip(batch.references, limits, strict=True)
            ]
            wait(searches)
        finally:
            pool.shutdown(cancel_futures=True)  # interrupted, none is begun any more
        coded = []
        for path, reference, search in zip(batch.paths, batch.references, searches, strict=True):
            try:
                coded.append(self._encode(reference, search.result()))
            except CodecError as error:
                batch.failures.append(Failure(path, f"{path}: {error}", self.series.id))
                coded.append([None] * len(budgets))
        return [list(files) for files in zip(*coded, strict=True)]

    def _encode(self, reference: Image.Image, found: Sequence[dict[str, Any] | None]) -> list[Coded | None]:
        """Encode at what a search found; the same settings once, whatever the number of budgets."""
        files: list[Coded | None] = []
        known: dict[tuple[tuple[str, Any], ...], Coded] = {}
        for settings in found:
            if settings is None:
                files.append(None)
                continue
            key = tuple(sorted(settings.items()))
            if key not in known:
                data, cost = self._measured(partial(self._baseline.encode, reference, settings))
                words = self._baseline.describe(settings)
                known[key] = Coded(data, self._baseline.payload(data), words, cost)
            files.append(known[key])
        return files

    def decode(
        self, files: Sequence[Coded], sizes: Sequence[tuple[int, int]], seed: int | None
    ) -> list[tuple[Image.Image, Cost]]:
        """See `Codec`."""
        return [
            self._measured(partial(self._baseline.decode, coded.data, size))
            for coded, size in zip(files, sizes, strict=True)
        ]

    def _measured(self, work: Callable[[], T]) -> tuple[T, Cost]:
        """Time, and the memory of a program of its own; a library's cannot be told from ours."""
        result, cost = measure(work)
        peak = self._baseline.peak_bytes
        return result, Cost(cost.ms, None if peak is None else peak / 1e6)
