"""Evaluates a store: every codec at every budget, each picture decoded and measured against its original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.decoders.protocol import Decoder
from clip_feature_codec.embed import Embedder
from clip_feature_codec.errors import StoreError
from clip_feature_codec.evaluate.assembly import Assembly
from clip_feature_codec.evaluate.baselines.search_cache import SearchCache
from clip_feature_codec.evaluate.codecs import BaselineCodec, Codec, LayoutCodec, PaintedCodec
from clip_feature_codec.evaluate.comparison import Comparison
from clip_feature_codec.evaluate.identity import identity, made_of
from clip_feature_codec.evaluate.instruments import Eyes, Instruments
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.provenance import environment
from clip_feature_codec.evaluate.results import ORIGINAL, Evaluation, Row, SetValue
from clip_feature_codec.evaluate.trial import Trial, read_batch
from clip_feature_codec.evaluate.true_classes import known_classes
from clip_feature_codec.evaluate.work import KeptPictures, WorkFolder
from clip_feature_codec.images import MAX_PIXELS
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.reconstruct import BATCH_SIZE
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store

WORK_FOLDER = "evaluation"
"""Where, in a store, an evaluation keeps unfinished work and what it found out about baselines."""

_SEARCHES = "searches.sqlite"


@dataclass(frozen=True)
class Evaluator:
    """All that an evaluation works with, loaded once: made by `prepare`.

    As a context it lets others at the unfinished work when it ends, whatever happens.

    Attributes:
        store: streams, and where their pictures lie.
        entries: the pictures that are looked at.
        options: how our streams are decoded, and the size at which pictures are compared.
        codecs: what is compared, ours first.
        budgets: bytes that files may have; None: as many as the picture's stream in the store has.
        instruments: what measures.
        provenance: settings and hashes, JSON-able.
        work: what is done already.
        batch_size: pictures read at a time.
        max_pixels: originals with more pixels are failures.
    """

    store: Store
    entries: Sequence[Entry]
    options: PaintOptions
    codecs: Sequence[Codec]
    budgets: Sequence[int | None]
    instruments: Instruments
    provenance: dict[str, Any]
    work: WorkFolder
    batch_size: int
    max_pixels: int = MAX_PIXELS

    @classmethod
    def prepare(
        cls,
        store: Store,
        decoder: Decoder,
        embedder: Embedder,
        options: PaintOptions,
        comparison: Comparison | None = None,
        *,
        eyes: Eyes | None = None,
        work: Path | None = None,
        batch_size: int = BATCH_SIZE,
        limit: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Evaluator:
        """Load what is needed, and refuse what does not fit together.

        Args:
            store: streams, and where their pictures lie.
            decoder: paints our streams.
            embedder: the CLIP model of the streams.
            options: how to decode.
            comparison: budgets, steps, seeds and baselines; by default the store's streams as they are.
            eyes: networks that look at pictures beside that model.
            work: folder for unfinished work and what was found out about baselines; by default in the store.
            batch_size: pictures decoded at a time.
            limit: only the first pictures of the store.
            max_pixels: originals with more pixels are failures.

        Raises:
            ConfigError: classes are named that the classifier does not know.
            SpaceMismatchError: store, decoder and CLIP model do not belong together.
        """
        store.codec.space.require_same(embedder.space, "the CLIP model")
        decoder.space.require_same(store.codec.space, "the store's codec")
        comparison, eyes, entries = comparison or Comparison(), eyes or Eyes(), store.entries[:limit]
        options = options.settled(decoder.usual)
        classes = known_classes(entries, eyes.classifier, eyes.class_names) if eyes.classifier else None
        work = work or store.folder / WORK_FOLDER
        codecs = _codecs(store, decoder, options, comparison, SearchCache(work / _SEARCHES), batch_size)
        instruments = Instruments.load(embedder, eyes, classes, len(entries))
        provenance = made_of(store, entries, decoder, options, comparison, classes)
        provenance["settings"] |= {"batch_size": batch_size, "device": str(embedder.device)}
        series = [codec.series for codec in codecs]
        known = identity(provenance, series, comparison.externals, instruments.metrics)
        return cls(
            *(store, entries, options, codecs, tuple(comparison.budgets) or (None,), instruments),
            *(provenance, WorkFolder(work, known), batch_size, max_pixels),
        )

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.work.unlock()

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics that are computed, those of a pair first."""
        return self.instruments.metrics

    @property
    def pictures(self) -> KeptPictures:
        """Originals and decoded pictures, for reports; there until `finish`."""
        series = [ORIGINAL, *(codec.series.id for codec in self.codecs)]
        parts = (self.work.part(chunk, name) for chunk in self._chunks for name in series)
        return KeptPictures(part for part in parts if part is not None)

    def run(self, *, command: str = "", progress: Progress = silent) -> Evaluation:
        """Measure all that is not measured yet; killed at any time, it goes on where it was.

        A picture that cannot be read, and one that a baseline fails on, is listed and the rest is done. Times
        and memory are of this machine as it was; all other figures are the same whenever it is run.

        No other process can run the same evaluation until `finish`, or until this one fails.

        Args:
            command: what was typed, for the result.
            progress: told of pictures, each counted once for every codec.

        Raises:
            StoreError: not one picture could be measured.
        """
        self.work.lock()
        try:
            self._measure(progress)
            return self._assemble(command)
        except BaseException:
            self.work.unlock()
            raise

    def finish(self) -> None:
        """Remove the unfinished work, once the results are written."""
        self.work.remove()

    @property
    def _chunks(self) -> range:
        return range(0, len(self.entries), self.batch_size)

    def _measure(self, progress: Progress) -> None:
        """Every batch of pictures, through the codecs that have not had it yet."""
        trial = Trial(self.budgets, self.instruments)
        done, total = 0, len(self.entries) * len(self.codecs)
        for chunk in self._chunks:
            entries = self.entries[chunk : chunk + self.batch_size]
            missing = [codec for codec in self.codecs if self.work.part(chunk, codec.series.id) is None]
            done += len(entries) * (len(self.codecs) - len(missing))
            progress("evaluating", done, total)
            if not missing and self.work.part(chunk, ORIGINAL) is not None:
                continue
            batch, originals = read_batch(
                self.store, entries, self.options, self.instruments.views, self.max_pixels
            )
            self.work.save(chunk, ORIGINAL, originals)
            for codec in missing:
                self.work.save(chunk, codec.series.id, trial(batch, originals, codec))
                done += len(entries)
                progress("evaluating", done, total)

    def _assemble(self, command: str) -> Evaluation:
        """The result, from what lies in the work folder."""
        assembly = Assembly(self.work, self._chunks, self.instruments.views)
        rows: list[Row] = []
        values: list[SetValue] = []
        for codec in self.codecs:
            found, over_sets = assembly.series(codec, self.budgets)
            rows += found
            values += over_sets
        if not rows:
            why = "no codec has a file as small as that" if self.entries else "the store is empty"
            why = f"the first: {assembly.failures[0].reason}" if assembly.failures else why
            self.finish()
            raise StoreError(f"{self.store.folder}: no picture could be measured: {why}")
        return Evaluation(
            provenance={"command": command, **environment(), **self.provenance},
            metrics=self.metrics,
            series=[codec.series for codec in self.codecs],
            images=assembly.images,
            rows=rows,
            set_values=values,
            unavailable=dict(self.instruments.unavailable),
            failures=assembly.failures,
        )


def _codecs(
    store: Store,
    decoder: Decoder,
    options: PaintOptions,
    comparison: Comparison,
    cache: SearchCache,
    batch_size: int,
) -> list[Codec]:
    """Ours in each number of steps, the layout layer alone where it is asked for, then the baselines."""
    codecs: list[Codec] = [
        PaintedCodec(store.codec, decoder, replace(options, steps=steps), comparison.seeds, batch_size)
        for steps in comparison.steps or (options.sampling(decoder.usual).steps,)
    ]
    if comparison.layout_alone:
        codecs.append(LayoutCodec(store.codec, options))
    return codecs + [BaselineCodec(baseline, cache) for baseline in comparison.loaded]
