"""``clip-codec link``: a picture in a link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    make_rate,
    max_pixels_option,
    naming,
    quiet_option,
    rate_options,
    read_bytes,
    read_picture,
    remark,
    remark_on_model,
)
from clip_feature_codec.cli.paths import IN_FILE, OutputPath
from clip_feature_codec.codec.rate import DEFAULT_RATE, Rate
from clip_feature_codec.files import STDIO
from clip_feature_codec.names import VIEWER_PAGE
from clip_feature_codec.outputs.kinds import PICTURE


@click.command("link", cls=Command, large_products=False)
@click.argument("source", type=IN_FILE)
@rate_options
@click.option(
    "--page",
    envvar="CLIP_CODEC_PAGE",
    default=VIEWER_PAGE,
    show_default=True,
    show_envvar=True,
    help="Address of the viewer page; the default is that of clip-codec serve on this machine.",
)
@click.option("--qr", type=OutputPath(PICTURE), help="Write the link as a QR code to this picture, too.")
@max_pixels_option
@quiet_option
def link(source: Path, page: str, qr: Path | None, max_pixels: int, quiet: bool, **options: Any) -> None:
    """Print a link that holds a whole picture, behind its #: no server gets it.

    SOURCE is a picture or a .clp file (- is standard input). A .clp file is taken as it is, or made smaller
    where a rate is given. The viewer page knows the built-in model alone.
    """
    from clip_feature_codec.links import link_to, qr_code

    blob = _stream(source, make_rate(options), max_pixels, quiet)
    address = link_to(page, blob)
    if qr:
        from clip_feature_codec.images import save_image

        save_image(qr_code(address), qr)
    click.echo(address)
    remark(f"{len(blob)} bytes in a link of {len(address)} characters", quiet)


def _stream(source: Path, rate: Rate, max_pixels: int, quiet: bool) -> bytes:
    """The stream that the link is to hold."""
    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.codec.bitstream import MAGIC

    codec, data = ClipCodec.load(), read_bytes(source)
    if data[:1] == bytes([MAGIC]):  # no picture format that we read begins so
        with naming(source):
            _ = codec.features.parse(data)
            return data if rate == DEFAULT_RATE else codec.transcode([data], **vars(rate))[0]
    remark_on_model(codec.features.space, quiet)
    picture = read_picture(source, max_pixels, data if source == STDIO else None)
    return codec.encode_pictures([picture], rate)[0]
