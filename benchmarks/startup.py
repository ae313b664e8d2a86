"""What a command costs as a whole process: its time and its peak memory, start and imports included.

Each command runs once and then a few times more; the first time and the medians are printed, of wall time and
of processor time, which other work on the machine changes less. The first is as after an editable
installation: nothing that was compiled at an earlier use is there, Python's byte code included. ``--against``
names the ``clip-codec`` of another environment, such as one of an earlier release: the two take turns, so
that a machine's moods meet both.

    python benchmarks/startup.py --against ../before/.venv/bin/clip-codec
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import skimage.data

from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.images import load_image, resize_to, save_image

COMMANDS = {
    "encode, 140 bytes": "encode photo.png -o again.clp --max-bytes 140",
    "decode, 256 pixels": "decode photo.clp -o painted.png",
    "decode --preview": "decode photo.clp -o preview.png --preview",
    "info": "info photo.clp",
    "--help": "--help",
}


def run(program: Path, arguments: str, folder: Path) -> tuple[float, float, float]:
    """Run a command; give its seconds, those of processors, and the largest process's peak memory in MB."""
    compiled = str(folder / "compiled")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [program, *arguments.split()],
        cwd=folder,
        env=environment | {"NUMBA_CACHE_DIR": compiled, "PYTHONPYCACHEPREFIX": compiled},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{program} {arguments}: exit status {process.returncode}")
    used = usage.ru_utime + usage.ru_stime
    return seconds, used, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--program", type=Path, default=Path(sys.executable).with_name("clip-codec"))
    parser.add_argument("--against", type=Path, help="another clip-codec, to take turns with")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    programs = [path.absolute() for path in (args.program, args.against) if path]
    print(describe_machine())
    print(
        "| command | first | seconds | processor seconds | peak memory |"
        + (
            " first before | seconds before | processor seconds before | peak before | ratio |"
            * bool(args.against)
        )
    )
    print("|---|---|---|---|---|" + ("---|---|---|---|---|" * bool(args.against)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = load_image(Path(skimage.data.__file__).with_name("chelsea.png"))
        save_image(resize_to(photo, (384, 256)), folder / "photos" / "photo.png")
        # A folder each: neither writes over what the other wrote.
        folders = [folder / str(i) for i in range(len(programs))]
        for program, here in zip(programs, folders, strict=True):
            shutil.copytree(folder / "photos", here)
            run(program, "encode photo.png -o photo.clp --max-bytes 140", here)
            shutil.rmtree(here / "compiled", ignore_errors=True)
        for title, arguments in COMMANDS.items():
            firsts = [run(program, arguments, here) for program, here in zip(programs, folders, strict=True)]
            found: list[list[tuple[float, float, float]]] = [[] for _ in programs]
            for _ in range(args.runs):
                for program, here, runs in zip(programs, folders, found, strict=True):
                    runs.append(run(program, arguments, here))
            medians = [[statistics.median(figures) for figures in zip(*runs, strict=True)] for runs in found]
            cells = [
                f"{first[0]:.2f} | {seconds:.2f} | {used:.2f} | {peak:.0f} MB"
                for first, (seconds, used, peak) in zip(firsts, medians, strict=True)
            ]
            if args.against:
                ratios = [mine[1] / other[1] for mine, other in zip(*found, strict=True)]
                cells.append(f"{statistics.median(ratios):.2f}")
            print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
