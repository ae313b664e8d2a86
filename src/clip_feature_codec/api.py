"""`ClipCodec`: the whole codec behind one object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.devices import pick_device
from clip_feature_codec.diffusion.checkpoint import Decoder, load_decoder
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import BATCH_SIZE
from clip_feature_codec.errors import CheckpointError, ConfigError
from clip_feature_codec.images import load_image
from clip_feature_codec.packs import DEFAULT_PACK, PACK_DECODER, pack_folder
from clip_feature_codec.reconstruct import PaintOptions, paint
from clip_feature_codec.store.feature_store import CODEC_FILE, DECODER_FILE

Picture = Image.Image | Path | str | np.ndarray
"""A picture: Pillow image, path, or uint8 array (H, W), (H, W, 3) or (H, W, 4)."""


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
        pack = pack_folder(str(source))
        path = pack / CODEC_FILE if pack else Path(source)
        if path.is_dir():
            path = path / CODEC_FILE
        features = FeatureCodec.load(path)
        return cls(
            features, Path(weights) if weights else _decoder_of(path, features), model, pretrained, device
        )

    @cached_property
    def embedder(self) -> ClipEmbedder:
        """The CLIP model of the codec's space, loaded at its first use."""
        return ClipEmbedder.for_space(self.features.space, self._model, self._pretrained, self._device)

    @cached_property
    def decoder(self) -> Decoder:
        """The diffusion decoder, loaded at its first use."""
        if self._weights is None:
            raise CheckpointError(
                "this codec has no decoder yet: train one, or name its checkpoint (weights)"
            )
        decoder = load_decoder(self._weights, pick_device(self._device))
        self.features.space.require_same(decoder.space, f"decoder {self._weights}")
        return decoder

    def embed(self, image: Picture) -> np.ndarray:
        """A picture's CLIP vector before coding: float32 (D,), unit length."""
        vector: np.ndarray = self.embedder.embed_images([_picture(image)])[0]
        return vector

    def encode(self, image: Picture) -> bytes:
        """Encode one picture to the bytes of a ``.clp`` file.

        Raises:
            ImageError: it cannot be read as a picture.
        """
        return self.encode_many([image])[0]

    def encode_many(self, images: Iterable[Picture]) -> list[bytes]:
        """Encode pictures, in order, in batches."""
        blobs, batch = [], []
        for image in images:
            batch.append(_picture(image))
            if len(batch) == BATCH_SIZE:
                blobs += self._encode_batch(batch)
                batch = []
        return blobs + self._encode_batch(batch)

    def _encode_batch(self, pictures: Sequence[Image.Image]) -> list[bytes]:
        vectors = self.embedder.embed_images(pictures)
        return self.encode_vectors(vectors, [picture.width / picture.height for picture in pictures])

    def encode_vectors(
        self, vectors: np.ndarray, aspects: Sequence[float | None] | None = None
    ) -> list[bytes]:
        """Encode vectors that are there already; needs no CLIP model.

        Args:
            vectors: float (N, D), of any positive length.
            aspects: width / height of each picture; None for square.
        """
        return self.features.encode(np.asarray(vectors, np.float32), aspects)

    def vector(self, blob: bytes) -> np.ndarray:
        """The CLIP vector in a stream: float32 (D,), unit length.

        Raises:
            BitstreamError: the stream is damaged or was written with other tables.
        """
        return self.vectors([blob])[0]

    def vectors(self, blobs: Sequence[bytes]) -> np.ndarray:
        """The CLIP vectors in N streams: float32 (N, D), unit length."""
        return self.features.decode(blobs)

    def decode(
        self, blob: bytes, *, steps: int = 50, seed: int = 0, size: int = 256, **options: float
    ) -> Image.Image:
        """Paint the picture of a stream.

        Args:
            blob: the bytes of a ``.clp`` file.
            steps: network evaluations.
            seed: chooses among the pictures that the stream allows.
            size: longer side of the result, in pixels.
            **options: the further fields of `PaintOptions`: ``eta``, ``guidance``, ``square``.

        Raises:
            BitstreamError: the stream is damaged or was written with other tables.
            CheckpointError: there is no decoder, or it cannot be read.
        """
        return self.decode_many([blob], steps=steps, seed=seed, size=size, **options)[0]

    def decode_many(
        self, blobs: Sequence[bytes], *, steps: int = 50, seed: int = 0, size: int = 256, **options: float
    ) -> list[Image.Image]:
        """Paint the pictures of N streams, in order, in batches (see `decode`)."""
        try:
            chosen = PaintOptions(steps=steps, seed=seed, size=size, **options)  # type: ignore[arg-type]
        except TypeError as error:
            raise ConfigError(f"decode: {error}") from None
        return list(paint(blobs, self.features, self.decoder, chosen))


def _decoder_of(codec_file: Path, features: FeatureCodec) -> Path | None:
    """The decoder that belongs to a codec: trained in its store, or that of the pack whose space it is."""
    trained = codec_file.with_name(DECODER_FILE)
    pack = pack_folder(features.space.model)
    candidates = [trained, pack / PACK_DECODER] if pack else [trained]
    return next((file for file in candidates if file.is_file()), None)


def _picture(image: Picture) -> Image.Image:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    return load_image(Path(image) if isinstance(image, str) else image)
