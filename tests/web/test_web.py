"""The browser's decoder beside the package: golden files and damaged ones go through both."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.errors import BitstreamError
from clip_feature_codec.packs import pack_folder
from clip_feature_codec.preview import preview

ROOT = Path(__file__).parents[2]
WEB = ROOT / "src" / "clip_feature_codec" / "web"
GOLDEN = ROOT / "tests" / "golden"
SIZE = 40

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed here")


def in_node(codec: FeatureCodec, blobs: list[bytes], size: int = SIZE) -> list[dict[str, Any]]:
    named = {"tables_sha256": codec.tables_sha256, "profile": codec.profile}
    cases = [{"blob": base64.b64encode(blob).decode(), "codec": named, "size": size} for blob in blobs]
    runner = Path(__file__).with_name("run.mjs")
    done = subprocess.run(
        ["node", runner], input=json.dumps(cases), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def array(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype).astype(np.int64)


def assert_same(codec: FeatureCodec, blob: bytes, found: dict[str, Any], size: int = SIZE) -> str:
    """Hold what node said against the package; ``stream``, or the field that both refuse."""
    refusal, layout = "", None
    try:
        stream = codec.parse(blob)
        if stream.layout is not None:
            layout = codec.layouts([stream])[0]
    except BitstreamError as error:
        refusal = str(error)
    assert found.get("message", "") == refusal
    if refusal:
        return refusal.split(":")[0]
    payloads = [None if part is None else len(part) for part in (stream.semantic, stream.layout)]
    assert [found["semantic"], found["layout"]] == payloads
    assert (found["profile"], found["header"]) == (stream.profile, stream.header)
    assert found["aspect"] == stream.aspect
    if layout is not None:
        np.testing.assert_array_equal(array(found["coefficients"], "<i4"), layout)
        shown = np.asarray(preview(stream, codec, size))
        assert (found["height"], found["width"]) == shown.shape[:2]
        pixels = array(found["pixels"], "u1").reshape(*shown.shape[:2], 4)
        assert np.abs(pixels[..., :3] - shown).max() <= 1
        assert (pixels[..., 3] == 255).all()
    return "stream"


@pytest.fixture(scope="module", params=["int8", "klt"])
def codec(request: pytest.FixtureRequest) -> FeatureCodec:
    return FeatureCodec.load(GOLDEN / request.param / "codec.json")


@pytest.fixture(scope="module")
def seeds(codec: FeatureCodec) -> list[bytes]:
    return [file.read_bytes() for file in sorted((GOLDEN / codec.profile).glob("*.clp"))]


@needs_node
@pytest.mark.parametrize("size", [1, 33, 256])
def test_golden_files(codec: FeatureCodec, seeds: list[bytes], size: int) -> None:
    for blob, found in zip(seeds, in_node(codec, seeds, size), strict=True):
        assert assert_same(codec, blob, found, size) == "stream"


@needs_node
@pytest.mark.parametrize("field", [0x01, 0x81])
def test_the_longest_shape_is_drawn_alike(codec: FeatureCodec, seeds: list[bytes], field: int) -> None:
    with_shape = next(blob for blob in seeds if blob[1] & 1 and codec.parse(blob).layout is not None)
    blob = resealed(codec, with_shape[:6] + bytes([field]) + with_shape[7:])
    (found,) = in_node(codec, [blob], 256)
    assert_same(codec, blob, found, 256)
    assert sorted([found["width"], found["height"]]) == [1, 256]


@needs_node
def test_damaged_streams_are_refused_alike(codec: FeatureCodec, seeds: list[bytes]) -> None:
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
    outcomes = {
        assert_same(codec, blob, found) for blob, found in zip(damaged, in_node(codec, damaged), strict=True)
    }
    assert {"length", "magic", "version", "checksum", "codec id", "stream", "layout payload"} <= outcomes


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


def test_the_decoder_is_small() -> None:
    source = b"".join(path.read_bytes() for path in sorted((WEB / "src").glob("*.js")))
    assert len(gzip.compress(source)) <= 60_000


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
    assert names >= {"package.json", "index.d.ts", "README.md", "src/index.js", "src/tables.js"}
    assert not any("test" in name for name in names)
