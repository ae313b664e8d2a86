"""A stream in a link: behind the ``#`` of a page that shows it, where no server sees it; and as a QR code."""

from __future__ import annotations

import base64
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from clip_feature_codec.errors import ConfigError

_MODULE = 8  # pixels
_QUIET_ZONE = 4  # modules: ISO/IEC 18004, 6.3.8


def link_to(page: str, blob: bytes) -> str:
    """A link that shows a stream.

    Args:
        page: address of the viewer page (``web/view`` of this package) on any server.
        blob: the bytes of a ``.clp`` file.

    Returns:
        The address, ``#``, and the bytes in base64url (RFC 4648, section 5) without padding: 187 characters
        for 140 bytes.

    Raises:
        ConfigError: ``page`` is no address of a page.
    """
    parts = urlsplit(page)
    if parts.scheme not in ("http", "https") or not parts.netloc or "#" in page or not page.isascii():
        raise ConfigError(f"page: found {page!r}, expected an address such as https://example.org/view/")
    return f"{page}#{to_base64url(blob)}"


def to_base64url(data: bytes) -> str:
    """Bytes as text for addresses (RFC 4648, section 5), without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def qr_code(text: str) -> Image.Image:
    """A QR code of error correction level L, or of a better one where that makes it no larger.

    Returns:
        Black on white, 8 pixels a module, with its quiet zone.

    Raises:
        ConfigError: the text is longer than the 2,953 bytes that a QR code holds.
    """
    import segno

    try:
        code = segno.make_qr(text, error="L")
    except segno.DataOverflowError:
        raise ConfigError(
            f"QR code: found {len(text)} characters, expected 2,953 at most: make the stream smaller"
        ) from None
    dark = np.array([list(row) for row in code.matrix_iter(_MODULE, _QUIET_ZONE)], bool)
    return Image.fromarray(np.where(dark, 0, 255).astype(np.uint8))
