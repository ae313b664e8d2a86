"""The pack that comes with the package: complete, honest, small, and able to work alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clip_feature_codec import ClipCodec
from clip_feature_codec.packs import DEFAULT_PACK, pack_folder
from samples import make_picture

# Ends the process when anything, in whatever library or worker, looks up a name or connects elsewhere.
NO_NETWORK = """
import os, sys
def watch(event, args):
    remote = event == "socket.connect" and isinstance(args[1], tuple)
    if remote or event in ("socket.getaddrinfo", "socket.gethostbyname"):
        os.write(2, f"a connection was opened: {event} {args[1:]}".encode())
        os._exit(99)
sys.addaudithook(watch)
"""


def offline(code: str, folder: Path, *args: object) -> str:
    """Run ``code`` in a new Python that ends at the first connection; its standard output."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))
    }
    environment["TORCH_HOME"] = str(folder / "torch")
    command = [sys.executable, "-c", NO_NETWORK + code, *map(str, args)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder() -> Path:
    found = pack_folder(DEFAULT_PACK)
    assert found, f"the pack {DEFAULT_PACK!r} is missing"
    return found


@pytest.fixture(scope="module")
def codec() -> ClipCodec:
    return ClipCodec.load(device="cpu")


def test_a_picture_there_and_back(codec: ClipCodec):
    red, blue = (np.full((60, 90, 3), colour, np.uint8) for colour in ((200, 20, 20), (20, 20, 200)))
    blobs = codec.encode_many([red, blue])
    assert max(map(len, blobs)) <= codec.features.dim + 7
    np.testing.assert_allclose(np.linalg.norm(codec.vectors(blobs), axis=1), 1, atol=1e-6)
    pictures = [np.asarray(picture) for picture in codec.decode_many(blobs, steps=20, size=48)]
    assert [picture.shape for picture in pictures] == [(32, 48, 3)] * 2
    first, second = (picture.reshape(-1, 3).mean(axis=0) for picture in pictures)
    assert first[0] - first[2] > second[0] - second[2]  # the red one is the redder one


def test_coding_costs_the_vector_next_to_nothing(codec: ClipCodec):
    picture = make_picture(3, (200, 150))
    assert codec.embed(picture) @ codec.vector(codec.encode(picture)) >= 0.99


def test_all_parts_are_of_one_space(folder: Path, codec: ClipCodec):
    assert codec.features.space.pretrained == "pack"
    assert codec.embedder.space.fingerprint == codec.features.space.fingerprint
    assert codec.decoder.space.fingerprint == codec.features.space.fingerprint


def test_the_weights_load_without_running_anything(folder: Path):
    for name in ("clip/open_clip_model.safetensors", "decoder/model.safetensors"):
        weights = load_file(folder / name)
        assert len(weights) > 10
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    for name in ("clip/open_clip_config.json", "decoder/config.json"):
        json.loads((folder / name).read_bytes())


def test_the_pack_is_small(folder: Path):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 56_000_000
    assert (folder / "decoder/model.safetensors").stat().st_size <= 28_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".onnx", ".gz"}


def test_the_model_card_says_where_the_weights_come_from_and_how_good_they_are(folder: Path):
    (card,) = folder.glob("*.md")
    text = card.read_text("utf-8").lower()
    facts = ("data", "steps", "validation", "held-out", "accuracy", "retrieval", "psnr", "clip similarity")
    assert [fact for fact in facts if fact not in text] == []
    assert re.findall(r"@\w+@", text) == []  # places that the figures were meant to take


def test_no_connection_is_opened(tmp_path: Path):
    make_picture(0, (80, 60)).save(tmp_path / "a.png")
    printed = offline(
        """
from clip_feature_codec import ClipCodec
codec = ClipCodec.load(device="cpu")
blob = codec.encode("a.png")
print(codec.decode(blob, steps=2, size=40).size, codec.embedder.embed_text(["a photo of a cat"]).shape[0])
""",
        tmp_path,
    )
    assert printed.splitlines()[-1] == "(40, 30) 1"


def test_the_watch_over_connections_works(tmp_path: Path):
    code = "import socket\ntry:\n    socket.create_connection(('localhost', 9))\nexcept Exception:\n    pass"
    with pytest.raises(AssertionError, match="a connection was opened"):
        offline(code, tmp_path)


def test_the_demo_runs_to_the_end_without_a_connection(tmp_path: Path):
    code = "from clip_feature_codec.cli.main import main\nmain(sys.argv[1:])"
    options = ("--steps", 2, "--size", 64, "--device", "cpu")
    printed = offline(code, tmp_path, "demo", "-o", "made", *options)
    page = tmp_path / "made/index.html"
    assert printed.rstrip().endswith(str(page.resolve()))
    assert "CLIP similarity" in printed
    shown = page.read_text("utf-8")
    photos = [path.stem for path in (tmp_path / "made/photos").iterdir()]
    assert len(photos) == 8
    assert [name for name in photos if name not in shown] == []
    assert [baseline for baseline in ("JPEG XL", "ThumbHash", "fits none") if baseline not in shown] == []
    assert len(list((tmp_path / "made/store").glob("*.clp"))) == 8
    assert (tmp_path / "made/grid.png").is_file()
