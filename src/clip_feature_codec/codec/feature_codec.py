"""The feature codec: CLIP vectors and layouts to ``.clp`` streams and back, its tables in ``codec.json``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec import bitstream
from clip_feature_codec.codec.bitstream import LAYERS, Stream
from clip_feature_codec.codec.budget import Payloads, code_to_budget
from clip_feature_codec.codec.coders import LayerCoder, SemanticCoder
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.layout.coder import LayoutCoder
from clip_feature_codec.codec.rate import DEFAULT_QUALITY, DEFAULT_RATE, Rate
from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.codec.semantic.int8 import Int8Coder
from clip_feature_codec.codec.semantic.klt import KltCoder
from clip_feature_codec.codec.semantic.vectors import unit_vectors
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import BitstreamError, ConfigError, MissingLayerError, StoreError
from clip_feature_codec.files import write_atomic
from clip_feature_codec.parallel import free_cores, in_order

FORMAT = "clip-feature-codec tables"
"""What ``codec.json`` says that it is."""

_VERSION = 1
_ROWS_OF_A_CORE = 8  # that loops work on side by side
_CODERS: dict[str, type[Int8Coder] | type[KltCoder]] = {
    coder.profile: coder for coder in (Int8Coder, KltCoder)
}

S = TypeVar("S", bytes, Stream)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FeatureCodec:
    """Codes vectors of one CLIP space, and coarse colour layouts, with one set of tables.

    Attributes:
        space: where the vectors come from.
        semantic: coder of the vectors.
        layout: coder of the layouts; the package's own unless ``codec.json`` says otherwise.
        vector_length: mean length of the vectors that the tables were fitted on, before they were brought to
            unit length, which some decoders want back; None where it is not known. No stream depends on it.

    Raises:
        ConfigError: the tables do not have the space's dimension, that is over 8192, or the length is not
            positive and finite.
    """

    space: ClipSpace
    semantic: SemanticCoder
    layout: LayoutCoder = field(default_factory=LayoutCoder.builtin)
    vector_length: float | None = None

    def __post_init__(self) -> None:
        if self.semantic.dim != self.space.dim:
            raise ConfigError(f"codec tables: found {self.semantic.dim} channels, expected {self.space.dim}")
        if self.dim > bitstream.MAX_DIM:
            raise ConfigError(f"codec, dim: found {self.dim}, expected at most {bitstream.MAX_DIM}")
        length = self.vector_length
        if length is not None and not (math.isfinite(length) and length > 0):
            raise ConfigError(f"codec, vector_length: found {length}, expected a positive number")

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], space: ClipSpace) -> FeatureCodec:
        """Make tables of the ``int8`` profile from sample vectors (see `AffineQuantizer.fit`).

        Args:
            vectors: float32 (N, D), N >= 1, finite, of any positive length: normalised here.
            space: where they come from; its ``dim`` is D.

        Raises:
            ConfigError: the shape is not (N, D), or a vector is zero or not finite.
        """
        return cls(space, Int8Coder(AffineQuantizer.fit(unit_vectors(vectors, space.dim))))

    @classmethod
    def fit_klt(
        cls,
        blocks: Iterable[NDArray[np.float32]],
        space: ClipSpace,
        queries: NDArray[np.float32] | None = None,
    ) -> FeatureCodec:
        """Make tables of the ``klt`` profile from sample vectors, a block at a time (see `KltCoder.fit`).

        Args:
            blocks: float32 (n, D) each, finite, of any positive length; one vector at least in all.
            space: where they come from; its ``dim`` is D.
            queries: float32 (M, D), what coded vectors are going to be searched with, such as vectors of
                words: directions in which they differ are coded more finely.

        Raises:
            ConfigError: there is no vector, a shape is not (n, D), or a vector is zero or not finite.
        """
        asked = None if queries is None else unit_vectors(queries, space.dim)
        return cls(space, KltCoder.fit((unit_vectors(block, space.dim) for block in blocks), asked))

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        return self.space.dim

    @property
    def profile(self) -> str:
        """How vectors are coded: ``int8`` or ``klt``."""
        return self.semantic.profile

    @cached_property
    def _digest(self) -> bytes:
        """SHA-256 over the profile, the dimension, the space and the tables (docs/clp-format.md)."""
        named = f"{self.profile}\n{self.dim}\n{self.space.fingerprint}\n".encode("ascii")
        return hashlib.sha256(named + self.semantic.to_bytes() + self.layout.to_bytes()).digest()

    @property
    def tables_sha256(self) -> str:
        """The tables' identity, in hex."""
        return self._digest.hex()

    @property
    def codec_id(self) -> bytes:
        """The two bytes of the tables' identity that every stream carries."""
        return self._digest[:2]

    def coder(self, layer: str) -> LayerCoder:
        """What codes a layer, by its name in `LAYERS`."""
        found: LayerCoder = getattr(self, layer)
        return found

    def smallest(self, layers: str, aspect: float | None = None) -> int:
        """Bytes that a stream of any picture fits into, the smallest budget that can be met.

        Args:
            layers: ``both`` (then the layout may be left out), ``semantic`` or ``layout``.
            aspect: width / height of the picture, None for square.
        """
        coder = self.coder("semantic" if layers == "both" else layers)
        return bitstream.overhead(aspect, layers=1) + coder.smallest

    def encode(self, layers: Layers, rate: Rate = DEFAULT_RATE) -> list[bytes]:
        """Code N pictures, each to its own stream; a stream does not depend on the rest of the batch.

        Args:
            layers: the pictures; a layer that the rate asks for and that is not there is left out.
            rate: how large or how good the streams should be, and their layers.

        Returns:
            N ``.clp`` streams.

        Raises:
            ConfigError: a shape is wrong, a vector is zero or not finite, an aspect is not a positive,
                finite number, nothing of what is asked for is there, or the rate cannot be met; a budget that
                is too small is answered with the smallest possible one.
        """
        wanted = layers.only(rate.layers)
        if wanted.semantic is not None:
            wanted = replace(wanted, semantic=unit_vectors(wanted.semantic, self.dim))
        return [
            bitstream.pack(self._digest, self.profile, semantic, layout, aspect)
            for semantic, layout, aspect in zip(*self._by_cores(wanted, rate), wanted.shapes, strict=True)
        ]

    def _by_cores(self, layers: Layers, rate: Rate) -> list[Payloads]:
        """Code parts of a batch of unit vectors and layouts on all cores; in the order of `LAYERS`."""
        code = partial(self._coded, rate=rate)
        count = min(free_cores(), len(layers) // _ROWS_OF_A_CORE)
        if count < 2:
            return code(layers)
        try:
            parts = list(in_order(code, layers.parts(count)))
        except ConfigError:
            return code(layers)  # which says what all of them need
        return [list(chain.from_iterable(payloads)) for payloads in zip(*parts, strict=True)]

    def _coded(self, layers: Layers, rate: Rate) -> list[Payloads]:
        """Code unit vectors and layouts; in the order of `LAYERS`."""
        if rate.max_bytes is None:
            return self._to_quality(layers, rate)
        return code_to_budget(layers, rate.max_bytes, self.semantic, self.layout)

    def _to_quality(self, layers: Layers, rate: Rate) -> list[Payloads]:
        """Code unit vectors and layouts at the steps of their quality; in the order of `LAYERS`."""
        quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
        coded: list[Payloads] = []
        for name in LAYERS:
            rows, coder = layers.rows(name), self.coder(name)
            if rows is None:
                coded.append([None] * len(layers))
            elif name == "semantic" and rate.target_cosine is not None:
                coded.append([*self.semantic.encode_to_cosine(rows, rate.target_cosine)])
            else:
                coded.append([*coder.encode(rows, np.full(len(rows), coder.step_at(quality)))])
        return coded

    def parse(self, blob: bytes) -> Stream:
        """Check a stream and take it apart: its layers' payloads, still coded, and its aspect.

        Raises:
            BitstreamError: the stream is damaged or was written with other tables.
        """
        stream = bitstream.parse(blob, self._digest)
        if stream.profile not in (None, self.profile):
            raise BitstreamError(f"profile: found {stream.profile}, expected {self.profile}")
        return stream

    def parse_all(self, blobs: Sequence[bytes]) -> list[Stream]:
        """Check N streams and take them apart (see `parse`); a bad one is named by its position."""
        return _each_named(blobs, lambda some: [self.parse(blob) for blob in some])

    def vectors(self, streams: Sequence[Stream]) -> NDArray[np.float32]:
        """Bring vectors back: float32 (N, D), unit length.

        Raises:
            MissingLayerError: a stream has no semantic layer.
            BitstreamError: a payload is none of ours. Of several streams, the first bad one is named by its
                position.
        """
        return self._decoded("semantic", streams)

    def layouts(self, streams: Sequence[Stream]) -> NDArray[np.int64]:
        """Bring layout coefficients back: int64 (N, L), to be shown by ``layout.render``.

        Raises:
            MissingLayerError: a stream has no layout layer.
            BitstreamError: as for `vectors`.
        """
        return self._decoded("layout", streams)

    def decode(self, streams: Sequence[Stream]) -> Layers:
        """Bring back all layers of N streams, N >= 1, that have the same ones.

        Raises:
            MissingLayerError: a stream lacks a layer that the first one has.
            BitstreamError: as for `vectors`.
        """
        there = [name for name in LAYERS if streams[0].payload(name) is not None]
        rows = {name: self._decoded(name, streams) for name in there}
        return Layers(**rows, aspects=[stream.aspect for stream in streams])

    def _decoded(self, layer: str, streams: Sequence[Stream]) -> NDArray[Any]:
        """Rows (N, ...) of one layer."""
        coder = self.coder(layer)
        return _each_named(streams, lambda some: coder.decode([_payload(stream, layer) for stream in some]))

    def preview(self, stream: Stream, width: int, height: int) -> NDArray[np.uint8]:
        """The layout layer alone as a picture: uint8 (height, width, 3).

        Raises:
            MissingLayerError: the stream has no layout layer.
            BitstreamError: as for `vectors`.
        """
        return self.layout.render(self.layouts([stream])[0], width, height)

    def to_json(self) -> dict[str, Any]:
        """The codec as a JSON-able dictionary, the contents of ``codec.json``."""
        known = {} if self.vector_length is None else {"vector_length": self.vector_length}
        return {
            "format": FORMAT,
            "version": _VERSION,
            "profile": self.profile,
            "space": self.space.to_json(),
            "semantic": self.semantic.to_json(),
            "layout": self.layout.to_json(),
            "tables_sha256": self.tables_sha256,
            **known,
        }

    @classmethod
    def from_json(cls, data: object) -> FeatureCodec:
        """Rebuild a codec from `to_json`'s result; further keys are ignored.

        Raises:
            StoreError: a field is missing, of the wrong type or value, or the tables are not those that
                ``tables_sha256`` names.
        """
        if not isinstance(data, dict):
            raise StoreError(f"codec: found {type(data).__name__}, expected an object")
        for name, expected in (("format", FORMAT), ("version", _VERSION)):
            if data.get(name) != expected:
                raise StoreError(f"codec, {name}: found {data.get(name)!r}, expected {expected!r}")
        coder = _CODERS.get(str(data.get("profile")))
        if coder is None:
            known = " or ".join(map(repr, _CODERS))
            raise StoreError(f"codec, profile: found {data.get('profile')!r}, expected {known}")
        space, length = ClipSpace.from_json(data.get("space")), data.get("vector_length")
        if length is not None and type(length) not in (int, float):
            raise StoreError(f"codec, vector_length: found {length!r}, expected a positive number")
        try:
            semantic = coder.from_json(data.get("semantic"))
            codec = cls(space, semantic, LayoutCoder.from_json(data.get("layout")), length)
        except ConfigError as error:
            raise StoreError(str(error)) from None
        if data.get("tables_sha256") != codec.tables_sha256:
            found, expected = data.get("tables_sha256"), codec.tables_sha256
            raise StoreError(f"codec, tables_sha256: found {found!r}, expected {expected!r} for these tables")
        return codec

    def save(self, path: Path) -> None:
        """Write ``codec.json``, whole or not at all."""
        write_atomic(path, json.dumps(self.to_json(), indent=1).encode("ascii") + b"\n")

    @classmethod
    def load(cls, path: Path) -> FeatureCodec:
        """Read ``codec.json``.

        Raises:
            StoreError: the file is missing or malformed; its name is in the message.
        """
        try:
            return cls.from_json(json.loads(path.read_bytes()))
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}), expected a codec.json") from None
        except (ValueError, RecursionError) as error:
            why = "it is no text" if isinstance(error, UnicodeDecodeError) else error
            raise StoreError(f"{path}: found no JSON ({why}), expected a store's codec.json") from None
        except StoreError as error:
            raise StoreError(f"{path}: {error}") from None


def _payload(stream: Stream, layer: str) -> bytes:
    payload = stream.payload(layer)
    if payload is None:
        raise MissingLayerError(f"{layer} layer: found none in the stream, expected one")
    return payload


def _each_named(streams: Sequence[S], work: Callable[[Sequence[S]], T]) -> T:
    """Work on streams together; when one is bad, find it and put its position in front of what is wrong."""
    try:
        return work(streams)
    except BitstreamError:
        for row, stream in enumerate(streams) if len(streams) > 1 else ():
            try:
                work([stream])
            except BitstreamError as error:
                raise type(error)(f"stream {row + 1} of {len(streams)}: {error}") from None
        raise
