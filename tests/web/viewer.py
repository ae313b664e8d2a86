"""The viewer page in a browser: how the tests open it, and what stands in for the networks."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from browsing import watched

STAND_IN = """
export * from "./real.js";
window.asked = [];
export class Painter {
  constructor({ onProgress }) {
    window.tell = onProgress;
  }
  paint(bytes, { signal, ...options }) {
    window.asked.push({ bytes: bytes.length, ...options });
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      window.fail = (message) => reject(new Error(message));
      window.finish = (level) =>
        resolve({ width: 1, height: 1, data: Uint8ClampedArray.of(level, level, level, 255) });
    });
  }
}
const streams = STREAMS;
export class Encoder {
  async encode(image, { maxBytes }) {
    window.seen = [image.width, image.height];
    return Uint8Array.from(atob(streams[maxBytes]), (letter) => letter.charCodeAt(0));
  }
}
"""
"""The package's module with a painter that does what the test says and an encoder that knows its answers."""


def fragment_of(blob: bytes) -> str:
    return base64.urlsafe_b64encode(blob).rstrip(b"=").decode()


@contextmanager
def opened(browser: Any, address: str, streams: str | None = None, **options: Any) -> Iterator[Any]:
    """The page at an address, watched as all pages are.

    Args:
        browser: Chromium.
        address: of the page.
        streams: JSON of what the `STAND_IN` encodes to, by the bytes allowed; None: the package's own code.
        **options: of the profile.
    """
    server = address.partition("/view/")[0]
    # 404: where there is nothing that paints.
    with watched(browser, server, "blob:", expected="404", **options) as page:
        if streams is not None:
            body = STAND_IN.replace("STREAMS", streams)
            page.route(
                "**/src/index.js", lambda route: route.fulfill(body=body, content_type="text/javascript")
            )
            page.route("**/src/real.js", lambda route: route.continue_(url=f"{server}/src/index.js"))
        page.goto(address)
        yield page


def pixels(page: Any, canvas: str) -> np.ndarray:
    """What a canvas holds: uint8 (H, W, 4)."""
    width, height, text = page.evaluate(
        """(id) => {
          const canvas = document.getElementById(id);
          const copy = new OffscreenCanvas(canvas.width, canvas.height);
          const context = copy.getContext("2d", { willReadFrequently: true });
          context.drawImage(canvas, 0, 0);
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          let text = "";
          for (const level of data) text += String.fromCharCode(level);
          return [canvas.width, canvas.height, btoa(text)];
        }""",
        canvas,
    )
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)


def wait_for(page: Any, name: str, pattern: str, seconds: int = 20) -> None:
    """Wait until an element says something; the page lets nobody evaluate code of theirs for that."""
    page.locator(f"#{name}", has_text=re.compile(pattern)).wait_for(timeout=1000 * seconds)
