"""What is done with a batch, in whatever process: read, embedded, coded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, TypeVar

from clip_feature_codec.codec.budget import require_budget
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.embed import Embedder, measured
from clip_feature_codec.encode.attempts import Attempts
from clip_feature_codec.encode.batches import Batch, Run
from clip_feature_codec.encode.chunks import Chunk, Chunks
from clip_feature_codec.encode.reading import BatchReader, ReadChunk
from clip_feature_codec.store.writing import NewPicture, WritableStore

T = TypeVar("T")

CodedBatch: TypeAlias = tuple[Batch, Chunk, list[bytes]]
"""A batch, without its pictures; what it has become; and the streams of the pictures that could be read."""


@dataclass(frozen=True)
class BatchWork:
    """How batches are read, embedded and coded. It can be pickled.

    Attributes:
        read: reads their pictures.
        rate: how large or how good their streams should be, and their layers.
        limits: tables that can do at least what those can that they are coded with.
        chunks: those that are done already.
        attempts: notes of what was begun.
    """

    read: BatchReader
    rate: Rate
    limits: FeatureCodec
    chunks: Chunks
    attempts: Attempts

    def embed(self, embedder: Embedder | None, batch: Batch, read: ReadChunk) -> Chunk:
        """Embed a batch that was read; pictures that processes die of are failures.

        Raises:
            ConfigError: the byte budget is too small for one of its pictures.
        """
        chunk, died = self._attempt(
            batch, "embedded", read.pictures, lambda numbers: self._embed(embedder, read.only(numbers))
        )
        return replace(chunk, failures=chunk.failures + died)

    def encode(self, tables: FeatureCodec, item: tuple[Batch, Chunk]) -> CodedBatch:
        """Code a batch that was embedded; pictures that processes die of are failures."""
        batch, chunk = item
        if chunk.layers is None:
            return batch, chunk, []

        def code(numbers: Sequence[int]) -> tuple[Chunk, list[bytes]]:
            some = chunk.only(numbers)
            return some, [] if some.layers is None else tables.encode(some.layers, self.rate)

        (coded, blobs), died = self._attempt(batch, "coded", chunk.pictures, code)
        return batch, replace(coded, failures=coded.failures + died), blobs

    def _embed(self, embedder: Embedder | None, read: ReadChunk) -> Chunk:
        aspects = [picture.aspect for picture in read.pictures]
        require_possible(self.rate, self.limits, aspects)
        vectors = lengths = None
        if embedder and read.pixels is not None:
            vectors, lengths = measured(embedder, read.pixels)
        layers = Layers(vectors, read.layouts, aspects) if read.pictures else None
        return Chunk(read.pictures, layers, read.failures, lengths)

    def _attempt(
        self, batch: Batch, done: str, pictures: Sequence[NewPicture], work: Callable[[Sequence[int]], T]
    ) -> tuple[T, list[tuple[str, str]]]:
        """Work on a batch's pictures, as they were read (see `Attempts.run`)."""
        state = [(picture.inside, picture.source_bytes, picture.source_mtime_ns) for picture in pictures]
        return self.attempts.run([batch.key, state], done, [picture.place for picture in pictures], work)


def require_possible(rate: Rate, limits: FeatureCodec, aspects: Sequence[float | None]) -> None:
    """Find out before anything is embedded whether the byte budget is too small.

    Raises:
        ConfigError: it is.
    """
    if rate.max_bytes is not None:
        for aspect in aspects:
            require_budget(rate.max_bytes, limits.smallest(rate.layers, aspect))


class Elsewhere(Protocol):
    """Where batches are read, embedded and coded, if not in this process and its own."""

    def embedded(self, work: BatchWork, runs: Sequence[Run]) -> Iterator[tuple[Batch, Chunk]]:
        """The batches of some runs, in order, without their pictures, and what they have become."""

    def encoded(self, work: BatchWork, runs: Sequence[Run], tables: FeatureCodec) -> Iterable[CodedBatch]:
        """The same, and coded; the chunks without what they were coded from."""

    def writer(self, store: WritableStore) -> WritableStore:
        """The same store, written to from there."""
