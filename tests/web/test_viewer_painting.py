"""The viewer page with the real networks, from a folder of static files: it paints Python's pictures."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import ROOT, needs_runtime, served
from viewer import fragment_of, opened, pixels, wait_for

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


def test_a_link_is_painted_as_python_does(browser: Any, address: str):
    codec = ClipCodec.load(device="cpu")
    blob = codec.encode(make_picture(1, (90, 60)), max_bytes=140)
    with opened(browser, f"{address}#{fragment_of(blob)}") as page:
        wait_for(page, "status", "Painted", SECONDS)
        painted = pixels(page, "painted")[..., :3].astype(int)
        assert np.abs(painted - np.asarray(codec.decode(blob))).max() <= 2
        page.locator("#fidelity").focus()
        page.keyboard.press("End")
        wait_for(page, "status", "Painting", SECONDS)
        wait_for(page, "status", "Painted", SECONDS)
        painted = pixels(page, "painted")[..., :3].astype(int)
        assert np.abs(painted - np.asarray(codec.decode(blob, fidelity=1.0))).max() <= 2
