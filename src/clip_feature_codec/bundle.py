"""What belongs together: codec tables, the decoder beside them, and the streams that they were made for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clip_feature_codec.arguments import describe
from clip_feature_codec.codec.bitstream import Stream, read_codec_id
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError
from clip_feature_codec.lazy import lazy
from clip_feature_codec.names import CLIP_FOLDER, CODEC_FILE, DECODER_FOLDER, has_pictures, is_hub_name
from clip_feature_codec.packs import (
    DEFAULT_PACK,
    PARTS,
    clip_in,
    decoder_in,
    files_of,
    pack_folder,
    pack_names,
)

if TYPE_CHECKING:
    from clip_feature_codec.hub import Repository

IN_PACK = "pack"
"""What a space says in place of a tag, where its ``model`` is a pack and the weights are in it."""
IN_FOLDER = "folder"
"""The same, where it is the folder of the model alone."""


@dataclass(frozen=True)
class Bundle:
    """A pack, a store, or a ``codec.json`` by itself: tables, and perhaps a CLIP model and a decoder.

    Attributes:
        name: what it is called in messages: a pack's name, or the path of its tables.
        codec_file: its tables, read when they are first asked for.
        pack: how the pack is found again, if it is one: its name, its folder, or ``user/name@commit``.
        repository: where the rest of it is, if that is on a hub: it is downloaded part by part.
    """

    name: str
    codec_file: Path
    pack: str | None = None
    repository: Repository | None = None

    @classmethod
    def find(cls, source: str | Path) -> Bundle:
        """Find a bundle. Of one on a hub, the tables are downloaded; what lies here goes before.

        Args:
            source: a pack by its name (``mini``), its folder, or its name on a hub (``user/name`` or
                ``user/name@revision``); a store's folder; or a ``codec.json``.

        Raises:
            StoreError: there is no codec there.
            HubError: the repository cannot be had, or its weights are no safetensors.
            ConfigError: ``source`` is no path or name at all.
        """
        if not isinstance(source, str | Path):
            raise ConfigError(
                f"source: found {describe(source)}, expected a pack's name, a store's folder or a codec.json"
            )
        if pack := pack_folder(str(source)):
            return cls(str(source), pack / CODEC_FILE, str(source))
        if is_hub_name(str(source)):
            from clip_feature_codec.hub import look

            return cls.of(look(str(source)))
        path = Path(source)
        file = path / CODEC_FILE if path.is_dir() else path
        if not file.is_file():
            raise StoreError(
                f"{source} is neither a pack ({DEFAULT_PACK}), nor a store's folder, nor a codec.json"
            )
        return cls(str(file), file, str(file.parent.resolve()) if clip_in(file.parent) else None)

    @classmethod
    def of(cls, repository: Repository, parts: Sequence[str] = ("",)) -> Bundle:
        """Make one of a pack on a hub (see `find`).

        Args:
            repository: where it is.
            parts: what to download now (see `packs.PARTS`).
        """
        if CODEC_FILE not in repository.files:
            raise StoreError(f"{repository.name}: no pack: there is no {CODEC_FILE} in it")
        for part in PARTS:
            repository.require_safe(part)
        wanted = [name for part in parts for name in files_of(part, repository.files)]
        file = repository.download(wanted) / CODEC_FILE
        pack = repository.pinned if files_of(CLIP_FOLDER, repository.files) else None
        return cls(repository.pinned, file, pack, repository)

    @lazy
    def codec(self) -> FeatureCodec:
        """The tables; where the pack has a CLIP model of its own, their space says where that is.

        Raises:
            StoreError: they are malformed.
        """
        codec = FeatureCodec.load(self.codec_file)
        if self.pack is None:
            return codec
        return replace(codec, space=replace(codec.space, model=self.pack, pretrained=IN_PACK))

    @property
    def clip(self) -> Path | None:
        """The folder of the pack's own CLIP model, downloaded now if need be; None where it has none."""
        if self.pack is None:
            return None
        if self.repository:
            self.repository.download(files_of(CLIP_FOLDER, self.repository.files))
        return self.codec_file.parent / CLIP_FOLDER

    @property
    def decoder(self) -> str | Path | None:
        """How to open what paints: the decoder beside the tables, else that of the pack whose space it is."""
        if self.repository:
            return self.repository.pinned if files_of(DECODER_FOLDER, self.repository.files) else None
        space = self.codec.space
        if (own := decoder_in(self.codec_file.parent)) or space.pretrained != IN_PACK:
            return own
        return None if space.model == self.pack else _decoder_of(space.model)


class OwnClip(NamedTuple):
    """A CLIP model in a folder: that, and by what model and ``pretrained`` it is found again."""

    folder: Path
    model: str
    pretrained: str


def find_clip(model: str) -> OwnClip | None:
    """The CLIP model in the pack or folder of this name; None where the name is of something else."""
    pack = find_pack(model)
    if pack and pack.pack and (folder := pack.clip):
        return OwnClip(folder, pack.pack, IN_PACK)
    folder = Path(model)
    return OwnClip(folder, str(folder.resolve()), IN_FOLDER) if model and folder.is_dir() else None


def find_pack(model: str) -> Bundle | None:
    """The pack of this name that has a CLIP model of its own; None where the name is of something else."""
    if is_hub_name(model):
        from clip_feature_codec.hub import look

        repository = look(model)
        return Bundle.of(repository) if files_of(CLIP_FOLDER, repository.files) else None
    folder = pack_folder(model) or Path(model)
    return Bundle.find(model) if (folder / CODEC_FILE).is_file() and clip_in(folder) else None


def _decoder_of(pack: str) -> str | Path | None:
    """That of the pack by which a space is called; what a hub has is looked for when it is opened."""
    if is_hub_name(pack):
        return pack
    folder = pack_folder(pack) or Path(pack)
    return decoder_in(folder) if folder.is_dir() else None


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
    yield from map(_inside, pack_names())


@cache
def _inside(name: str) -> Bundle:
    """The pack inside the package of this name, whose tables are read once for all streams."""
    return Bundle.find(name)


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
