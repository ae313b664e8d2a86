"""Which picture formats there are, by the names of files and by their first bytes."""

from __future__ import annotations

from pathlib import Path

WRITTEN = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".bmp": "BMP",
}
"""The formats that we write, as Pillow calls them, by the ending that asks for each."""

IMAGE_SUFFIXES = frozenset(WRITTEN)
"""The file name endings that we read and write, in lower case, with the dot."""

READ_SUFFIXES = IMAGE_SUFFIXES | {".heic", ".heif", ".hif", ".jxl"}
"""Those, and the endings that we only read. The content decides, not the name: see `picture_kind`."""

HEAD = 32
"""So many bytes of a file tell its format."""

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # with 64-bit offsets
    b"MM\0+": "TIFF",
    b"\xff\x0a": "JXL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JXL",  # in a container
}
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}  # sizes of the second header: "BM" alone begins many a text

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

# Raw files of cameras are TIFFs whose first picture is a thumbnail or a linear negative.
_RAW_SUFFIXES = {
    *(".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos"),
    *(".nef", ".nrw", ".pef", ".rwl", ".sr2", ".srf", ".srw"),
}


def picture_kind(path: Path) -> str | None:
    """Tell from a file's first 32 bytes which picture format it is in.

    The name matters for TIFF alone: raw files of cameras, which are none of ours, look like it.

    Args:
        path: a regular file that can be read.

    Returns:
        ``JPEG``, ``PNG``, ``WEBP``, ``AVIF``, ``TIFF``, ``GIF``, ``BMP``, ``HEIF`` or ``JXL``; None for
        anything else.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        kind = kind_of(file.read(HEAD))
    return None if kind == "TIFF" and path.suffix.lower() in _RAW_SUFFIXES else kind


def kind_of(head: bytes) -> str | None:
    """Tell a picture format from the first 32 bytes of a file (see `picture_kind`)."""
    if head.startswith(b"RIFF"):
        return "WEBP" if head[8:12] == b"WEBP" else None
    if head.startswith(b"BM"):
        return "BMP" if int.from_bytes(head[14:18], "little") in _BMP_HEADERS else None
    if head[4:8] == b"ftyp":
        return _iso_kind(head)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def _iso_kind(head: bytes) -> str | None:
    """AVIF or HEIF by the brands of the file type box (ISO/IEC 14496-12, 4.3): the major one comes first."""
    major = head[8:12]
    compatible = {head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4)}
    if major in _AVIF_BRANDS or (major in (b"mif1", b"msf1") and compatible & _AVIF_BRANDS):
        return "AVIF"
    return "HEIF" if major in _HEIF_BRANDS else None
