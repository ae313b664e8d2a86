"""What stores cost as they grow: disk, files, and time and peak memory of each command, of both kinds.

    python benchmarks/scale.py --sizes 1000 10000 100000 --work FOLDER -o scale.json --plot scale.png

Streams are made: each is a vector of its own of 128 numbers (int8 profile) and a layout that all share, so
that no picture has to be embedded; their pictures are files of a few bytes, of which the commands here look
only at size and time. `encode` is measured with nothing to do, and with one picture to add (--layers layout,
which needs no CLIP model). Each command is a process of its own, start-up included; its peak memory counts
the pages of mapped files, which the kernel may take back. From --only-packed on, there is no store of loose
streams, there are no pictures, and of what reads all streams only searching and exporting are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
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


def make(folder: Path, photos: Path, count: int, *, packed: bool, files: bool) -> None:
    """A store of made streams, written as `encode` writes one, and its pictures if they are not there."""
    codec = made_codec()
    store = create_store(folder, codec, packed=packed)
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        pictures = [picture(photos, number, files=files) for number in numbers]
        store.put(photos, pictures, made_streams(codec, first, len(numbers)))
    store.finish()


def picture(photos: Path, number: int, *, files: bool) -> NewPicture:
    inside = f"{number // 1000:04}/IMG_{number:07}.jpg"
    if not files:
        return NewPicture(inside, 640, 480, 7, 10**18 + 10**9 * number)
    path = photos / inside
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    status = path.stat()
    return NewPicture(inside, 640, 480, status.st_size, status.st_mtime_ns)


def measured(*arguments: object, program: str = RUN) -> dict[str, float]:
    """Seconds, processor seconds and peak memory in MB of a process; of readers that it starts, no memory."""
    command = [sys.executable, "-c", PEAK + program, *map(str, arguments)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command[3:])}: {told.decode()[-500:]}")
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(int(told.split()[-1]) / 1024, 1),
    }


def disk(folder: Path) -> dict[str, float]:
    """What a folder takes, in blocks of the disk, and how many files it has; the search index left out."""
    paths = [path for path in folder.rglob("*") if "search.index" not in path.parts]
    blocks = sum(path.stat().st_blocks for path in paths) * 512
    return {"disk_mb": round(blocks / 1e6, 2), "files": sum(path.is_file() for path in paths)}


def commands(store: Path, photos: Path, work: Path, everything: bool) -> Iterator[tuple[str, list[object]]]:
    """Each command that is measured, with its name; in this order, since some prepare others."""
    one = open_store(store).entries[7].name
    new = work / "new"
    new.mkdir(exist_ok=True)
    save_image(gradient(), new / "one.png")
    yield "info", ["info", store]
    yield "decode one, --preview", ["decode", store, "-o", work / "one", "--preview", "--name", one]
    if everything:
        yield from _that_read_all(store, photos, work)
    stream = work / "query.clp"
    stream.write_bytes(open_store(store).blob(open_store(store).entries[7]))
    search: list[object] = ["search", store, "--image", stream, "--quiet"]
    yield "search, first", search
    yield "search, second", search
    yield "search --duplicates", ["search", store, "--duplicates", "--quiet"]
    yield "export --to npy", ["export", store, "--to", "npy", "-o", work / "e", "--quiet"]
    yield "encode, one to add", ["encode", new, "-o", store, "--layers", "layout", "--quiet"]


def _that_read_all(store: Path, photos: Path, work: Path) -> Iterator[tuple[str, list[object]]]:
    yield "encode, nothing to do", ["encode", photos, "-o", store, "--layers", "layout", "--quiet"]
    yield "info --verify", ["info", store, "--verify", "--quiet"]
    yield (
        "transcode --layers semantic",
        ["transcode", store, "-o", work / "t", "--layers", "semantic", "--packed"],
    )
    yield "pack", ["pack", store, "-o", work / "p", "--quiet"]
    yield "unpack", ["unpack", store, "-o", work / "u", "--quiet"]


def measure(kind: str, count: int, work: Path, everything: bool) -> dict[str, Any]:
    """All figures of one kind of store at one size."""
    folder, photos = work / "store", work / f"photos-{count}"
    here = str(Path(__file__).parent)
    program = f"import sys; sys.path.insert(0, {here!r}); import scale; scale.make_from(sys.argv)"
    found: dict[str, Any] = {"kind": kind, "pictures": count, "commands": {}}
    found["commands"]["made"] = measured(folder, photos, count, kind, int(everything), program=program)
    found["bytes_mb"] = round(open_store(folder).totals().bytes / 1e6, 2)
    found |= disk(folder)
    found["beyond_streams"] = round((found["disk_mb"] - found["bytes_mb"]) * 1e6 / count, 1)
    for name, arguments in commands(folder, photos, work, everything):
        found["commands"][name] = measured(*arguments)
        print(f"{kind} {count} {name}: {found['commands'][name]}", file=sys.stderr, flush=True)
        for made in ("one", "t", "p", "u", "e"):
            shutil.rmtree(work / made, ignore_errors=True)
    shutil.rmtree(folder)
    return found


def make_from(argv: Sequence[str]) -> None:
    _, folder, photos, count, kind, files = argv
    make(Path(folder), Path(photos), int(count), packed=kind == "packed", files=files == "1")


def table(results: Sequence[dict[str, Any]]) -> str:
    """A line for each command: seconds (of processors), and peak memory, by kind and size."""
    heads = [f"{result['kind']} {result['pictures']:,}" for result in results]
    names = list(dict.fromkeys(name for result in results for name in result["commands"]))
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [
        f"| {fact.replace('_', ' ')} | {' | '.join(str(result[fact]) for result in results)} |"
        for fact in ("disk_mb", "files", "beyond_streams")
    ]
    for name in names:
        cells = []
        for result in results:
            cost = result["commands"].get(name)
            times = f"{cost['seconds']} s ({cost['processor_seconds']})" if cost else ""
            cells.append(f"{times}, {cost['peak_mb']:.0f} MB" if cost else "–")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Processor seconds of each command against the number of pictures."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5))
    axes = figure.add_subplot()
    names = list(dict.fromkeys(name for result in results for name in result["commands"]))
    for number, name in enumerate(names):
        for kind, style in zip(KINDS, ("--", "-"), strict=True):
            points = [
                (result["pictures"], result["commands"][name]["processor_seconds"])
                for result in results
                if result["kind"] == kind and name in result["commands"]
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
    parser.add_argument("--only-packed", type=int, default=1_000_000)
    parser.add_argument(
        "--work", type=Path, required=True, help="a folder that is not there, on a disk with room"
    )
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True)
    results = []
    for count in args.sizes:
        whole = count < args.only_packed
        for kind in KINDS if whole else KINDS[1:]:
            results.append(measure(kind, count, args.work, whole))
            args.out.write_text(json.dumps({"machine": describe_machine(), "results": results}, indent=1))
        shutil.rmtree(args.work / f"photos-{count}", ignore_errors=True)
    print(table(results))
    if args.plot:
        plot(results, args.plot)
    shutil.rmtree(args.work)


if __name__ == "__main__":
    main()
