"""``clip-codec serve``: a page for a store, and the codec over HTTP."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import (
    decoder_option,
    device_option,
    model_options,
    quiet_option,
    remark,
    remark_on_model,
)
from clip_feature_codec.cli.paths import IN_FOLDER
from clip_feature_codec.names import VIEWER_PAGE

_PORT = urlsplit(VIEWER_PAGE).port  # where links lead that name no other page
_UPLOAD_MB = 32
_UPLOAD_SECONDS = 30
_UPLOADS = 4
_MAX_PIXELS = 50_000_000
_SHORTEST_TOKEN = 16


def _check_token(_: click.Context, option: click.Parameter, token: str | None) -> str | None:
    """Take a token that can stand in a header and in an address as it is."""
    if token is None:  # click takes an empty variable for none, and nobody would be asked for a token
        token = os.environ.get(str(option.envvar))
    if token is not None:
        plain = token.isascii() and all(letter.isalnum() or letter in "-._~" for letter in token)
        if not plain or len(token) < _SHORTEST_TOKEN:
            raise click.BadParameter(f"expected {_SHORTEST_TOKEN} letters, digits and -._~ at least")
    return token


@click.command("serve", cls=Command, needs="serve", large_products=False)
@click.argument("store_dir", metavar="STORE", type=IN_FOLDER)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at. Beyond this machine (0.0.0.0: in its whole network), a token is asked for.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=_PORT, show_default=True, help="0: any that is free."
)
@click.option(
    "--token",
    envvar="CLIP_CODEC_TOKEN",
    show_envvar=True,
    callback=_check_token,
    help="Ask clients for this token, for use behind a proxy that others reach. "
    "[default: a new one, beyond this machine]",
)
@click.option("--open", "opens", is_flag=True, help="Show the page in a browser.")
@click.option(
    "--web",
    type=IN_FOLDER,
    help="Folder of static files that recipes/web makes: /view paints in the browser, then.",
)
@click.option("--no-originals", is_flag=True, help="Give out nothing but what is in the streams.")
@click.option(
    "--max-upload",
    type=click.IntRange(min=1),
    default=_UPLOAD_MB,
    show_default=True,
    help="Refuse pictures of more megabytes.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=_MAX_PIXELS,
    show_default="50 million",
    help="Refuse pictures of more pixels before they are decoded.",
)
@decoder_option
@model_options
@device_option
@quiet_option
def serve(
    store_dir: Path,
    host: str,
    port: int,
    token: str | None,
    opens: bool,
    web: Path | None,
    no_originals: bool,
    max_upload: int,
    max_pixels: int,
    decoder: str | None,
    model: str | None,
    pretrained: str | None,
    device: str,
    quiet: bool,
) -> None:
    """Show a STORE in the browser: a wall of its pictures, search, painting; and the codec over HTTP.

    Programs find the description of the interface at /openapi.json. Ctrl-C ends it.
    """
    import secrets
    import webbrowser

    from clip_feature_codec.api import ClipCodec
    from clip_feature_codec.serve.app import WEB, make_app
    from clip_feature_codec.serve.endpoint import Service
    from clip_feature_codec.serve.finding import Finder
    from clip_feature_codec.serve.running import address_of, is_loopback, listen
    from clip_feature_codec.serve.running import serve as run
    from clip_feature_codec.serve.shelf import Shelf
    from clip_feature_codec.serve.uploads import Uploads
    from clip_feature_codec.serve.workshop import Workshop

    shelf = Shelf(store_dir)
    codec = ClipCodec.load(store_dir, decoder=decoder, model=model, pretrained=pretrained, device=device)
    most = max_upload * 1_000_000
    service = Service(
        shelf,
        Finder(store_dir),
        Workshop(codec, max_pixels),
        Uploads(most, _UPLOAD_SECONDS, _UPLOADS * most),
        originals=not no_originals,
    )
    with listen(host, port) as listener:
        if token is None and not is_loopback(listener):
            token = secrets.token_urlsafe(16)
        link = address_of(listener) + (f"#token={token}" if token else "")
        remark_on_model(codec.features.space, quiet)
        remark(f"{store_dir}: {shelf.totals().pictures:,} pictures; Ctrl-C ends it", quiet)
        click.echo(link)
        if opens:
            webbrowser.open(link)
        with suppress(KeyboardInterrupt):
            run(make_app(service, host, token, web or WEB), listener)
