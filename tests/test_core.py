"""The core by itself: a wheel in a virtual environment of its own, without torch."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clip_feature_codec.extras import EXTRAS
from samples import make_picture

ROOT = Path(__file__).parents[1]
LARGEST = 350e6
NOT_THERE = sorted(
    {module for modules in EXTRAS.values() for module in modules} | {"transformers", "sklearn"}
)

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run_in(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def done_in(folder: Path, *command: object) -> str:
    """What a command prints that has to succeed."""
    done = run_in(folder, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with nothing but what the core asks for."""
    folder = tmp_path_factory.mktemp("core")
    done_in(folder, sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    done_in(folder, sys.executable, "-m", "venv", folder / "venv")
    (wheel,) = folder.glob("*.whl")
    done_in(folder, folder / "venv/bin/pip", "install", "--quiet", wheel)
    return folder / "venv/bin"


@pytest.fixture(scope="module")
def work(core: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos``, and what the first commands make of them."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "photos").mkdir()
    for seed in range(6):
        make_picture(seed, (96, 64)).save(folder / f"photos/{seed}.png")
    done_in(folder, core / "clip-codec", *shlex.split("encode photos/0.png -o a.clp --max-bytes 140"))
    done_in(folder, core / "clip-codec", *shlex.split("encode photos -o store --max-bytes 140"))
    return folder


@pytest.fixture
def run(core: Path, work: Path) -> Run:
    """Runs a line of ``clip-codec`` of the core."""
    return lambda line: run_in(work, core / "clip-codec", *shlex.split(line))


def bytes_on_disk(folder: Path) -> int:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_blocks * 512 for path in files)


def test_the_core_is_small_and_has_no_torch(core: Path, tmp_path: Path):
    listed = done_in(
        core,
        core / "python",
        "-c",
        f"""
from importlib.util import find_spec
print([name for name in {NOT_THERE} if find_spec(name)])
""",
    )
    assert listed.strip() == "[]"
    done_in(tmp_path, sys.executable, "-m", "venv", tmp_path / "venv")  # with pip alone
    size = bytes_on_disk(core.parent) - bytes_on_disk(tmp_path / "venv")
    print(f"pip install clip-feature-codec: {size / 1e6:.0f} MB")
    assert size <= LARGEST


@pytest.mark.parametrize(
    "line",
    [
        "info a.clp",
        "info store",
        "decode a.clp -o preview.png --preview",
        "decode a.clp -o painted.png",
        "decode a.clp -o fast.png --steps 2 --fidelity 1 --size 64",
        "decode store -o painted --steps 2",
        "search store a red bus",
        "search store --image photos/3.png --sheet found.png",
        "search store --duplicates",
        "transcode store -o small --max-bytes 64",
        "transcode a.clp -o b.clp --max-bytes 64",
        "fit store -o fitted.json",
        "fit photos -o other.json",
        "prune store",
    ],
)
def test_a_command_of_the_core_works(line: str, run: Run):
    done = run(line)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_nearest_picture_is_the_picture(run: Run, work: Path):
    done = run("search store --image photos/3.png --json -")
    assert json.loads(done.stdout)["results"][0]["name"].endswith("3"), done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "eval store",
            "clip-codec eval needs more than the core (torch): pip install 'clip-feature-codec[eval]'",
        ),
        ("demo", "pip install 'clip-feature-codec[eval]'"),
        ("train store", "pip install 'clip-feature-codec[train]'"),
        (
            "encode photos -o new --model ViT-B-32 --pretrained openai",
            "pip install 'clip-feature-codec[clip]'",
        ),
        ("decode a.clp -o x.png --device cuda --quiet", "pip install 'clip-feature-codec[clip]'"),
    ],
)
def test_what_needs_more_says_what_to_type(line: str, said: str, run: Run):
    done = run(line)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert said.format("pip install 'clip-feature-codec") in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "",
        "encode",
        "decode",
        "info",
        "search",
        "transcode",
        "prune",
        "fit",
        "train",
        "eval",
        "compare",
        "demo",
    ],
)
def test_help_is_there(command: str, run: Run):
    done = run(f"{command} --help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage:")


def test_the_python_object_does_all_of_it(core: Path, work: Path):
    done_in(
        work,
        core / "python",
        "-c",
        """
from clip_feature_codec import ClipCodec
codec = ClipCodec.load()
blobs = codec.encode_many(["photos/1.png", "photos/2.png"], max_bytes=140)
assert all(len(blob) <= 140 for blob in blobs)
assert codec.vectors(blobs).shape == (2, codec.features.dim)
assert codec.preview(blobs[0]).size == codec.decode(blobs[0], steps=2).size
assert codec.embedder.embed_text("a red bus").shape == (1, codec.features.dim)
assert all(len(blob) <= 64 for blob in codec.transcode(blobs, max_bytes=64))
""",
    )
