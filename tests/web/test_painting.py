"""Painting and encoding in a page of Chromium beside Python's, from a folder of static files."""

from __future__ import annotations

import base64
import io
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import ROOT, needs_runtime, served

from browsing import BROWSER
from clip_feature_codec import ClipCodec
from samples import make_picture

# What src/clip_feature_codec/web/README.md says that a policy needs.
POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'"
pytestmark = [needs_runtime, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def codec() -> ClipCodec:
    return ClipCodec.load(device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What recipes/web makes, with the tests' page in it."""
    out = tmp_path_factory.mktemp("static")
    runpy.run_path(str(ROOT / "recipes" / "web" / "make_folder.py"))["make_folder"](out)
    (out / "tests").mkdir()
    for name in ("empty.html", "painting.mjs"):
        (out / "tests" / name).write_bytes((ROOT / "tests" / "web" / name).read_bytes())
    return out


@pytest.fixture(scope="module")
def call(browser: Any, folder: Path) -> Iterator[Any]:
    """Calls a function of painting.mjs in a page, which asks no other server for anything."""
    asked: list[str] = []
    with served(folder, Content_Security_Policy=POLICY) as address:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/tests/empty.html")
        script = '([name, given]) => import("/tests/painting.mjs").then((found) => found[name](given))'
        yield lambda name, **given: page.evaluate(script, [name, given])
        page.close()
        assert [url for url in asked if not url.startswith(("blob:", address))] == []


def text_of(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


def distance(found: dict[str, Any], codec: ClipCodec, blob: bytes, **options: Any) -> tuple[int, float]:
    """Greatest and mean difference from Python's picture, in levels."""
    expected = np.asarray(codec.decode(blob, **options)).astype(int)
    pixels = np.frombuffer(base64.b64decode(found["pixels"]), np.uint8).reshape(*expected.shape[:2], 4)
    differences = np.abs(pixels[..., :3] - expected)
    return int(differences.max()), float(differences.mean())


@pytest.mark.parametrize(
    ("layers", "options"),
    [
        ("both", {}),
        ("both", {"fidelity": 0.5, "seed": 5, "steps": 3, "size": 100}),
        ("semantic", {"guidance": 1, "steps": 1}),
        ("layout", {"fidelity": 1}),
    ],
)
def test_pictures_are_pythons(call: Any, codec: ClipCodec, layers: str, options: dict[str, Any]):
    blob = codec.encode(make_picture(1), max_bytes=140, layers=layers)
    found = call("painted", blob=text_of(blob), options=options)
    most, mean = distance(found, codec, blob, **options)
    assert most <= 2
    assert mean < 0.01
    assert {each["stage"] for each in found["told"]} == {"painting"}
    assert [each["done"] for each in found["told"]] == [*range(1, found["told"][-1]["total"] + 1)]


def test_painting_can_be_stopped(call: Any, codec: ClipCodec):
    blob = codec.encode(make_picture(2), max_bytes=140)
    first, second = call("stopped", blob=text_of(blob), options={"steps": 200})
    assert first["error"] == "AbortError"
    assert distance(second, codec, blob, fidelity=1)[0] <= 2
    assert second["told"][-1] == {"stage": "painting", "done": 1, "total": 1}
    assert len(second["told"]) < 20


@pytest.mark.parametrize(
    ("damage", "options", "error"),
    [
        (b"\0", {}, "ClpError"),
        (b"", {"steps": 0}, "RangeError"),
        (b"", {"fidelity": 2}, "RangeError"),
        (b"", {"seed": -1}, "RangeError"),
    ],
)
def test_what_cannot_be_painted_is_refused(
    call: Any, codec: ClipCodec, damage: bytes, options: dict[str, Any], error: str
):
    blob = codec.encode(make_picture(1), max_bytes=60) + damage
    assert call("painted", blob=text_of(blob), options=options)["error"] == error


@pytest.mark.parametrize("max_bytes", [20, 140, 400])
def test_pictures_are_encoded_as_well(call: Any, codec: ClipCodec, max_bytes: int):
    picture = make_picture(4, (320, 200))
    file = io.BytesIO()
    picture.save(file, "PNG")
    found = call("encoded", file=text_of(file.getvalue()), maxBytes=max_bytes)
    blob, vector = base64.b64decode(found["stream"]), codec.embed(picture)
    assert len(blob) <= max_bytes
    np.testing.assert_allclose(found["vector"], vector, rtol=0, atol=1e-4)
    there = codec.encode(picture, max_bytes=max_bytes)
    assert codec.vector(blob) @ vector > codec.vector(there) @ vector - 0.005
    assert codec.features.parse(blob).aspect == codec.features.parse(there).aspect


def test_what_can_be_seen_through_is_laid_over_white(call: Any, codec: ClipCodec):
    picture = make_picture(4, (96, 96)).convert("RGBA")
    picture.putalpha(make_picture(5, (96, 96)).convert("L"))
    pixels = {"width": 96, "height": 96, "data": text_of(picture.tobytes())}
    found = call("encoded", pixels=pixels, maxBytes=140)
    np.testing.assert_allclose(found["vector"], codec.embed(picture), rtol=0, atol=1e-3)


@pytest.mark.parametrize("max_bytes", [0, 6, 7.5])
def test_budgets_that_cannot_be_kept_are_refused(call: Any, max_bytes: float):
    pixels = {"width": 2, "height": 2, "data": text_of(bytes(16))}
    assert call("encoded", pixels=pixels, maxBytes=max_bytes)["error"] == "RangeError"


def test_weights_of_another_network_are_refused(browser: Any, folder: Path, codec: ClipCodec):
    blob = text_of(codec.encode(make_picture(1), max_bytes=60))
    with served(folder) as address:
        page = browser.new_page()
        page.route("**/model.safetensors", lambda route: route.fulfill(body=b"other"))
        page.goto(f"{address}/tests/empty.html")
        script = 'given => import("/tests/painting.mjs").then((found) => found.painted(given))'
        found = page.evaluate(script, {"blob": blob, "options": {}})
        page.close()
    assert found["message"].startswith("model.safetensors: found a file that graphs.json")


@pytest.mark.slow
def test_pictures_are_the_same_with_threads(browser: Any, folder: Path, codec: ClipCodec):
    """Which WebAssembly has on pages that nothing else shares memory with."""
    blob = codec.encode(make_picture(1), max_bytes=140)
    isolated = {"Cross_Origin_Opener_Policy": "same-origin", "Cross_Origin_Embedder_Policy": "require-corp"}
    with served(folder, Content_Security_Policy=POLICY, **isolated) as address:
        page = browser.new_page()
        page.goto(f"{address}/tests/empty.html")
        assert page.evaluate("crossOriginIsolated")
        script = 'given => import("/tests/painting.mjs").then((found) => found.painted(given))'
        found = page.evaluate(script, {"blob": text_of(blob), "options": {}})
        page.close()
    assert distance(found, codec, blob)[0] <= 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_pictures_on_webgpu_are_pythons(browser: Any, folder: Path, codec: ClipCodec):
    """On Chromium's own graphics processor in software, where there is no other."""
    blob = codec.encode(make_picture(1), max_bytes=140)
    arguments = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    other = browser.browser_type.launch(executable_path=BROWSER, args=arguments)
    with served(folder) as address:
        page = other.new_page()
        page.goto(f"{address}/tests/empty.html")
        if not page.evaluate("navigator.gpu?.requestAdapter().then((found) => found !== null)"):
            pytest.skip("this Chromium has no WebGPU")
        script = 'given => import("/tests/painting.mjs").then((found) => found.painted(given))'
        given = {"blob": text_of(blob), "options": {"fidelity": 1}, "device": "webgpu"}
        found = page.evaluate(script, given)
        other.close()
    assert found["device"] == "webgpu"
    assert distance(found, codec, blob, fidelity=1)[0] <= 2
