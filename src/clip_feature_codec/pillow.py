"""Lets Pillow open and save ``.clp`` files, from when this module is imported.

    import clip_feature_codec.pillow

    image = Image.open("photo.clp")  # its size is known, nothing is decoded
    image.show()  # the layout layer
    image.paint(fidelity=1.0).show()  # what the decoder makes of the stream
    photo.save("photo.clp", max_bytes=140)

Pillow finds no plug-ins by itself: it imports those of its own and no others, so that one import is needed.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Unpack

from PIL import Image, ImageFile, UnidentifiedImageError

from clip_feature_codec.api import ClipCodec
from clip_feature_codec.bundle import Bundle, bundle_of, bundles_near
from clip_feature_codec.codec.bitstream import MAGIC, MAX_STREAM_BYTES, VERSION, Stream
from clip_feature_codec.codec.rate import RateKeywords
from clip_feature_codec.decoders.options import PaintKeywords
from clip_feature_codec.errors import CodecError, ConfigError, MissingLayerError
from clip_feature_codec.images import output_size
from clip_feature_codec.names import CLP_MIME
from clip_feature_codec.packs import DEFAULT_PACK
from clip_feature_codec.preview import MAX_SIZE

FORMAT = "CLP"
_SIZE = 256


class ClpImageFile(ImageFile.ImageFile):
    """A ``.clp`` file as Pillow opens it: the pixels of its layout layer, drawn when they are needed.

    The longer side is 256 pixels unless `draft` asks for another size, as `Image.thumbnail` does.

    Attributes:
        stream: the file, taken apart.
        codec: the codec that it was written with. Of it, the networks are loaded when they are needed.
    """

    format = FORMAT
    format_description = "CLIP features and a coarse colour layout"

    stream: Stream
    codec: ClipCodec

    def _open(self) -> None:
        self._read(self.fp.read(MAX_STREAM_BYTES + 1) if self.fp else b"")

    def _read(self, blob: bytes) -> None:
        beside = Path(os.fsdecode(self.filename)) if self.filename else None
        try:
            bundle, self.stream = bundle_of(blob, bundles_near(beside))
        except CodecError as error:
            raise UnidentifiedImageError(f"{beside}: {error}" if beside else str(error)) from None
        self.codec = _loaded(bundle, bundle.codec.tables_sha256)
        self._mode = "RGB"
        self._size = output_size(self.stream.aspect, _SIZE)

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Choose the size of the preview, before it is drawn.

        Args:
            mode: is left as it is, RGB.
            size: width and height that the picture is to cover, as for JPEG files; here also larger ones.

        Returns:
            The mode, and the box that the picture fills; None where it stays as it is.
        """
        if size is None or self._im is not None:
            return None
        longer = max(size[0] / self.width, size[1] / self.height) * max(self.size)
        self._size = output_size(self.stream.aspect, min(max(1, math.ceil(longer)), MAX_SIZE))
        return self.mode, (0, 0, *self.size)

    def load(self) -> Any:
        """Draw the layout layer.

        Raises:
            OSError: there is none, or it is damaged.
        """
        if self._im is None:
            try:
                self.im = self.codec.preview(self.stream.blob, size=max(self.size)).im
            except MissingLayerError as error:
                raise OSError(f"{error}; paint() makes a picture of what there is") from None
            except CodecError as error:
                raise OSError(str(error)) from None
            if self._exclusive_fp and self.fp:
                self.fp.close()
            self.fp = None
        return super().load()

    def paint(self, **options: Unpack[PaintKeywords]) -> Image.Image:
        """Paint the picture of the stream.

        Args:
            **options: as for `ClipCodec.decode`: ``steps``, ``fidelity``, ``seed``, ``size`` and others.

        Returns:
            Another image, RGB.

        Raises:
            CodecError: as for `ClipCodec.decode`.
        """
        return self.codec.decode(self.stream.blob, **options)

    def __getstate__(self) -> list[Any]:
        return [*super().__getstate__(), self.stream.blob]

    def __setstate__(self, state: list[Any]) -> None:
        *rest, blob = state
        super().__setstate__(rest)
        size = self.size
        self._read(blob)
        self._size = size


def _accept(prefix: bytes) -> bool:
    """Whether a file begins as one of ours; what is wrong with it otherwise, `_open` says."""
    return len(prefix) > 1 and prefix[0] == MAGIC and prefix[1] >> 5 == VERSION


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Encode an image, as `Image.save` asks for it.

    Of its keywords, those of `codec.rate.Rate` count, and ``codec``: a `ClipCodec`, by default that of the
    built-in model.
    """
    asked = image.encoderinfo
    codec = asked.get("codec")
    try:
        if not isinstance(codec, ClipCodec | None):
            raise ConfigError(f"codec: found {type(codec).__name__}, expected a ClipCodec")
        rate: RateKeywords = {name: asked[name] for name in RateKeywords.__annotations__ if name in asked}  # type: ignore[assignment]
        blob = (codec or _loaded(DEFAULT_PACK)).encode(image, **rate)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    except CodecError as error:
        raise OSError(str(error)) from None
    file.write(blob)


@lru_cache(maxsize=4)
def _loaded(source: str | Bundle, tables_sha256: str = "") -> ClipCodec:
    """A codec whose networks are loaded once for all images; by other tables in its place, a new one."""
    return ClipCodec.load(source)


Image.register_open(FORMAT, ClpImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".clp")
Image.register_mime(FORMAT, CLP_MIME)
