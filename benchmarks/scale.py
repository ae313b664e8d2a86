"""What stores cost as they grow: disk, files, and time and peak memory of each command, of both kinds.

    python benchmarks/scale.py --sizes 1000 10000 100000 --work FOLDER -o scale.jsonl --plot scale.png

Streams are made: each is a vector of its own of 128 numbers (int8 profile) and a layout that all share, so
that no picture has to be embedded; their pictures are empty files, of which the commands here look only at
size and time. `encode` is measured with nothing to do, and with one picture to add (--layers layout, which
needs no CLIP model). Each command is a process of its own, start-up included. Its peak memory is told twice:
all of it, with the pages of mapped files, which the kernel may take back; and what is its own, looked at
twenty times a second.

Results are written as they come, a line of JSON each. Run again with the same file, it goes on behind them,
and then prints the table of all of them; with --steps, only those are measured, in the order in which they
are named. A store stays in the folder until every step of it is measured. Whoever wants a step again removes
its line.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from clip_feature_codec.codec import bitstream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.images import save_image
from clip_feature_codec.preview import analyse
from clip_feature_codec.store.opening import create_store, open_store
from clip_feature_codec.store.writing import NewPicture

DIM = 128
AT_ONCE = 4096
KINDS = ("folder", "packed")
DISK = "disk"
MADE = ".made"
ONE = "(one)"
LOOK = 0.05
STEPS = (  # one picture is added last, since it is of another kind
    "made",
    "info",
    "decode one, --preview",
    "encode, nothing to do",
    "info --verify",
    "transcode --layers semantic",
    "pack",
    "unpack",
    "export --to npy",
    "search, first",
    "search, second",
    "search --duplicates",
    "encode, one to add",
)
# The peak is told by the process itself: what `os.wait4` gives includes that of the one that started it.
PEAK = """
import atexit, re, sys
def tell():
    with open("/proc/self/status") as status:
        print("peak", re.search(r"VmHWM:\\s+(\\d+)", status.read())[1], file=sys.stderr)
atexit.register(tell)
"""
RUN = "from clip_feature_codec.cli.main import main; main()"


def made_codec() -> FeatureCodec:
    space = ClipSpace("made", "made", "ab" * 32, DIM, {"size": [32, 32]})
    return FeatureCodec.fit(np.random.default_rng(0).normal(size=(4096, DIM)).astype(np.float32), space)


def made_streams(codec: FeatureCodec, first: int, count: int) -> list[bytes]:
    """Streams of both layers: vectors of their own, and one layout."""
    vectors = np.random.default_rng(first).normal(size=(count, DIM)).astype(np.float32)
    layout = codec.parse(
        codec.encode(Layers(None, analyse(gradient())[None]), Rate(layers="layout"))[0]
    ).layout
    digest = bytes.fromhex(codec.tables_sha256)
    parsed = codec.parse_all(codec.encode(Layers(vectors), Rate(layers="semantic")))
    return [bitstream.pack(digest, codec.profile, stream.semantic, layout, 4 / 3) for stream in parsed]


def gradient() -> Any:
    from PIL import Image

    return Image.linear_gradient("L").resize((640, 480)).convert("RGB")


def make(folder: Path, photos: Path, count: int, *, packed: bool) -> None:
    """A store of made streams, written as `encode` writes one, and its pictures if they are not there."""
    codec = made_codec()
    store = create_store(folder, codec, packed=packed)
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        pictures = [picture(photos, number) for number in numbers]
        store.put(photos, pictures, made_streams(codec, first, len(numbers)))
    store.finish()


def picture(photos: Path, number: int) -> NewPicture:
    inside = f"{number // 1000:04}/IMG_{number:07}.jpg"
    path = photos / inside
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, 1 + number)  # of any size, and none of it on the disk
    status = path.stat()
    return NewPicture(inside, 640, 480, status.st_size, status.st_mtime_ns)


def measured(*arguments: object, program: str = RUN) -> dict[str, float]:
    """Seconds, processor seconds and peak memory in MB of a process; of readers that it starts, no memory."""
    command = [sys.executable, "-c", PEAK + program, *map(str, arguments)]
    began = time.perf_counter()
    with TemporaryFile() as told:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told)
        own = 0
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            own = max(own, own_memory(process.pid))
            time.sleep(LOOK)
        seconds = time.perf_counter() - began
        told.seek(0)
        text = told.read().decode()
    _, status, usage = ended
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command[3:])}: {text[-500:]}")
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(int(text.split()[-1]) / 1024, 1),
        "own_mb": round(own / 1024, 1),
    }


def own_memory(process: int) -> int:
    """KiB of a process's memory that are of no file; 0 where it has just ended."""
    with suppress(OSError):
        found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) if found else 0
    return 0


def disk(folder: Path, count: int) -> dict[str, float]:
    """A store in blocks of the disk, how many files it has, and bytes a picture beyond its stream."""
    paths = list(folder.rglob("*"))
    blocks = sum(path.stat().st_blocks for path in paths) * 512
    return {
        "disk_mb": round(blocks / 1e6, 2),
        "files": sum(path.is_file() for path in paths),
        "beyond_streams": round((blocks - open_store(folder).totals().bytes) / count, 1),
    }


def steps(store: Path, photos: Path, work: Path) -> dict[str, Callable[[], dict[str, float]]]:
    """What is measured, in this order, since some prepare others."""

    def run(*arguments: object) -> Callable[[], dict[str, float]]:
        return lambda: measured(*arguments)

    def of_one(command: str, *arguments: object) -> Callable[[], dict[str, float]]:
        """Of one picture: its name stands for `ONE`, and its stream is the query."""

        def go() -> dict[str, float]:
            opened = open_store(store)
            one = opened.entries[7]
            (work / "query.clp").write_bytes(opened.blob(one))
            return measured(command, store, *(one.name if a == ONE else a for a in arguments))

        return go

    def add_one() -> dict[str, float]:
        (work / "new").mkdir(exist_ok=True)
        save_image(gradient(), work / "new" / "one.png")
        return measured("encode", work / "new", "-o", store, "--layers", "layout", "--quiet")

    search = of_one("search", "--image", work / "query.clp", "--quiet")
    to = work / "made"
    return {
        "info": run("info", store),
        "decode one, --preview": of_one("decode", "-o", to, "--preview", "--name", ONE),
        "encode, nothing to do": run("encode", photos, "-o", store, "--layers", "layout", "--quiet"),
        "info --verify": run("info", store, "--verify", "--quiet"),
        "transcode --layers semantic": run(
            "transcode", store, "-o", to, "--layers", "semantic", "--packed", "--quiet"
        ),
        "pack": run("pack", store, "-o", to, "--quiet"),
        "unpack": run("unpack", store, "-o", to, "--quiet"),
        "export --to npy": run("export", store, "--to", "npy", "-o", to, "--quiet"),
        "search, first": search,
        "search, second": search,
        "search --duplicates": run("search", store, "--duplicates", "--quiet"),
        "encode, one to add": add_one,
    }


@dataclass
class Results:
    """What was measured, on disk as it comes.

    Attributes:
        found: by kind, number of pictures and step.
    """

    path: Path
    found: dict[tuple[str, int, str], dict[str, float]]

    @classmethod
    def of(cls, path: Path) -> Results:
        """Those of a file, or none yet."""
        lines = path.read_text().splitlines() if path.exists() else []
        records = [json.loads(line) for line in lines]
        return cls(path, {(r["kind"], r["pictures"], r["step"]): r["costs"] for r in records})

    def add(self, kind: str, count: int, step: str, costs: dict[str, float]) -> None:
        """Keep one more."""
        self.found[kind, count, step] = costs
        record = {"kind": kind, "pictures": count, "step": step, "costs": costs}
        with self.path.open("a") as file:
            file.write(json.dumps(record | {"machine": describe_machine()}) + "\n")
        print(f"{kind} {count:,} {step}: {costs}", file=sys.stderr, flush=True)

    def columns(self) -> list[tuple[str, int]]:
        """Kinds and sizes, in the order of sizes."""
        return sorted({key[:2] for key in self.found}, key=lambda key: (key[1], key[0]))


def measure(kind: str, count: int, work: Path, wanted: Sequence[str], results: Results) -> None:
    """What is not measured yet of one kind of store at one size."""
    folder, photos = work / f"{kind}-{count}", work / f"photos-{count}"
    known = steps(folder, photos, work)
    todo = {name: known[name] for name in wanted if (kind, count, name) not in results.found}
    if not todo:
        return
    if not (folder / MADE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        here = str(Path(__file__).parent)
        program = f"import sys; sys.path.insert(0, {here!r}); import scale; scale.make_from(sys.argv)"
        results.add(kind, count, "made", measured(folder, photos, count, kind, program=program))
        results.add(kind, count, DISK, disk(folder, count))
        (folder / MADE).touch()
    for name, step in todo.items():
        results.add(kind, count, name, step())
        shutil.rmtree(work / "made", ignore_errors=True)
    if all((kind, count, step) in results.found for step in STEPS):
        shutil.rmtree(folder)


def make_from(argv: Sequence[str]) -> None:
    _, folder, photos, count, kind = argv
    make(Path(folder), Path(photos), int(count), packed=kind == "packed")


def table(results: Results) -> str:
    """A line for each step: seconds of processors, and peak memory (its own), by kind and size.

    Beside other work, seconds of a clock say nothing; they are in the results.
    """
    columns = results.columns()
    heads = [f"{kind} {count:,}" for kind, count in columns]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for fact in ("disk_mb", "files", "beyond_streams"):
        cells = [str(results.found.get((*column, DISK), {}).get(fact, "–")) for column in columns]
        lines.append(f"| {fact.replace('_', ' ')} | {' | '.join(cells)} |")
    for name in STEPS:
        cells = []
        for column in columns:
            costs = results.found.get((*column, name))
            text = "{processor_seconds:.1f} s, {peak_mb:.0f} MB ({own_mb:.0f})"
            cells.append(text.format(**costs) if costs else "–")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results: Results, path: Path) -> None:
    """Processor seconds of each command against the number of pictures."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5))
    axes = figure.add_subplot()
    for number, name in enumerate(STEPS):
        for kind, style in zip(KINDS, ("--", "-"), strict=True):
            points = [
                (count, results.found[of, count, name]["processor_seconds"])
                for of, count in results.columns()
                if of == kind and (of, count, name) in results.found
            ]
            label = name if kind == "packed" else None
            colour = colormaps["tab20"](number)
            axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=label)
    axes.set(xscale="log", yscale="log", xlabel="pictures", ylabel="processor seconds, start-up included")
    axes.set_title("packed stores (lines) and folders of streams (dashes)")
    axes.legend(fontsize=7, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=KINDS)
    parser.add_argument("--steps", choices=STEPS[1:], nargs="*", default=STEPS[1:])
    parser.add_argument("--work", type=Path, required=True, help="a folder on a disk with room")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the results, in JSON Lines")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    results = Results.of(args.out)
    for count in args.sizes:
        for kind in args.kinds:
            measure(kind, count, args.work, args.steps, results)
    print(table(results))
    if args.plot:
        plot(results, args.plot)


if __name__ == "__main__":
    main()
