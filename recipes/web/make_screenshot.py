"""Take a picture of the viewer page for docs/looking.md: a photograph of scikit-image's, from its link.

Needs what make_folder.py needs:

    python recipes/web/make_screenshot.py docs/viewer.jpg
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clip_feature_codec import ClipCodec
from clip_feature_codec.links import link_to
from make_folder import make_folder

PHOTO, MAX_BYTES = "coffee", 140
HOST = "example.org"  # what the address bar says; nothing is asked of it


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """A folder at a port of this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def take(out: Path, folder: Path) -> None:
    """Open a link in Chromium, wait until it is painted, and take the picture."""
    import skimage.data
    from playwright.sync_api import sync_playwright

    blob = ClipCodec.load().encode(getattr(skimage.data, PHOTO)(), max_bytes=MAX_BYTES)
    with served(folder) as port, sync_playwright() as tools:
        browser = tools.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", f"--host-resolver-rules=MAP {HOST} 127.0.0.1:{port}"],
        )
        page = browser.new_page(viewport={"width": 1180, "height": 760}, device_scale_factor=1.5)
        page.goto(link_to(f"http://{HOST}/view/", blob))
        page.locator("#status", has_text="Painted").wait_for(timeout=120_000)
        page.wait_for_timeout(500)  # the painted picture comes up over the layout
        page.screenshot(path=out, type="jpeg", quality=88, full_page=True)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder))
        take(args.out, Path(folder))


if __name__ == "__main__":
    main()
