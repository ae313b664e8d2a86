"""What works without torch and open_clip: all that a person does with the built-in model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_feature_codec import ClipCodec
from samples import make_picture

# None in the place of a module makes its import fail.
BARE = """
import sys
sys.modules |= dict.fromkeys(["torch", "torchvision", "open_clip", "timm", "accelerate"])
from clip_feature_codec.cli.main import main
main(sys.argv[1:])
"""


def bare(folder: Path, *arguments: str) -> str:
    """Run a command in a new Python without these packages; its standard output."""
    command = [sys.executable, "-c", BARE, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def codec() -> ClipCodec:
    return ClipCodec.load(device="cpu")


def test_a_picture_is_encoded_shown_and_decoded(tmp_path: Path, codec: ClipCodec) -> None:
    picture = make_picture(1, (300, 200))
    picture.save(tmp_path / "a.png")
    bare(tmp_path, "encode", "a.png", "-o", "a.clp", "--max-bytes", "140")
    blob = (tmp_path / "a.clp").read_bytes()
    assert len(blob) <= 140
    assert float(codec.vector(blob) @ codec.embed(picture)) > 0.98
    bare(tmp_path, "decode", "a.clp", "-o", "again.png")
    bare(tmp_path, "decode", "a.clp", "-o", "blurred.png", "--preview")
    for name, expected in (("again", codec.decode(blob)), ("blurred", codec.preview(blob))):
        found = np.asarray(Image.open(tmp_path / f"{name}.png"), np.int16)
        assert np.abs(found - np.asarray(expected, np.int16)).max() <= 1


def test_a_folder_is_encoded_searched_by_words_and_by_a_picture_and_made_smaller(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        make_picture(seed).save(tmp_path / f"photos/p{seed}.png")
    bare(tmp_path, "encode", "photos", "-o", "store", "--workers", "1")
    assert "p" in bare(tmp_path, "search", "store", "a red bus")
    assert "p1" in bare(tmp_path, "search", "store", "--image", "photos/p1.png").splitlines()[1]
    bare(tmp_path, "transcode", "store", "-o", "small", "--max-bytes", "40")
    assert len(list((tmp_path / "small").rglob("*.clp"))) == 3
    bare(tmp_path, "decode", "small", "-o", "pictures", "--size", "64")
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 3
