"""A Ray of two nodes with a core each, what is done on it, and how its processes come to an end."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from click.testing import CliRunner, Result

from clip_feature_codec.cli.main import main
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.distributed.encoding import RayEncoding
from clip_feature_codec.embed import embedder_for, load_embedder
from clip_feature_codec.encode import encode_source
from clip_feature_codec.encode.encoding import EncodeResult
from clip_feature_codec.progress import Progress, silent
from clip_feature_codec.store.opening import open_store
from samples import make_picture

BATCH = 3
WORK = (b"ray::MapWorker", b"ray::Map(", b"ray::FlatMap(", b"ray::write_shard")
"""What the processes are called that have work of ours; others belong to Ray."""


def make_photos(folder: Path, count: int) -> Path:
    """Pictures of several shapes, one that is broken, and one that has the name of another."""
    for i in range(count):
        place = folder / f"d{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        make_picture(i, (40 + i % 5, 30 + i % 3)).save(place / f"p{i:03}.png")
    (folder / "d0/p000x.png").write_bytes(b"no picture")
    make_picture(99).save(folder / "d1/p001.jpg")
    return folder


def encode(
    source: Path | str,
    out: Path,
    codec: FeatureCodec | None,
    *,
    ray: bool,
    progress: Progress = silent,
) -> EncodeResult:
    """Encode in batches of `BATCH`, on the cluster or here."""
    model = load_embedder("mini", device="cpu")
    where = RayEncoding(partial(embedder_for, model.space, device="cpu"), "cpu") if ray else None
    return encode_source(
        source,
        out,
        model,
        codec,
        packed=True,
        batch_size=BATCH,
        workers=0,
        progress=progress,
        elsewhere=where,
    )


def run(*line: object) -> Result:
    """Run ``clip-codec`` in this process."""
    return CliRunner().invoke(main, [str(word) for word in line])


def rows(folder: Path) -> list[tuple[str, str, bytes]]:
    """All rows of a store, in order."""
    store = open_store(folder)
    return [(entry.name, entry.source, store.blob(entry)) for entry in store.entries]


def workers_of(node: Any) -> list[int]:
    """The processes that work on a node for this test, those without work left out."""
    raylets = [info.process.pid for info in node.all_processes["raylet"]]
    found = []
    for raylet in raylets:
        for children in Path(f"/proc/{raylet}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                title = Path(f"/proc/{child}/cmdline").read_bytes()
                if title.startswith(WORK):
                    found.append(child)
    return found


class Killer(Thread):
    """Kills processes that work on some nodes with SIGKILL, one after another, at random moments.

    Attributes:
        killed: the ids of those that were killed.
    """

    def __init__(self, nodes: Sequence[Any], count: int = 1, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._nodes, self._count, self._pause = nodes, count, pause
        self._random, self._over = random.Random(1), Event()
        self.killed: list[int] = []

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while len(self.killed) < self._count and not self._over.wait(0.05):
            working = [pid for node in self._nodes for pid in workers_of(node) if pid not in self.killed]
            if working:
                self._over.wait(self._random.uniform(0, self._pause))
                pid = self._random.choice(working)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(pid)
