"""`ClipCodec`: the whole codec behind one object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.arguments import describe, require_list, require_number
from clip_feature_codec.bundle import Bundle
from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate, RateKeywords
from clip_feature_codec.codec.transcode import transcode
from clip_feature_codec.decoders.options import PaintKeywords, PaintOptions
from clip_feature_codec.errors import CheckpointError, ConfigError, StoreError
from clip_feature_codec.extras import extra
from clip_feature_codec.files import file_sha256
from clip_feature_codec.images import Picture, as_picture
from clip_feature_codec.lazy import lazy
from clip_feature_codec.names import DECODER_FILE, is_hub_name
from clip_feature_codec.packs import DEFAULT_PACK, PARTS, pack_folder
from clip_feature_codec.preview import analyse, preview
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.stream_source import StreamSource, named, read_stream

# torch and open_clip are imported where they are first needed: reading vectors takes no seconds of imports.
if TYPE_CHECKING:
    from clip_feature_codec.decoders.protocol import Decoder
    from clip_feature_codec.embed import Embedder


class ClipCodec:
    """Pictures to ``.clp`` streams and back; made by `load`.

    The CLIP model and the decoder are loaded at their first use, so that reading vectors needs neither; by
    several threads at once, they are loaded once. Pickled, it is where it was loaded from, and loaded again
    there in the process that unpickles it, such as a data loader's worker.

    Attributes:
        features: the tables that code vectors.
    """

    def __init__(
        self,
        features: FeatureCodec,
        decoder: str | Path | None,
        model: str | None = None,
        pretrained: str | None = None,
        device: str | None = None,
    ) -> None:
        self.features = features
        self._decoder = decoder
        self._model, self._pretrained = model, pretrained
        self._device = device or "auto"
        self._origin: _Origin | None = None
        self._expected_decoder: str | None = None

    @classmethod
    def load(
        cls,
        source: str | Path | Bundle = DEFAULT_PACK,
        *,
        decoder: str | Path | None = None,
        model: str | None = None,
        pretrained: str | None = None,
        device: str | None = None,
    ) -> ClipCodec:
        """Load a codec.

        Args:
            source: a pack (``mini``), a store's folder, a ``codec.json``, or what has been found there.
            decoder: its file, its folder, or its name on a hub (see `decoders.loading.open_decoder`); by
                default the pack's, or the one trained in the store.
            model: CLIP model to use instead of the one that the codec names; must be of the same space.
            pretrained: tag or file of its weights.
            device: ``auto`` (also None), ``cpu``, ``cuda`` or ``mps``.

        Raises:
            StoreError: there is no codec there.
            ConfigError: an argument is of the wrong kind.
        """
        for name, value in (("decoder", decoder), ("model", model), ("pretrained", pretrained)):
            _require_text(name, value, paths=name == "decoder")
        _require_text("device", device)
        bundle = source if isinstance(source, Bundle) else Bundle.find(source)
        codec = cls(bundle.codec, decoder or bundle.decoder, model, pretrained, device)
        codec._origin = _Origin.of(bundle, decoder)
        return codec

    def __reduce__(self) -> tuple[Any, ...]:
        named = (self._model, self._pretrained, self._device)
        if self._origin is None:  # made of tables that came from nowhere: they travel themselves
            return ClipCodec, (self.features, self._decoder, *named)
        return _load_again, (self._origin, self.features.tables_sha256, self._decoder_sha256, *named)

    @lazy
    def _decoder_sha256(self) -> str | None:
        """SHA-256 of the decoder's file, in hex; None where there is none."""
        if self._decoder is None or not Path(self._decoder).is_file():
            return None
        return file_sha256(Path(self._decoder))

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = DEFAULT_PACK,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        decoder: str | Path | None = None,
        device: str | None = None,
    ) -> ClipCodec:
        """Load a pack from a model hub, all of it, or from a folder.

        Each file from a hub is checked by its hash. Weights that are no safetensors are refused.

        Args:
            source: ``user/name`` or ``user/name@revision``; a folder that `save_pretrained` made, or any
                other source of `load`.
            revision: branch, tag or commit; by default ``main``.
            cache_dir: the hub's cache; by default that of all programs (``HF_HUB_CACHE``).
            token: for private repositories; by default the one that was stored at login.
            local_files_only: ask nothing of the network.
            decoder: as for `load`.
            device: as for `load`.

        Raises:
            HubError: the repository cannot be had, or holds other things than it should.
            StoreError: there is no pack.
        """
        if not is_hub_name(str(source)):
            return cls.load(source, decoder=decoder, device=device)
        from clip_feature_codec.hub import look

        repository = look(
            str(source),
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        bundle = Bundle.of(repository, PARTS)
        # In a cache of its own, it would not be found again by its name.
        return cls.load(repository.folder if cache_dir else bundle, decoder=decoder, device=device)

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        """Save as a pack: tables, decoder, a model card, and the CLIP model where it has no public name.

        Args:
            folder: see `sharing.save_pack`.
            license: of the weights, as hubs call it, such as ``mit``.

        Raises:
            OutputError: something is there that would be lost.
            CheckpointError: the decoder is not one of ours.
        """
        from clip_feature_codec.sharing import save_pack

        save_pack(Path(folder), self.features, self._checkpoint(), license=license)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload a pack of clip-feature-codec",
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        license: str | None = None,
    ) -> str:
        """Upload as a pack (see `save_pretrained`); a model card that is there stays as it is.

        Args:
            repo_id: ``user/name``; made if it is not there.
            commit_message: of the one commit.
            private: of a repository that is made; by default what the user's settings say.
            token: that may write; by default the one that was stored at login.
            revision: branch to commit to, made if it is not there; by default ``main``.
            license: as for `save_pretrained`.

        Returns:
            ``user/name@commit``, a name that always means what was uploaded.

        Raises:
            HubError: the hub cannot be reached, or does not allow it.
        """
        from tempfile import TemporaryDirectory

        from clip_feature_codec.hub import upload
        from clip_feature_codec.sharing import save_pack

        with TemporaryDirectory() as folder:
            save_pack(Path(folder), self.features, self._checkpoint(), name=repo_id, license=license)
            return upload(
                Path(folder), repo_id, message=commit_message, private=private, token=token, revision=revision
            )

    def _checkpoint(self) -> Path | None:
        """The file of the decoder, if there is one."""
        from clip_feature_codec.decoders.loading import find_checkpoint

        return None if self._decoder is None else find_checkpoint(self._decoder)

    def __repr__(self) -> str:
        space = self.features.space
        model = f"{space.model}/{space.pretrained}"
        return f"<ClipCodec model={model!r} profile={self.features.profile!r} device={self._device!r}>"

    @lazy
    def embedder(self) -> Embedder:
        """The CLIP model of the codec's space, loaded at its first use."""
        from clip_feature_codec.embed import embedder_for

        return embedder_for(self.features.space, self._model, self._pretrained, self._device)

    @lazy
    def decoder(self) -> Decoder:
        """What paints, loaded at its first use."""
        from clip_feature_codec.decoders.loading import open_decoder

        if self._decoder is None:
            raise CheckpointError(
                f"there is no {DECODER_FILE} beside the codec of {self.features.space.label}: "
                "train a decoder, or name one with --decoder (in Python: decoder=)"
            )
        if self._expected_decoder not in (None, self._decoder_sha256):
            raise CheckpointError(f"{self._decoder}: not the decoder that the codec had when it was pickled")
        with extra("clip", f"decoder {self._decoder}"):
            decoder = open_decoder(self._decoder, self._device)
        self.features.space.require_same(decoder.space, f"decoder {self._decoder}")
        return decoder

    @lazy
    def decoder_source(self) -> str:
        """How the decoder is found again: a path, or a name on a hub with its commit; empty without one."""
        from clip_feature_codec.decoders.loading import pinned

        return "" if self._decoder is None else pinned(self._decoder)

    def embed(self, image: Picture) -> NDArray[np.float32]:
        """A picture's CLIP vector before coding: float32 (D,), unit length."""
        vector: NDArray[np.float32] = self.embedder.embed_images([as_picture(image)])[0]
        return vector

    def encode(self, image: Picture, **rate: Unpack[RateKeywords]) -> bytes:
        """Encode one picture to the bytes of a ``.clp`` file.

        Args:
            image: the picture.
            **rate: how large or how good the stream should be, as `codec.rate.Rate` describes it: one of
                ``max_bytes``, ``target_cosine`` and ``quality`` (0 to 100; 50 when nothing is asked), and
                ``layers``: ``both``, ``semantic`` (the vector) or ``layout`` (a coarse picture; needs no CLIP
                model).

        Raises:
            ImageError: it cannot be read as a picture.
            ConfigError: the rate cannot be met, or an argument is of the wrong kind.
        """
        asked = Rate(**rate)
        return self.encode_pictures([as_picture(image)], asked)[0]

    def encode_many(
        self, images: Iterable[Picture], *, progress: Progress = silent, **rate: Unpack[RateKeywords]
    ) -> list[bytes]:
        """Encode pictures, in order, in batches.

        Args:
            images: the pictures; a generator is read a batch at a time.
            progress: told of the pictures that are done, as the stage ``encoding``.
            **rate: as for `encode`.
        """
        return list(self.iter_encode(images, progress=progress, **rate))

    def iter_encode(
        self, images: Iterable[Picture], *, progress: Progress = silent, **rate: Unpack[RateKeywords]
    ) -> Iterator[bytes]:
        """Encode pictures as `encode_many` does, and give out each stream as soon as its batch is done."""
        asked = Rate(**rate)
        _require_pictures(images)
        return self._encoded(images, asked, progress)

    def _encoded(self, images: Iterable[Picture], rate: Rate, progress: Progress) -> Iterator[bytes]:
        from clip_feature_codec.encode import BATCH_SIZE

        total = len(images) if isinstance(images, Sized) else 0
        done, rest = 0, iter(images)
        progress("encoding", done, total)
        while batch := [as_picture(image) for image in islice(rest, BATCH_SIZE)]:
            yield from self.encode_pictures(batch, rate)
            done += len(batch)
            progress("encoding", done, max(done, total))

    def encode_pictures(self, pictures: Sequence[Image.Image], rate: Rate) -> list[bytes]:
        """Encode RGB pictures as one batch, as `images.load_image` gives them."""
        if not pictures:
            return []
        vectors = None if rate.layers == "layout" else self.embedder.embed_images(pictures)
        layouts = None if rate.layers == "semantic" else np.stack([analyse(picture) for picture in pictures])
        aspects = [picture.width / picture.height for picture in pictures]
        return self.features.encode(Layers(vectors, layouts, aspects), rate)

    def encode_vectors(
        self,
        vectors: NDArray[np.floating],
        aspects: Sequence[float | None] | None = None,
        **rate: Unpack[RateKeywords],
    ) -> list[bytes]:
        """Encode vectors that are there already; needs no CLIP model, and there is no layout layer.

        Args:
            vectors: float (N, D), of any positive length.
            aspects: width / height of each picture; None for square.
            **rate: as for `encode`.

        Raises:
            ConfigError: the rate cannot be met, or an argument is of the wrong kind or shape.
        """
        asked = Rate(**rate)
        return self.features.encode(Layers(_rows(vectors), aspects=_shapes(aspects)), asked)

    def vector(self, blob: StreamSource) -> NDArray[np.float32]:
        """The CLIP vector in a stream: float32 (D,), unit length.

        Raises:
            BitstreamError: the stream cannot be read, is damaged, or was written with other tables.
        """
        with named(blob):
            vector: NDArray[np.float32] = self.features.vectors([self._parse(blob)])[0]
        return vector

    def vectors(self, blobs: Iterable[StreamSource]) -> NDArray[np.float32]:
        """The CLIP vectors in N streams: float32 (N, D), unit length."""
        return self.features.vectors(self._parse_all(blobs))

    def preview(self, blob: StreamSource, *, size: int = 256, square: bool = False) -> Image.Image:
        """Show the layout layer alone: a coarse picture, without any network.

        Args:
            blob: the bytes of a ``.clp`` file, or its path.
            size: longer side of the result, in pixels.
            square: give out the square canvas instead of the picture's own shape.

        Raises:
            MissingLayerError: the stream has no layout layer.
            BitstreamError: the stream cannot be read, is damaged, or was written with other tables.
            ConfigError: ``size`` is out of range.
        """
        with named(blob):
            return preview(self._parse(blob), self.features, size, square)

    def transcode(self, blobs: Iterable[StreamSource], **rate: Unpack[RateKeywords]) -> list[bytes]:
        """Make N streams smaller without their pictures (see `encode` and `codec.transcode.transcode`)."""
        return transcode(self._parse_all(blobs), Rate(**rate), self.features, self.features)

    def decode(self, blob: StreamSource, **options: Unpack[PaintKeywords]) -> Image.Image:
        """Paint the picture of a stream.

        Args:
            blob: the bytes of a ``.clp`` file, or its path.
            **options: ``steps``, ``sampler``, ``eta``, ``guidance``, ``fidelity``, ``seed``, ``size`` and
                ``square``, as `PaintOptions` describes them; an ``eta`` alone chooses DDIM.

        Raises:
            BitstreamError: the stream cannot be read, is damaged, or was written with other tables.
            CheckpointError: there is no decoder, or it cannot be read.
            ConfigError: an option is out of range, or an argument is of the wrong kind.
        """
        with named(blob):
            return self.decode_many([blob], **options)[0]

    def decode_many(
        self,
        blobs: Iterable[StreamSource],
        *,
        progress: Progress = silent,
        **options: Unpack[PaintKeywords],
    ) -> list[Image.Image]:
        """Paint the pictures of N streams, in order, in batches.

        Args:
            blobs: the streams.
            progress: told of the pictures that are done, as the stage ``decoding``.
            **options: as for `decode`.
        """
        return list(self.iter_decode(blobs, progress=progress, **options))

    def iter_decode(
        self,
        blobs: Iterable[StreamSource],
        *,
        progress: Progress = silent,
        **options: Unpack[PaintKeywords],
    ) -> Iterator[Image.Image]:
        """Paint pictures as `decode_many` does, and give out each one as soon as its batch is done."""
        from clip_feature_codec.reconstruct import paint

        chosen = PaintOptions.of(**options)
        return paint(self._parse_all(blobs), self.features, self.decoder, chosen, progress=progress)

    def _parse(self, blob: StreamSource) -> Stream:
        return self.features.parse(read_stream(blob))

    def _parse_all(self, blobs: Iterable[StreamSource]) -> list[Stream]:
        listed = require_list("blobs", blobs, "a list of streams")
        return self.features.parse_all([read_stream(blob) for blob in listed])


@dataclass(frozen=True)
class _Origin:
    """Where a codec was loaded from.

    Attributes:
        source: a pack by its name, which may lie elsewhere where it is unpickled; or the path of the tables.
        decoder: what was named as one.
    """

    source: str
    decoder: str | None

    @classmethod
    def of(cls, bundle: Bundle, decoder: str | Path | None) -> _Origin:
        """Name what has been loaded."""
        source = bundle.name if pack_folder(bundle.name) else str(bundle.codec_file.resolve())
        if decoder is not None:
            decoder = Path(decoder).resolve() if Path(decoder).exists() else decoder
        return cls(source, str(decoder) if decoder else None)


def _load_again(
    origin: _Origin, tables_sha256: str, decoder_sha256: str | None, *named: str | None
) -> ClipCodec:
    """Unpickle a codec by loading it from where it came from.

    Raises:
        StoreError: there are other tables now.
    """
    model, pretrained, device = named
    codec = ClipCodec.load(
        origin.source, decoder=origin.decoder, model=model, pretrained=pretrained, device=device
    )
    if codec.features.tables_sha256 != tables_sha256:
        raise StoreError(f"{origin.source}: found other tables than the codec had when it was pickled")
    codec._expected_decoder = decoder_sha256
    return codec


def _rows(vectors: object) -> NDArray[np.float32]:
    """Vectors as float32 (N, D)."""
    try:
        rows = np.asarray(vectors, np.float32)
    except (TypeError, ValueError, RuntimeError):  # the last from a tensor that has a gradient
        rows = np.empty(0, np.float32)
    if rows.ndim != 2:
        raise ConfigError(f"vectors: found {describe(vectors)}, expected floats (N, D)")
    return rows


def _shapes(aspects: Iterable[float | None] | None) -> list[float | None] | None:
    if aspects is None:
        return None
    shapes = require_list("aspects", aspects, "one for each vector")
    for shape in shapes:
        if shape is not None:
            require_number("aspects", shape)
    return shapes


def _require_pictures(images: Iterable[Picture]) -> None:
    """Refuse one picture where a list of them is wanted: its rows would be taken for pictures."""
    alone = getattr(images, "ndim", 4) < 4
    if alone or isinstance(images, Image.Image | str | PathLike | bytes) or not isinstance(images, Iterable):
        raise ConfigError(f"images: found {describe(images)}, expected a list of pictures")


def _require_text(name: str, value: object, paths: bool = False) -> None:
    if value is not None and not isinstance(value, str) and not (paths and isinstance(value, PathLike)):
        raise ConfigError(f"{name}: found {describe(value)}, expected {'a path' if paths else 'a str'}")
