"""What encoding costs on a Ray cluster of this machine, beside one process, and what leading it costs.

    python benchmarks/many_machines.py --pictures 1500 --work FOLDER -o many_machines.json

Pictures are made: JPEG files of 640×480, encoded with the built-in model. Rates are from the first results to
the last; what starting takes is told by itself. On a machine that does other things, the seconds of
processors that all processes of a command have used say more. Then a store takes streams that are there
already, as the process does that leads: it finds them names and has shards written, here by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from PIL import Image

from clip_feature_codec.bundle import Bundle
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.store.packed import PackedStore
from clip_feature_codec.store.packed.bulk import BulkStore
from clip_feature_codec.store.packed.shards import write_shard
from clip_feature_codec.store.writing import NewPicture

RUN = "from clip_feature_codec.cli.main import main; main()"
MARK = "CLIP_FEATURE_CODEC_BENCHMARK"
TICKS = os.sysconf("SC_CLK_TCK")


def make_photos(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i // 1000:03}/{i:06}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            coarse.resize((640, 480), Image.Resampling.BICUBIC).save(path)


class ProcessorTime(Thread):
    """Adds up what all processes use that have a mark in their environment, until it is told to stop."""

    def __init__(self, mark: str) -> None:
        super().__init__(daemon=True)
        self._mark, self._over = f"{MARK}={mark}".encode(), Event()
        self._used: dict[int, float] = {}

    def run(self) -> None:
        """Look at all processes now and then."""
        while not self._over.wait(0.5):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if self._mark in (process / "environ").read_bytes():
                        fields = (process / "stat").read_text().rpartition(")")[2].split()
                        self._used[int(process.name)] = (int(fields[11]) + int(fields[12])) / TICKS
                except OSError:  # it has ended
                    continue

    def stop(self) -> float:
        """Seconds of a processor."""
        self._over.set()
        self.join()
        return sum(self._used.values())


def encode(photos: Path, out: Path, *options: str) -> dict[str, Any]:
    """Encode in processes of its own, and tell what that took."""
    shutil.rmtree(out, ignore_errors=True)
    mark, began = secrets.token_hex(8), time.monotonic()
    watch = ProcessorTime(mark)
    watch.start()
    line = [sys.executable, "-c", RUN, "encode", str(photos), "-o", str(out), "--packed", *options]
    told: list[tuple[float, int]] = []
    with subprocess.Popen(
        [*line, "--progress", "json"], stderr=subprocess.PIPE, text=True, env=os.environ | {MARK: mark}
    ) as process:
        for event in map(json.loads, filter(lambda line: line.startswith("{"), process.stderr or ())):
            if event.get("done"):  # now: the next one is not there yet
                told += [(time.monotonic() - began, event["done"])]
    used, seconds = watch.stop(), time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
    (first, some), (last, done) = told[0], told[-1]
    return {
        "seconds": round(seconds, 1),
        "first_results_after": round(first, 1),
        "pictures_per_second": round((done - some) / (last - first), 1) if last > first else None,
        "processor_seconds": round(used, 1),
    }


def fill(out: Path, count: int) -> dict[str, Any]:
    """Have a store take so many streams, as the first process of a cluster does."""
    codec = Bundle.find("mini").codec
    vectors = np.random.default_rng(0).normal(size=(32, codec.dim)).astype(np.float32)
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    blobs = codec.encode(Layers(rows, None, [4 / 3] * 32), Rate(layers="semantic"))
    shutil.rmtree(out, ignore_errors=True)
    PackedStore.create(out, codec)
    store = BulkStore(out, codec, write_shard)
    began = time.process_time()
    for start in range(0, count, 32):
        numbers = range(start, start + 32)
        new = [NewPicture(f"{i // 1000:06}/{i:09}.jpg", 640, 480, 10_000 + i, i) for i in numbers]
        store.put(out.parent / "photos", new, blobs)
    store.finish()
    return {"pictures": count, "microseconds_each": round((time.process_time() - began) / count * 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--streams", type=int, default=400_000)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    photos, work = options.work / "photos", options.work
    make_photos(photos, options.pictures)
    result = {
        "machine": describe_machine(),
        "pictures": options.pictures,
        "one_process": encode(photos, work / "one"),
        "ray_local": encode(photos, work / "ray", "--ray", "local"),
        "leading": fill(work / "filled", options.streams),
    }
    same = [sorted((work / name / "data").iterdir())[0].read_bytes() for name in ("one", "ray")]
    result["same_shards"] = same[0] == same[1]
    text = json.dumps(result, indent=1)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
