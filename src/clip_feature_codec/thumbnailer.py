"""Small pictures of ``.clp`` files for file managers.

    python -m clip_feature_codec.thumbnailer INPUT OUTPUT SIZE

draws the layout layer of INPUT, its longer side SIZE pixels, as the PNG file OUTPUT, whatever its name. So
thumbnailers of Linux desktops are called; `desktop` makes this one known to them. Ends with status 2 and one
line where there is nothing to be drawn.
"""

from __future__ import annotations

import sys
from pathlib import Path

from clip_feature_codec.bundle import bundle_of, bundles_near
from clip_feature_codec.errors import CodecError, ConfigError, OutputError, reason
from clip_feature_codec.files import write_atomic
from clip_feature_codec.images import png_bytes
from clip_feature_codec.preview import preview
from clip_feature_codec.stream_source import named, read_stream


def write_thumbnail(source: Path, out: Path, size: int) -> None:
    """Draw the layout layer of a ``.clp`` file as a PNG file.

    Args:
        source: the stream; its tables are found beside it or in a pack.
        out: the PNG file, replaced if it is there.
        size: longer side, 1 to 8192 pixels.

    Raises:
        MissingLayerError: the stream has no layout layer.
        BitstreamError: it cannot be read, is damaged, or there are no tables for it.
        OutputError: ``out`` cannot be written, or is the stream itself.
        ConfigError: ``size`` is out of range.
    """
    with named(source):
        bundle, stream = bundle_of(read_stream(source), bundles_near(source))
        picture = preview(stream, bundle.codec, size)
    if out.exists() and out.samefile(source):
        raise OutputError(f"{out}: found the stream itself, expected another file to write to")
    try:
        write_atomic(out, png_bytes(picture))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {reason(error)}") from None


def main(arguments: list[str]) -> int:
    """Write one thumbnail; the exit status."""
    try:
        if len(arguments) != 3 or not arguments[2].isdecimal():
            raise ConfigError("usage: python -m clip_feature_codec.thumbnailer INPUT OUTPUT SIZE")
        source, out, size = arguments
        write_thumbnail(Path(source), Path(out), int(size))
    except CodecError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
