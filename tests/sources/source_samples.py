"""Archives of pictures, as those write them who made the formats; and what a source gives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from clip_feature_codec.sources.opening import open_source
from clip_feature_codec.sources.protocol import Notes, SourcePicture
from samples import make_picture


def picture_bytes(seed: int, kind: str = "JPEG") -> bytes:
    """A picture's file."""
    encoded = io.BytesIO()
    make_picture(seed, (40 + seed % 7, 30 + seed % 5)).save(encoded, kind)
    return encoded.getvalue()


def webdataset_tar(path: Path, seeds: range) -> Path:
    """A tar as webdataset writes it: pictures with captions and numbers beside them."""
    import webdataset

    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for seed in seeds:
            sample = {
                "__key__": f"{seed:05}",
                "jpg": picture_bytes(seed),
                "txt": "a caption",
                "json": {"n": 1},
            }
            writer.write(sample)
    return path


def plain_tar(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]], mode: str = "w") -> Path:
    """A tar of files of any names."""
    with tarfile.open(path, mode) as archive:
        for name, content in dict(files).items() if isinstance(files, dict) else files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def datasets_parquet(path: Path, seeds: range) -> Path:
    """A file as Hugging Face's datasets write it, with the pictures inside."""
    import datasets

    images = [
        {"bytes": picture_bytes(seed), "path": f"cat{seed}.jpg" if seed % 2 else None} for seed in seeds
    ]
    features = datasets.Features({"label": datasets.Value("int64"), "image": datasets.Image()})
    made = datasets.Dataset.from_dict({"label": list(seeds), "image": images}, features=features)
    made.to_parquet(str(path))
    return path


def img2dataset_parquet(path: Path, rows: list[tuple[str | None, bytes | None]], group: int = 100) -> Path:
    """A file as img2dataset writes it: a key, and the picture or nothing where it could not be had."""
    import pyarrow as pa
    from pyarrow import parquet

    keys, pictures = zip(*rows, strict=True)
    table = pa.table({"url": [""] * len(rows), "key": list(keys), "jpg": pa.array(pictures, pa.binary())})
    parquet.write_table(table, path, row_group_size=group)
    return path


def read_all(name: str | Path, size: int = 4) -> tuple[list[SourcePicture], Notes]:
    """All pictures of a source, and what was met beside them."""
    notes = Notes()
    source = open_source(str(name))
    found = [picture for part in source.parts(size) for picture in part.pictures(notes)]
    notes.failures += source.failures
    return found, notes
