from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import clip_feature_codec
from clip_feature_codec import ClipCodec
from clip_feature_codec.cli.main import main
from clip_feature_codec.extras import EXTRAS
from clip_feature_codec.train.config import TrainConfig
from samples import make_picture

GOLDEN = Path(__file__).parent / "golden"
CORE = {"PIL", "click", "filelock", "ftfy", "imagecodecs", "numpy", "onnxruntime", "pi_heif", "regex"}
# Of the standard library, Pillow and our own, what takes a while to import and few commands need.
SLOW = {
    *("asyncio", "concurrent.futures", "decimal", "email", "importlib.metadata", "importlib.resources"),
    *("multiprocessing", "random", "shutil", "sqlite3", "subprocess", "tempfile", "zipfile"),
    *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin"),
    *("PIL.TiffImagePlugin", "backports.zstd", "clip_feature_codec.api", "clip_feature_codec.hub"),
    *("clip_feature_codec.images.jxl", "clip_feature_codec.images.png", "clip_feature_codec.store"),
}
NOTED = (
    CORE | SLOW | {"safetensors", "tifffile", "tqdm"} | {name for extra in EXTRAS.values() for name in extra}
)
PNG, JPEG = {"PIL", "PIL.PngImagePlugin", "decimal"}, {"PIL", "PIL.JpegImagePlugin", "subprocess"}
NETWORKS = {"clip_feature_codec.api", "onnxruntime"}
HEAVY = ("torch", "torchvision", "open_clip", "accelerate", "skimage")


TELL_MODULES = f"""
import sys
from clip_feature_codec.cli.main import main
try:
    main()
finally:
    print(*[name for name in {sorted(NOTED)} if name in sys.modules], file=sys.stderr)
"""


def fresh(code: str) -> str:
    """What ``code`` prints in a new Python."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded(code: str, modules: tuple[str, ...]) -> str:
    """Which of ``modules`` are loaded after ``code``, in a new Python."""
    return fresh(f"{code}\nimport sys\nprint([name for name in {modules} if name in sys.modules])")


def test_importing_the_package_takes_next_to_no_time():
    # The processor's time, which other work on the machine does not stretch.
    timed = "from time import process_time as t; start = t(); import clip_feature_codec; print(t() - start)"
    assert min(float(fresh(timed)) for _ in range(3)) < 0.2


def test_importing_the_package_loads_nothing_heavy():
    assert loaded("import clip_feature_codec", (*HEAVY, "numpy", "PIL", "click")) == "[]"


def test_help_loads_no_torch():
    code = """
from clip_feature_codec.cli.main import main
for command in ([], ["encode"], ["decode"], ["info"], ["eval"], ["demo"]):
    try:
        main([*command, "--help"])
    except SystemExit as end:
        assert end.code == 0
import sys
print("heavy:", [name for name in ("torch", "numpy") if name in sys.modules])
"""
    assert fresh(code).endswith("heavy: []")


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("--help", {"shutil"}),
        ("info a.clp", {"numpy"}),
        ("transcode a.clp -o b.clp --max-bytes 64", {"numpy"}),
        ("decode a.clp -o preview.png --preview", {"numpy", *PNG}),
        ("encode a.jpg -o b.clp --max-bytes 140", {"numpy", *JPEG, *NETWORKS}),
        ("decode a.clp -o painted.png --steps 1", {"numpy", *PNG, *NETWORKS, "random", "safetensors"}),
    ],
)
def test_a_command_on_one_file_loads_what_it_needs_and_no_more(line: str, needed: set[str], tmp_path: Path):
    picture = make_picture(0, (96, 64))
    picture.save(tmp_path / "a.jpg")
    (tmp_path / "a.clp").write_bytes(ClipCodec.load().encode(picture, max_bytes=140))
    done = subprocess.run(
        [sys.executable, "-c", TELL_MODULES, *line.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()[-1].split()) == needed | {"click"}


@pytest.mark.parametrize(
    ("line", "given", "expected"),
    [("info a.clp", {}, "1"), ("info a.clp", {"OPENBLAS_NUM_THREADS": "3"}, "3"), ("fit a.npy", {}, "None")],
)
def test_numpy_has_threads_of_its_own_where_products_are_large(
    line: str, given: dict[str, str], expected: str, tmp_path: Path
):
    code = """
from clip_feature_codec.cli.main import main
import os, sys
print("numpy" in sys.modules)
try:
    main()
finally:
    print(os.environ.get("OPENBLAS_NUM_THREADS"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *line.split()],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"} | given,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.split() == ["False", expected]


def test_the_codec_and_reading_vectors_load_no_torch():
    code = f"""
from pathlib import Path
from clip_feature_codec import ClipCodec
golden = Path({str(GOLDEN / "int8")!r})
assert len(ClipCodec.load(golden).vectors([(golden / "square.clp").read_bytes()])) == 1
import clip_feature_codec.images, clip_feature_codec.store.feature_store
"""
    assert loaded(code, HEAVY) == "[]"


def test_what_any_decoder_needs_loads_no_torch():
    names = "decoders.protocol", "decoders.conditions", "decoders.options", "diffusion.plans", "reconstruct"
    assert loaded("import " + ", ".join(f"clip_feature_codec.{name}" for name in names), HEAVY) == "[]"


def test_train_has_every_option_of_the_configuration():
    text = CliRunner().invoke(main, ["train", "--help"], terminal_width=200).stdout
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    lines = {name: [x for x in text.splitlines() if f"--{name.replace('_', '-')} " in x] for name in names}
    assert [name for name in names if len(lines[name]) != 1] == []
    # Each with its explanation.
    assert [name for name in names if len(lines[name][0].split()) < 4] == []


def test_the_version_is_that_of_the_distribution():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert clip_feature_codec.__version__ == project["version"]


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(clip_feature_codec, "NoSuchThing")
