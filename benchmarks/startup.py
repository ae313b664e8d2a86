"""What a command costs as a whole process: its time and its peak memory, start and imports included.

Each command runs once and then a few times more; the first time and the medians are printed, of wall time and
of processor time, which other work on the machine changes less. The first is as after an editable
installation: nothing that was compiled at an earlier use is there, Python's byte code included. ``--against``
names the ``clip-codec`` of another environment, such as one of an earlier release: the two take turns, so
that a machine's moods meet both. ``--install`` measures what a new user has: this checkout is installed
into an environment of its own, the core alone and without byte code, as uv does it, and the size of that is
said, too.

    python benchmarks/startup.py --against ../before/.venv/bin/clip-codec
    python benchmarks/startup.py --install
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
import venv
from collections.abc import Mapping
from pathlib import Path

import skimage.data

from clip_feature_codec.evaluate.provenance import describe_machine
from clip_feature_codec.images import load_image, resize_to, save_image

COMMANDS = {
    "encode, 140 bytes": "encode photo.png -o again.clp --max-bytes 140",
    "decode, 256 pixels": "decode photo.clp -o painted.png",
    "decode --preview": "decode photo.clp -o preview.png --preview",
    "transcode, 64 bytes": "transcode photo.clp -o small.clp --max-bytes 64",
    "info": "info photo.clp",
    "--help": "--help",
}


# The system counts into the peak of a process what the one that started it had: this one is small.
METER = """
import os, sys, time
silent = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
began = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def install(folder: Path) -> Path:
    """Install this checkout into a new environment and say how large it is; its ``clip-codec``."""
    began = time.perf_counter()
    venv.create(folder, with_pip=True)
    empty = bytes_in(folder)
    checkout = str(Path(__file__).parents[1])
    pip: list[str | Path] = [
        folder / "bin" / "pip",
        "install",
        "--quiet",
        "--quiet",
        "--no-compile",
        checkout,
    ]
    subprocess.run(pip, check=True, env=without(os.environ, "PYTHONPATH"))
    seconds, size = time.perf_counter() - began, bytes_in(folder) - empty
    print(f"pip install of the core: {seconds:.0f} s, {size / 1e6:.0f} MB beside pip itself")
    return folder / "bin" / "clip-codec"


def bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def without(environment: Mapping[str, str], name: str) -> dict[str, str]:
    return {other: value for other, value in environment.items() if other != name}


def run(program: Path, arguments: str, folder: Path) -> tuple[float, float, float]:
    """Run a command; give its seconds, those of processors, and the largest process's peak memory in MB."""
    compiled = str(folder / "compiled")
    environment = without(os.environ, "PYTHONDONTWRITEBYTECODE")
    environment |= {"NUMBA_CACHE_DIR": compiled, "PYTHONPYCACHEPREFIX": compiled}
    metered: list[str | Path] = [sys.executable, "-S", "-c", METER, program, *arguments.split()]
    done = subprocess.run(metered, cwd=folder, env=environment, check=False, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{program} {arguments}: exit status {done.returncode}")
    seconds, used, peak = map(float, done.stdout.split())
    return seconds, used, peak / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--program", type=Path, default=Path(sys.executable).with_name("clip-codec"))
    parser.add_argument("--install", action="store_true", help="install this checkout, and measure that")
    parser.add_argument("--against", type=Path, help="another clip-codec, to take turns with")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        program = install(Path(name) / "core") if args.install else args.program
        measure(program, args.against, args.runs)


def measure(mine: Path, other: Path | None, count: int) -> None:
    """Print the table of one program, or of two."""
    programs = [path.absolute() for path in (mine, other) if path]
    print(
        "| command | first | its processor seconds | seconds | processor seconds | peak memory |"
        + (
            " first before | its processor seconds | seconds | processor seconds | peak | ratio |"
            * bool(other)
        )
    )
    print("|---|---|---|---|---|---|" + ("---|---|---|---|---|---|" * bool(other)))
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
            for _ in range(count):
                for program, here, runs in zip(programs, folders, found, strict=True):
                    runs.append(run(program, arguments, here))
            medians = [[statistics.median(figures) for figures in zip(*runs, strict=True)] for runs in found]
            cells = [
                f"{first[0]:.2f} | {first[1]:.2f} | {seconds:.2f} | {used:.2f} | {peak:.0f} MB"
                for first, (seconds, used, peak) in zip(firsts, medians, strict=True)
            ]
            if other:
                ratios = [one[1] / before[1] for one, before in zip(*found, strict=True)]
                cells.append(f"{statistics.median(ratios):.2f}")
            print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
