"""Stores to serve, and a server as a process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.encode import encode_source
from clip_feature_codec.serve.endpoint import Service
from clip_feature_codec.serve.finding import Finder
from clip_feature_codec.serve.shelf import Shelf
from clip_feature_codec.serve.uploads import Uploads
from clip_feature_codec.serve.workshop import Workshop
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.writing import NewPicture
from samples import make_layouts, make_picture

MAX_PIXELS = 1_000_000
_SHAPES = 17


def make_photos(folder: Path, count: int = 6) -> Path:
    """Pictures of several shapes; the last is the first once more, a little smaller."""
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        place = folder / "deep" if i % 3 == 2 else folder
        make_picture(i, (120, 90) if i % 2 else (80, 110)).save(place / f"p{i}.png")
    make_picture(0, (80, 110)).resize((72, 99)).save(folder / "again.png")
    return folder


def encoded(photos: Path, store: Path, codec: ClipCodec, *, packed: bool = False) -> Path:
    encode_source(
        photos, store, codec.embedder, codec.features, Rate(max_bytes=140), packed=packed, workers=0
    )
    return store


def grow(store: Path, codec: ClipCodec, count: int, first: int = 0) -> None:
    """Add pictures to a store whose originals are nowhere: any vectors, layouts of made pictures."""
    rng = np.random.default_rng(first)
    known = make_layouts(codec.features, _SHAPES)
    writable = open_store(store)
    pictures, blobs = [], []
    for start in range(first, first + count, 500):
        numbers = range(start, min(start + 500, first + count))
        vectors = rng.normal(size=(len(numbers), codec.features.dim)).astype(np.float32)
        layouts = known[[i % _SHAPES for i in numbers]]
        shapes = [(400, 300) if i % 3 else (300, 420) for i in numbers]
        pictures += [
            NewPicture(f"made/m{i:05}.png", *shape, 1000, 0) for i, shape in zip(numbers, shapes, strict=True)
        ]
        layers = Layers(vectors, layouts, [width / height for width, height in shapes])
        blobs += codec.features.encode(layers, Rate(quality=20))
    writable.put(store.parent / "nowhere", pictures, blobs)
    writable.finish()


def make_service(store: Path, **options: Any) -> Service:
    """What `clip-codec serve` makes, with small limits."""
    uploads = Uploads(most_bytes=200_000, seconds=2.0, held_bytes=600_000)
    return Service(
        Shelf(store),
        Finder(store),
        Workshop(ClipCodec.load(store), MAX_PIXELS),
        **{"uploads": uploads, "originals": True} | options,
    )


@contextmanager
def serving(*args: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`clip-codec serve` as a process: that, and the link that it prints."""
    command = [sys.executable, "-c", "from clip_feature_codec.cli.main import main; main()", "serve"]
    process = subprocess.Popen(
        [*command, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline().strip()  # type: ignore[union-attr]
        if not line.startswith("http"):
            raise AssertionError(process.communicate(timeout=30)[1])
        yield process, line
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        for pipe in (process.stdout, process.stderr):
            pipe.close()  # type: ignore[union-attr]


def peak_memory(pid: int) -> int:
    """Bytes of memory that a process has had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
