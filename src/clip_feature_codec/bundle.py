"""What belongs together: codec tables, the decoder beside them, and the streams that they were made for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clip_feature_codec.arguments import describe
from clip_feature_codec.codec.bitstream import Stream, read_codec_id
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError
from clip_feature_codec.lazy import lazy
from clip_feature_codec.names import CODEC_FILE, DECODER_FILE, PACK_DECODER, has_pictures
from clip_feature_codec.packs import DEFAULT_PACK, pack_folder, pack_names


@dataclass(frozen=True)
class Bundle:
    """A pack, a store, or a ``codec.json`` by itself: tables, and perhaps a decoder, in one folder.

    Attributes:
        name: what it is called in messages: a pack's name, or the path of its tables.
        codec_file: its tables, read when they are first asked for.
    """

    name: str
    codec_file: Path

    @classmethod
    def find(cls, source: str | Path) -> Bundle:
        """Find a bundle.

        Args:
            source: a pack (``mini``), a store's folder, or a ``codec.json``.

        Raises:
            StoreError: there is no codec there.
            ConfigError: ``source`` is no path or name at all.
        """
        if not isinstance(source, str | Path):
            raise ConfigError(
                f"source: found {describe(source)}, expected a pack's name, a store's folder or a codec.json"
            )
        if pack := pack_folder(str(source)):
            return cls(str(source), pack / CODEC_FILE)
        path = Path(source)
        file = path / CODEC_FILE if path.is_dir() else path
        if not file.is_file():
            raise StoreError(
                f"{source} is neither a pack ({DEFAULT_PACK}), nor a store's folder, nor a codec.json"
            )
        return cls(str(file), file)

    @lazy
    def codec(self) -> FeatureCodec:
        """The tables.

        Raises:
            StoreError: they are malformed.
        """
        return FeatureCodec.load(self.codec_file)

    @property
    def decoder_file(self) -> Path | None:
        """The decoder that lies beside the tables, else that of the pack whose CLIP space it is."""
        folders = [self.codec_file.parent, pack_folder(self.codec.space.model)]
        files = [folder / name for folder in folders if folder for name in (DECODER_FILE, PACK_DECODER)]
        return next((file for file in files if file.is_file()), None)


def bundles_near(stream: Path | None) -> Iterator[Bundle]:
    """Where the tables of a lone stream may be: in the folders above it, then in the packs.

    The store that it lies in has its tables, so that no folder above a store is looked into.

    Args:
        stream: a ``.clp`` file; None for bytes that come from nowhere.
    """
    for folder in stream.resolve().parents if stream else ():
        if (folder / CODEC_FILE).is_file():
            yield Bundle.find(folder / CODEC_FILE)
        if has_pictures(folder):
            break
    for name in pack_names():
        yield Bundle.find(name)


def bundle_of(blob: bytes, candidates: Iterable[Bundle]) -> tuple[Bundle, Stream]:
    """Find the tables that a stream was written with, by the codec id in it and by its checksum.

    Args:
        blob: the bytes of a ``.clp`` file.
        candidates: where to look, in this order.

    Raises:
        BitstreamError: it is no stream, it is damaged, or none of the candidates has its tables; with the
            files that were tried.
    """
    wanted = read_codec_id(blob)
    tried, damage = [], None
    for bundle in candidates:
        try:
            found = bundle.codec.codec_id
        except StoreError:  # somebody else's codec.json, perhaps
            tried.append(f"{bundle.name} (unreadable)")
            continue
        tried.append(f"{bundle.name} ({found.hex()})")
        if found == wanted:
            try:
                return bundle, bundle.codec.parse(blob)
            except BitstreamError as error:
                damage = damage or BitstreamError(f"{error} (tables: {bundle.name})")
    raise damage or BitstreamError(
        f"codec id: found {wanted.hex()}; the stream was written with other tables than {', '.join(tried)}: "
        "name its own store or codec.json (--codec)"
    )
