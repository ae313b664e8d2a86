"""What pip builds of a checkout: with the loops compiled, by whatever compiler there is."""

from __future__ import annotations

import os
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/golden/klt"

DECODE = """
import sys
from pathlib import Path
import clip_feature_codec
from clip_feature_codec.codec.feature_codec import FeatureCodec
golden = Path(sys.argv[1])
codec = FeatureCodec.load(golden / "codec.json")
stream = codec.parse((golden / "landscape.clp").read_bytes())
print(clip_feature_codec.__file__, codec.layouts([stream]).shape, codec.vectors([stream]).shape)
"""


def run(*command: object, **environment: str) -> str:
    """What a command prints, at the root of the checkout."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("compiler", ["the machine's", "ziglang"])
def test_a_wheel_works_in_a_fresh_environment(compiler: str, tmp_path: Path):
    """By way of a source distribution, so that it is seen to hold all that building takes."""
    environment = {"CC": "no-such-compiler"} if compiler == "ziglang" else {}
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "hatchling", "numpy", "backports.zstd")
    run(python, "-m", "hatchling", "build", "--target", "sdist", "--directory", tmp_path)
    [source] = tmp_path.glob("*.tar.gz")
    run(python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, source, **environment)
    [wheel] = tmp_path.glob("*.whl")
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("clip_feature_codec/codec/libloops.")]
    assert [name for name in names if name.endswith((".c", ".h"))] == []
    for page in ("package.json", "index.d.ts", "src/index.js", "view/index.html", "vendor/lean-qr.js"):
        assert f"clip_feature_codec/web/{page}" in names
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    printed = run(python, "-I", "-c", DECODE, GOLDEN)
    assert printed.startswith(str(tmp_path))
    assert printed.endswith("(1, 2411) (1, 64)\n")


@pytest.mark.slow
def test_a_checkout_works_where_it_is_installed_in_place(tmp_path: Path):
    """As `make` does it."""
    checkout = tmp_path / "checkout"
    run("git", "clone", "--quiet", ROOT, checkout)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "numpy", "backports.zstd")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", checkout)
    assert run(python, "-I", "-c", DECODE, GOLDEN).startswith(str(checkout))
