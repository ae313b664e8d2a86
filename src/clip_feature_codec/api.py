"""`ClipCodec`: the whole codec behind one object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from PIL import Image

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.transcode import transcode
from clip_feature_codec.decoders.options import PaintKeywords, PaintOptions
from clip_feature_codec.errors import CheckpointError, StoreError
from clip_feature_codec.images import Picture, as_picture
from clip_feature_codec.packs import DEFAULT_PACK, PACK_DECODER, pack_folder
from clip_feature_codec.preview import analyse, preview
from clip_feature_codec.store.feature_store import CODEC_FILE, DECODER_FILE

# torch and open_clip are imported where they are first needed: reading vectors takes no seconds of imports.
if TYPE_CHECKING:
    from clip_feature_codec.decoders.protocol import Decoder
    from clip_feature_codec.embed import ClipEmbedder


class ClipCodec:
    """Pictures to ``.clp`` streams and back; made by `load`.

    The CLIP model and the decoder are loaded at their first use, so that reading vectors needs neither.

    Attributes:
        features: the tables that code vectors.
    """

    def __init__(
        self,
        features: FeatureCodec,
        weights: Path | None,
        model: str | None = None,
        pretrained: str | None = None,
        device: str | None = None,
    ) -> None:
        self.features = features
        self._weights = weights
        self._model, self._pretrained = model, pretrained
        self._device = device or "auto"

    @classmethod
    def load(
        cls,
        source: str | Path = DEFAULT_PACK,
        *,
        weights: str | Path | None = None,
        model: str | None = None,
        pretrained: str | None = None,
        device: str | None = None,
    ) -> ClipCodec:
        """Load a codec.

        Args:
            source: a pack (``mini``), a store's folder, or a ``codec.json``.
            weights: decoder checkpoint; by default the pack's, or the one trained in the store.
            model: CLIP model to use instead of the one that the codec names; must be of the same space.
            pretrained: tag or file of its weights.
            device: ``auto`` (also None), ``cpu``, ``cuda`` or ``mps``.

        Raises:
            StoreError: there is no codec there.
        """
        path = pack_folder(str(source)) or Path(source)
        if path.is_dir():
            path /= CODEC_FILE
        if not path.is_file():
            raise StoreError(
                f"{source} is neither a pack ({DEFAULT_PACK}), nor a store's folder, nor a codec.json"
            )
        features = FeatureCodec.load(path)
        decoder = Path(weights) if weights else _decoder_of(path, features)
        return cls(features, decoder, model, pretrained, device)

    @cached_property
    def embedder(self) -> ClipEmbedder:
        """The CLIP model of the codec's space, loaded at its first use."""
        from clip_feature_codec.embed import ClipEmbedder

        return ClipEmbedder.for_space(self.features.space, self._model, self._pretrained, self._device)

    @cached_property
    def decoder(self) -> Decoder:
        """What paints, loaded at its first use."""
        from clip_feature_codec.decoders.checkpoint import load_decoder
        from clip_feature_codec.devices import pick_device

        if self._weights is None:
            raise CheckpointError(
                f"there is no {DECODER_FILE} beside the codec of {self.features.space.label}: "
                "train a decoder, or name a checkpoint with --weights (in Python: weights=)"
            )
        decoder = load_decoder(self._weights, pick_device(self._device))
        self.features.space.require_same(decoder.space, f"decoder {self._weights}")
        return decoder

    def embed(self, image: Picture) -> np.ndarray:
        """A picture's CLIP vector before coding: float32 (D,), unit length."""
        vector: np.ndarray = self.embedder.embed_images([as_picture(image)])[0]
        return vector

    def encode(
        self,
        image: Picture,
        *,
        max_bytes: int | None = None,
        target_cosine: float | None = None,
        quality: float | None = None,
        layers: str = "both",
    ) -> bytes:
        """Encode one picture to the bytes of a ``.clp`` file.

        At most one of the first three says how large or how good it should be (see `codec.rate.Rate`).

        Args:
            image: the picture.
            max_bytes: size that the stream never exceeds, header included.
            target_cosine: cosine of the decoded vector with the picture's own that is reached at least.
            quality: 0 (smallest) to 100 (best); 50 when nothing is asked.
            layers: ``both``, ``semantic`` (the vector) or ``layout`` (a coarse picture; needs no CLIP model).

        Raises:
            ImageError: it cannot be read as a picture.
            ConfigError: the rate cannot be met.
        """
        rate = Rate(max_bytes, target_cosine, quality, layers)
        return self._encode_batch([as_picture(image)], rate)[0]

    def encode_many(
        self,
        images: Iterable[Picture],
        *,
        max_bytes: int | None = None,
        target_cosine: float | None = None,
        quality: float | None = None,
        layers: str = "both",
    ) -> list[bytes]:
        """Encode pictures, in order, in batches (see `encode`)."""
        from clip_feature_codec.encode import BATCH_SIZE

        rate = Rate(max_bytes, target_cosine, quality, layers)
        blobs, batch = [], []
        for image in images:
            batch.append(as_picture(image))
            if len(batch) == BATCH_SIZE:
                blobs += self._encode_batch(batch, rate)
                batch = []
        return blobs + self._encode_batch(batch, rate)

    def _encode_batch(self, pictures: Sequence[Image.Image], rate: Rate) -> list[bytes]:
        if not pictures:
            return []
        layers = Layers(
            None if rate.layers == "layout" else self.embedder.embed_images(pictures),
            None if rate.layers == "semantic" else np.stack([analyse(picture) for picture in pictures]),
            [picture.width / picture.height for picture in pictures],
        )
        return self.features.encode(layers, rate)

    def encode_vectors(
        self,
        vectors: np.ndarray,
        aspects: Sequence[float | None] | None = None,
        *,
        max_bytes: int | None = None,
        target_cosine: float | None = None,
        quality: float | None = None,
    ) -> list[bytes]:
        """Encode vectors that are there already; needs no CLIP model, and there is no layout layer.

        Args:
            vectors: float (N, D), of any positive length.
            aspects: width / height of each picture; None for square.
            max_bytes: as for `encode`.
            target_cosine: as for `encode`.
            quality: as for `encode`.
        """
        rate = Rate(max_bytes, target_cosine, quality)
        return self.features.encode(Layers(np.asarray(vectors, np.float32), aspects=aspects), rate)

    def vector(self, blob: bytes) -> np.ndarray:
        """The CLIP vector in a stream: float32 (D,), unit length.

        Raises:
            BitstreamError: the stream is damaged or was written with other tables.
        """
        vector: np.ndarray = self.vectors([blob])[0]
        return vector

    def vectors(self, blobs: Sequence[bytes]) -> np.ndarray:
        """The CLIP vectors in N streams: float32 (N, D), unit length."""
        return self.features.vectors(self.features.parse_all(blobs))

    def preview(self, blob: bytes, *, size: int = 256, square: bool = False) -> Image.Image:
        """Show the layout layer alone: a coarse picture, without any network.

        Args:
            blob: the bytes of a ``.clp`` file.
            size: longer side of the result, in pixels.
            square: give out the square canvas instead of the picture's own shape.

        Raises:
            MissingLayerError: the stream has no layout layer.
            BitstreamError: the stream is damaged or was written with other tables.
            ConfigError: ``size`` is out of range.
        """
        return preview(self.features.parse(blob), self.features, size, square)

    def transcode(
        self,
        blobs: Sequence[bytes],
        *,
        max_bytes: int | None = None,
        target_cosine: float | None = None,
        quality: float | None = None,
        layers: str = "both",
    ) -> list[bytes]:
        """Make N streams smaller without their pictures (see `encode` and `codec.transcode.transcode`)."""
        rate = Rate(max_bytes, target_cosine, quality, layers)
        return transcode(self.features.parse_all(blobs), rate, self.features, self.features)

    def decode(self, blob: bytes, **options: Unpack[PaintKeywords]) -> Image.Image:
        """Paint the picture of a stream.

        Args:
            blob: the bytes of a ``.clp`` file.
            **options: ``steps``, ``sampler``, ``eta``, ``guidance``, ``fidelity``, ``seed``, ``size`` and
                ``square``, as `PaintOptions` describes them; an ``eta`` alone chooses DDIM.

        Raises:
            BitstreamError: the stream is damaged or was written with other tables.
            CheckpointError: there is no decoder, or it cannot be read.
            ConfigError: an option is out of range.
        """
        return self.decode_many([blob], **options)[0]

    def decode_many(self, blobs: Sequence[bytes], **options: Unpack[PaintKeywords]) -> list[Image.Image]:
        """Paint the pictures of N streams, in order, in batches (see `decode`)."""
        from clip_feature_codec.reconstruct import paint

        chosen = PaintOptions.of(**options)
        return list(paint(self.features.parse_all(blobs), self.features, self.decoder, chosen))


def _decoder_of(codec_file: Path, features: FeatureCodec) -> Path | None:
    """The decoder that belongs to a codec: trained in its store, or that of the pack whose space it is."""
    trained = codec_file.with_name(DECODER_FILE)
    pack = pack_folder(features.space.model)
    candidates = [trained, pack / PACK_DECODER] if pack else [trained]
    return next((file for file in candidates if file.is_file()), None)
