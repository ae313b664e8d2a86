"""The viewer page with the real networks: a photo becomes a link, and is painted as Python does."""

from __future__ import annotations

import base64
import io
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import ROOT, needs_runtime, served
from PIL import Image
from viewer import opened, pixels, wait_for

from clip_feature_codec import ClipCodec
from samples import make_picture

pytestmark = [needs_runtime, pytest.mark.timeout(300)]
SECONDS = 120


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("static")
    runpy.run_path(str(ROOT / "recipes" / "web" / "make_folder.py"))["make_folder"](folder)
    with served(folder) as server:
        yield f"{server}/view/"


def psnr(preview: Image.Image, picture: Image.Image) -> float:
    """In dB, at the size of the preview."""
    errors = np.asarray(preview, float) - np.asarray(picture.convert("RGB").resize(preview.size), float)
    return float(20 * np.log10(255) - 10 * np.log10(np.square(errors).mean()))


def test_a_photo_is_encoded_and_painted_as_python_does(browser: Any, address: str):
    codec, file = ClipCodec.load(device="cpu"), io.BytesIO()
    picture = make_picture(1, (300, 200))
    picture.save(file, "PNG")
    with opened(browser, address) as page:
        page.set_input_files("#file", {"name": "p.png", "mimeType": "image/png", "buffer": file.getvalue()})
        wait_for(page, "status", "Painted", SECONDS)
        painted = pixels(page, "painted")[..., :3].astype(int)
        fragment = page.locator("#link").input_value().partition("#")[2]
    blob = base64.urlsafe_b64decode(fragment + "=" * (-len(fragment) % 4))
    assert 100 < len(blob) <= 140
    assert codec.vector(blob) @ codec.embed(picture) > 0.99
    theirs, own = (psnr(codec.preview(one), picture) for one in (blob, codec.encode(picture, max_bytes=140)))
    assert abs(theirs - own) < 0.7
    assert np.abs(painted - np.asarray(codec.decode(blob))).max() <= 2
