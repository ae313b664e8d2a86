"""The browser's decoder beside the package: golden files and damaged ones, in node and Chromium."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from engines import ROOT, WEB, Call, in_node, needs_node

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import BitstreamError, MissingLayerError
from clip_feature_codec.packs import pack_folder
from clip_feature_codec.preview import preview

GOLDEN = ROOT / "tests" / "golden"
COMPILER = ROOT / "recipes" / "web" / "node_modules" / ".bin" / "tsc"
SIZE = 40
T = TypeVar("T")


def outcomes(call: Call, codec: FeatureCodec, blobs: list[bytes], size: int = SIZE) -> list[dict[str, Any]]:
    """What the modules make of streams."""
    tables = json.loads((GOLDEN / codec.profile / "codec.json").read_bytes())
    texts = [base64.b64encode(blob).decode() for blob in blobs]
    found: list[dict[str, Any]] = call(
        "cases.mjs", "outcomes", {"codec": tables, "blobs": texts, "size": size}
    )
    return found


def array(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def attempt(work: Callable[[], T]) -> tuple[T | None, str]:
    """What a call gives, and how it refuses."""
    try:
        return work(), ""
    except BitstreamError as error:
        return None, str(error)


def assert_same(codec: FeatureCodec, blob: bytes, found: dict[str, Any], size: int = SIZE) -> set[str]:
    """Hold what the modules said against the package; layers that are whole, fields that both refuse."""
    stream, refusal = attempt(lambda: codec.parse(blob))
    assert found.get("message", "") == refusal
    if stream is None:
        return {refusal.split(":")[0]}
    payloads = (stream.semantic, stream.layout)
    assert found["lengths"] == [None if part is None else len(part) for part in payloads]
    assert (found["profile"], found["header"]) == (stream.profile, stream.header)
    assert found["aspect"] == stream.aspect
    fields = set()
    if stream.layout is not None:
        fields.add(assert_same_layout(codec, stream, found["layout"], size))
    if stream.semantic is None:
        assert found["vector"]["error"] == MissingLayerError.__name__
    else:
        fields.add(assert_same_vector(codec, stream, found["vector"]))
    return fields


def assert_same_layout(codec: FeatureCodec, stream: Stream, found: dict[str, Any], size: int) -> str:
    layouts, refusal = attempt(lambda: codec.layouts([stream]))
    assert found.get("message", "") == refusal
    if layouts is None:
        return refusal.split(":")[0]
    np.testing.assert_array_equal(array(found["coefficients"], "<i4"), layouts[0])
    shown = np.asarray(preview(stream, codec, size)).astype(int)
    assert (found["height"], found["width"]) == shown.shape[:2]
    pixels = array(found["pixels"], "u1").reshape(*shown.shape[:2], 4)
    assert np.abs(pixels[..., :3] - shown).max() <= 1
    assert (pixels[..., 3] == 255).all()
    return "layout"


def assert_same_vector(codec: FeatureCodec, stream: Stream, found: Any) -> str:
    vectors, refusal = attempt(lambda: codec.vectors([stream]))
    if vectors is None:
        # Why a frame does not decode is said in zstd's words there, and in ours here.
        refused = found["message"].split(" (")[0] if "zstd frame" in refusal else found["message"]
        assert refused == (refusal.split(" (")[0] if "zstd frame" in refusal else refusal)
        return refusal.split(":")[0]
    # Sums of squares of the profile int8 are in another order.
    tolerance = 0 if codec.profile == "klt" else 1e-7
    np.testing.assert_allclose(array(found, "<f4"), vectors[0], rtol=0, atol=tolerance)
    return "vector"


@pytest.fixture(scope="module", params=["int8", "klt"])
def codec(request: pytest.FixtureRequest) -> FeatureCodec:
    return FeatureCodec.load(GOLDEN / request.param / "codec.json")


@pytest.fixture(scope="module")
def seeds(codec: FeatureCodec) -> list[bytes]:
    return [file.read_bytes() for file in sorted((GOLDEN / codec.profile).glob("*.clp"))]


@pytest.mark.parametrize("size", [1, 33, 256])
def test_golden_files(call: Call, codec: FeatureCodec, seeds: list[bytes], size: int) -> None:
    for blob, found in zip(seeds, outcomes(call, codec, seeds, size), strict=True):
        assert assert_same(codec, blob, found, size) <= {"layout", "vector"}


@pytest.mark.parametrize("field", [0x01, 0x81])
def test_the_longest_shape_is_drawn_alike(
    call: Call, codec: FeatureCodec, seeds: list[bytes], field: int
) -> None:
    with_shape = next(blob for blob in seeds if blob[1] & 1 and codec.parse(blob).layout is not None)
    blob = resealed(codec, with_shape[:6] + bytes([field]) + with_shape[7:])
    (found,) = outcomes(call, codec, [blob], 256)
    assert_same(codec, blob, found, 256)
    assert sorted([found["layout"]["width"], found["layout"]["height"]]) == [1, 256]


def test_damaged_streams_are_refused_alike(call: Call, codec: FeatureCodec, seeds: list[bytes]) -> None:
    rng = np.random.default_rng(0)
    damaged = [blob[:cut] for blob in seeds for cut in range(0, min(len(blob), 12))]
    for blob in seeds:
        for _ in range(40):
            changed = bytearray(blob)
            for at in rng.integers(0, len(blob), rng.integers(1, 4)):
                changed[at] ^= int(rng.integers(1, 256))
            cut = blob[: rng.integers(6, len(blob))]
            damaged += [bytes(changed), resealed(codec, bytes(changed)), resealed(codec, cut)]
    damaged += [rng.bytes(int(size)) for size in rng.integers(0, 300, 50)] + [bytes(65537)]
    fields: set[str] = set()
    for blob, found in zip(damaged, outcomes(call, codec, damaged), strict=True):
        fields |= assert_same(codec, blob, found)
    assert {"length", "magic", "version", "checksum", "codec id", "layout payload"} <= fields
    assert {"layout", "vector"} <= fields
    assert fields & ({"klt payload"} if codec.profile == "klt" else {"zstd frame"})


def resealed(codec: FeatureCodec, blob: bytes) -> bytes:
    """The stream with its checksum made right, to try what lies behind it."""
    start = int.from_bytes(bytes.fromhex(codec.tables_sha256)[2:4], "little")
    head = bytes([0xC7, blob[1]]) + codec.codec_id
    checksum = binascii.crc_hqx(blob[6:], binascii.crc_hqx(head, start))
    return head + checksum.to_bytes(2, "little") + blob[6:]


def test_tables_are_those_of_the_package() -> None:
    made = runpy.run_path(str(ROOT / "recipes" / "web" / "make_tables.py"))["module"]()
    assert (WEB / "src" / "tables.js").read_text("ascii") == made


def test_the_built_in_codec_is_the_packs() -> None:
    pack = pack_folder("mini")
    assert pack is not None
    sha256 = FeatureCodec.load(pack / "codec.json").tables_sha256
    assert f'sha256: "{sha256}"' in (WEB / "src" / "tables.js").read_text("ascii")


def gzipped(paths: Iterable[Path]) -> int:
    return len(gzip.compress(b"".join(path.read_bytes() for path in sorted(paths))))


def test_the_package_is_small() -> None:
    """All of it; what a page loads that only decodes is smaller still."""
    assert gzipped(path for path in (WEB / "src").rglob("*.*")) <= 60_000


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed here")
def test_npm_packs_what_a_page_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        ["npm", "pack", "--json", "--pack-destination", tmp_path],
        cwd=WEB,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (packed,) = json.loads(done.stdout)
    names = {file["path"] for file in packed["files"]}
    assert names >= {path.relative_to(WEB).as_posix() for path in (WEB / "src").rglob("*.*")}
    assert names >= {"package.json", "index.d.ts", "README.md"}


@pytest.mark.skipif(
    not COMPILER.is_file(), reason="typescript is not there: npm install --prefix recipes/web"
)
def test_types_are_as_they_are_used(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "clip-feature-codec"
    package.mkdir(parents=True)
    for name in ("package.json", "index.d.ts"):
        shutil.copy(WEB / name, package)
    shutil.copy(Path(__file__).with_name("types.ts"), tmp_path)
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"]
    command = [COMPILER, *options, "types.ts"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


@needs_node
def test_types_name_what_there_is() -> None:
    exported = in_node("cases.mjs", "exported", None)
    declared = re.findall(
        r"^export (?:class|const|function) (\w+)", (WEB / "index.d.ts").read_text("utf-8"), re.M
    )
    assert sorted(exported) == sorted(declared)
