"""What `.clp` files cost and come to in a browser: a page of Chromium beside the package, on the same photos.

    npm install --prefix recipes/web
    python benchmarks/web.py [PHOTO ...]

Without photos, those of scikit-image are taken. Sizes are what gzip leaves of the modules. The time of a
layout is the processor's for one call, over streams of different pictures, after the first; other times are
by the clock, the least of several. Pictures are compared as levels of 255.
"""

from __future__ import annotations

import argparse
import base64
import functools
import gzip
import http.server
import io
import re
import runpy
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from clip_feature_codec import ClipCodec
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.images import load_image

ROOT = Path(__file__).parents[1]
BUDGETS = (30, 60, 140, 300)
SIZES = (32, 64, 128, 256)
PAINTINGS: tuple[dict[str, Any], ...] = ({}, {"fidelity": 0.5}, {"fidelity": 1})

PROGRAM = """async () => {
  const { decodeLayout, Encoder, Painter } = await import("/src/index.js");
  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const textOf = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  const timed = async (work) => {
    const began = performance.now();
    const found = await work();
    return [found, performance.now() - began];
  };
  const painter = new Painter();
  const encoder = new Encoder();
  window.first = async ([text, size]) => (await timed(() => decodeLayout(bytesOf(text), { size })))[1];
  window.layouts = ([texts, size, rounds]) => {
    const streams = texts.map(bytesOf);
    for (let round = 0; round < rounds; round++) streams.forEach((stream) => decodeLayout(stream, { size }));
  };
  window.load = async () => [(await timed(() => painter.load()))[1], (await timed(() => encoder.load()))[1]];
  window.paint = async ([text, options]) => {
    const [{ width, height, data }, ms] = await timed(() => painter.paint(bytesOf(text), options));
    return [width, height, textOf(data), ms];
  };
  window.encode = async ([file, maxBytes]) => {
    const image = await createImageBitmap(new Blob([bytesOf(file)]));
    const [bytes, ms] = await timed(() => encoder.encode(image, { maxBytes }));
    return [textOf(bytes), ms];
  };
}"""


@contextmanager
def page_of(folder: Path) -> Iterator[Page]:
    """A page of Chromium that is served a folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as tools:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium = tools.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/README.md")
        page.evaluate(PROGRAM)
        print(f"Chromium {chromium.version}")
        yield page
        chromium.close()
        server.shutdown()


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def loaded(module: Path, found: set[Path]) -> set[Path]:
    """A module and all that it imports."""
    if module not in found:
        found.add(module)
        for name in re.findall(r'(?:from|import) "(\..+?)"', module.read_text("utf-8")):
            loaded((module.parent / name).resolve(), found)
    return found


def tell_sizes(source: Path) -> None:
    names = ("index.js", "painting/worker.js", "encoding/worker.js")
    modules = {name: loaded(source / name, set()) for name in names}
    modules["encoding/worker.js"].add(source / "encoding/loops.wasm")
    for name, files in modules.items():
        size = len(gzip.compress(b"".join(path.read_bytes() for path in sorted(files))))
        print(f"{name} and what it loads: {size / 1e3:.1f} kB gzipped")


def tell_layouts(page: Page, blobs: list[bytes]) -> None:
    texts = [text_of(blob) for blob in blobs]
    print(f"layout, first call: {page.evaluate('window.first', [texts[0], 64]):.1f} ms by the clock")
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable")

    def processor_seconds() -> float:
        found = tools.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in found if each["name"] == "ThreadTime"))

    for size in SIZES:
        page.evaluate("window.layouts", [texts, size, 50])
        least = float("inf")
        for _ in range(10):
            began = processor_seconds()
            page.evaluate("window.layouts", [texts, size, 20])
            least = min(least, (processor_seconds() - began) / (20 * len(texts)))
        print(f"layout at {size} pixels: {least * 1e3:.3f} ms of the processor")


def tell_paintings(page: Page, codec: ClipCodec, blobs: list[bytes]) -> None:
    for options in PAINTINGS:
        most, means, times = 0, [], []
        for blob in blobs:
            width, height, text, ms = page.evaluate("window.paint", [text_of(blob), options])
            pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3]
            differences = np.abs(pixels.astype(int) - np.asarray(codec.decode(blob, **options)))
            most = max(most, int(differences.max()))
            means.append(float(differences.mean()))
            times.append(ms)
        print(
            f"painted with {options or 'the defaults'}: differs by {most} at most, {np.mean(means):.5f} on "
            f"average; {min(times):.0f} ms, the first {times[0]:.0f}"
        )


def tell_encodings(page: Page, codec: ClipCodec, pictures: list[Image.Image]) -> None:
    files = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "PNG")
        files.append(text_of(file.getvalue()))
    vectors = codec.embedder.embed_images(pictures)
    for limit in BUDGETS:
        found = [page.evaluate("window.encode", [file, limit]) for file in files]
        here = [base64.b64decode(text) for text, _ in found]
        there = [codec.encode(picture, max_bytes=limit) for picture in pictures]
        cosines = [(codec.vectors(blobs) * vectors).sum(axis=1).mean() for blobs in (here, there)]
        sizes = [np.mean([len(blob) for blob in blobs]) for blobs in (here, there)]
        print(
            f"encoded to {limit} bytes: {sizes[0]:.1f} bytes, cosine {cosines[0]:.4f}; by the package "
            f"{sizes[1]:.1f} bytes, {cosines[1]:.4f}; {min(ms for _, ms in found):.0f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path)
    own = ("chelsea.png", "coffee.png", "astronaut.png")
    taken = [Path(skimage.data.__file__).with_name(name) for name in own]
    args = parser.parse_args()
    codec = ClipCodec.load(device="cpu")
    pictures = [load_image(path) for path in args.photos or taken]
    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runpy.run_path(str(ROOT / "recipes" / "web" / "make_folder.py"))["make_folder"](folder)
        tell_sizes(folder / "src")
        with page_of(folder) as page:
            blobs = [codec.encode(picture, max_bytes=140) for picture in pictures]
            tell_layouts(page, blobs)
            painter, encoder = page.evaluate("window.load()")
            print(f"loaded: the painter in {painter / 1e3:.1f} s, the encoder in {encoder / 1e3:.1f} s")
            tell_paintings(page, codec, blobs)
            tell_encodings(page, codec, pictures)


if __name__ == "__main__":
    main()
