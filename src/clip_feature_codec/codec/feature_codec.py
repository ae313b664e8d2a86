"""The feature codec: CLIP vectors and layouts to ``.clp`` streams and back, its tables in ``codec.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clip_feature_codec.codec import bitstream
from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.budget import Payloads, code_to_budget
from clip_feature_codec.codec.layout.coder import LayoutCoder
from clip_feature_codec.codec.rate import DEFAULT_QUALITY, DEFAULT_RATE, Rate
from clip_feature_codec.codec.semantic.affine import AffineQuantizer
from clip_feature_codec.codec.semantic.int8 import Int8Coder
from clip_feature_codec.codec.semantic.klt import KltCoder
from clip_feature_codec.codec.semantic.vectors import unit_vectors
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import BitstreamError, ConfigError, MissingLayerError, StoreError
from clip_feature_codec.files import write_atomic

_FORMAT = "clip-feature-codec tables"
_VERSION = 1
_CODERS: dict[str, type[Int8Coder] | type[KltCoder]] = {
    coder.profile: coder for coder in (Int8Coder, KltCoder)
}

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FeatureCodec:
    """Codes vectors of one CLIP space, and coarse colour layouts, with one set of tables.

    Attributes:
        space: where the vectors come from.
        semantic: coder of the vectors.
        layout: coder of the layouts; the package's own unless ``codec.json`` says otherwise.

    Raises:
        ConfigError: the tables do not have the space's dimension, or that is over 8192.
    """

    space: ClipSpace
    semantic: Int8Coder | KltCoder
    layout: LayoutCoder = field(default_factory=LayoutCoder.builtin)

    def __post_init__(self) -> None:
        if self.semantic.dim != self.space.dim:
            raise ConfigError(f"codec tables: found {self.semantic.dim} channels, expected {self.space.dim}")
        if self.dim > bitstream.MAX_DIM:
            raise ConfigError(f"codec, dim: found {self.dim}, expected at most {bitstream.MAX_DIM}")

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
    def fit_klt(cls, blocks: Iterable[NDArray[np.float32]], space: ClipSpace) -> FeatureCodec:
        """Make tables of the ``klt`` profile from sample vectors, a block at a time (see `KltCoder.fit`).

        Args:
            blocks: float32 (n, D) each, finite, of any positive length; one vector at least in all.
            space: where they come from; its ``dim`` is D.

        Raises:
            ConfigError: there is no vector, a shape is not (n, D), or a vector is zero or not finite.
        """
        return cls(space, KltCoder.fit(unit_vectors(block, space.dim) for block in blocks))

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

    def encode(
        self,
        vectors: NDArray[np.float32] | None,
        aspects: Sequence[float | None] | None = None,
        layouts: NDArray[Any] | None = None,
        rate: Rate = DEFAULT_RATE,
    ) -> list[bytes]:
        """Code pictures, each to its own stream; a stream does not depend on the rest of the batch.

        A layer that is asked for and not given is left out, unless nothing is left.

        Args:
            vectors: float32 (N, D), finite, of any positive length: normalised here; None without the
                semantic layer.
            aspects: width / height of each picture, None for square; no list means all are square.
            layouts: coefficients (N, L) from `LayoutCoder.analyse`; None without the layout layer.
            rate: how large or how good the streams should be, and their layers.

        Returns:
            N ``.clp`` streams.

        Raises:
            ConfigError: a shape is wrong, a vector is zero or not finite, an aspect is not a positive,
                finite number, there is nothing to code, or the rate cannot be met; a budget that is too
                small is answered with the smallest possible one.
        """
        unit = None if vectors is None or rate.layers == "layout" else unit_vectors(vectors, self.dim)
        coefficients = None if rate.layers == "semantic" else layouts
        given = coefficients if unit is None else unit
        if given is None:
            raise ConfigError(
                f"layers: found nothing to code for {rate.layers!r}, expected vectors or layouts"
            )
        shapes = [None] * len(given) if aspects is None else list(aspects)
        for name, rows in (("aspects", shapes), ("layouts", coefficients)):
            if rows is not None and len(rows) != len(given):
                raise ConfigError(f"{name}: found {len(rows)}, expected {len(given)}, one for each vector")
        if rate.max_bytes is None:
            semantic, layout = self._to_quality(unit, coefficients, rate, len(given))
        else:
            semantic, layout = code_to_budget(
                unit, coefficients, shapes, rate.max_bytes, self.semantic, self.layout
            )
        return [
            bitstream.pack(self._digest, self.profile, vector, picture, shape)
            for vector, picture, shape in zip(semantic, layout, shapes, strict=True)
        ]

    def _to_quality(
        self,
        unit: NDArray[np.float32] | None,
        layouts: NDArray[Any] | None,
        rate: Rate,
        count: int,
    ) -> tuple[Payloads, Payloads]:
        """Code the layers that are given, each at the step that its quality asks for."""
        quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
        semantic: Payloads = [None] * count
        layout: Payloads = [None] * count
        if unit is not None and rate.target_cosine is not None:
            semantic = [*self.semantic.encode_to_cosine(unit, rate.target_cosine)]
        elif unit is not None:
            semantic = [*self.semantic.encode(unit, np.full(count, self.semantic.step_at(quality)))]
        if layouts is not None:
            layout = [*self.layout.encode(layouts, np.full(count, self.layout.step_at(quality)))]
        return semantic, layout

    def parse(self, blob: bytes) -> Stream:
        """Check a stream and take it apart: its layers' payloads, still coded, and its aspect.

        Raises:
            BitstreamError: the stream is damaged or was written with other tables.
        """
        stream = bitstream.parse(blob, self._digest)
        if stream.profile not in (None, self.profile):
            raise BitstreamError(f"profile: found {stream.profile}, expected {self.profile}")
        return stream

    def decode(self, blobs: Sequence[bytes]) -> NDArray[np.float32]:
        """Bring vectors back from streams.

        Args:
            blobs: N streams; any bytes at all.

        Returns:
            float32 (N, D), unit length.

        Raises:
            MissingLayerError: a stream has no semantic layer.
            BitstreamError: a stream is damaged or was written with other tables. Of several streams,
                the first bad one is named by its position.
        """
        return _each_named(blobs, lambda some: self.semantic.decode([self._semantic(b) for b in some]))

    def decode_layouts(self, blobs: Sequence[bytes]) -> NDArray[np.int64]:
        """Bring layout coefficients (N, L) back from streams, to be shown by ``layout.render``.

        Raises:
            MissingLayerError: a stream has no layout layer.
            BitstreamError: as for `decode`.
        """
        return _each_named(blobs, lambda some: self.layout.decode([self._layout(b) for b in some]))

    def preview(self, blob: bytes, width: int, height: int) -> NDArray[np.uint8]:
        """The layout layer alone as a picture: uint8 (height, width, 3).

        Raises:
            MissingLayerError: the stream has no layout layer.
            BitstreamError: as for `decode`.
        """
        return self.layout.render(self.decode_layouts([blob])[0], width, height)

    def check(self, blob: bytes) -> None:
        """Decode every layer of a stream.

        Raises:
            BitstreamError: the stream is damaged or was written with other tables.
        """
        stream = self.parse(blob)
        if stream.semantic is not None:
            self.semantic.decode([stream.semantic])
        if stream.layout is not None:
            self.layout.decode([stream.layout])

    def aspect(self, blob: bytes) -> float:
        """Width / height of the picture behind a stream, 1.0 for square.

        Raises:
            BitstreamError: the stream is damaged or was written with other tables.
        """
        return self.parse(blob).aspect

    def _semantic(self, blob: bytes) -> bytes:
        payload = self.parse(blob).semantic
        if payload is None:
            raise MissingLayerError("semantic layer: found none in the stream, expected a vector")
        return payload

    def _layout(self, blob: bytes) -> bytes:
        payload = self.parse(blob).layout
        if payload is None:
            raise MissingLayerError("layout layer: found none in the stream, expected a coarse picture")
        return payload

    def to_json(self) -> dict[str, Any]:
        """The codec as a JSON-able dictionary, the contents of ``codec.json``."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "profile": self.profile,
            "space": self.space.to_json(),
            "semantic": self.semantic.to_json(),
            "layout": self.layout.to_json(),
            "tables_sha256": self.tables_sha256,
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
        for name, expected in (("format", _FORMAT), ("version", _VERSION)):
            if data.get(name) != expected:
                raise StoreError(f"codec, {name}: found {data.get(name)!r}, expected {expected!r}")
        coder = _CODERS.get(str(data.get("profile")))
        if coder is None:
            known = " or ".join(map(repr, _CODERS))
            raise StoreError(f"codec, profile: found {data.get('profile')!r}, expected {known}")
        space = ClipSpace.from_json(data.get("space"))
        try:
            semantic = coder.from_json(data.get("semantic"))
            codec = cls(space, semantic, LayoutCoder.from_json(data.get("layout")))
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
            raise StoreError(f"{path}: found no JSON ({error}), expected a store's codec.json") from None
        except StoreError as error:
            raise StoreError(f"{path}: {error}") from None


def _each_named(blobs: Sequence[bytes], decode: Callable[[Sequence[bytes]], T]) -> T:
    """Decode streams together; when one is bad, find it and put its position in front of what is wrong."""
    try:
        return decode(blobs)
    except BitstreamError:
        for row, blob in enumerate(blobs) if len(blobs) > 1 else ():
            try:
                decode([blob])
            except BitstreamError as error:
                raise type(error)(f"stream {row + 1} of {len(blobs)}: {error}") from None
        raise
