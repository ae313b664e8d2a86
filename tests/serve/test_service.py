"""What the server answers, held against the codec and the store themselves."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serve_samples import encoded, grow, make_photos, make_service
from starlette.testclient import TestClient

from clip_feature_codec import ClipCodec
from clip_feature_codec.errors import ModelError
from clip_feature_codec.images import load_image
from clip_feature_codec.serve.app import make_app
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.search.duplicates import find_duplicates
from clip_feature_codec.store.search.nearest import SearchIndex


def pictures(client: TestClient) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in client.get("/api/pictures").json()["pictures"]}


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_the_store_is_told_of(client: TestClient, store: Path):
    told, entries = client.get("/api/store").json(), open_store(store).entries
    assert told["pictures"] == len(entries) == 7
    assert told["bytes"] == sum(entry.bytes for entry in entries)
    assert told["built_in"]
    assert told["paints"]
    assert told["name"] == "store"


def test_pages_and_streams_are_those_of_the_store(client: TestClient, store: Path):
    entries = list(open_store(store).entries)
    page = client.get("/api/pictures?offset=2&limit=3").json()
    assert page["total"] == len(entries)
    assert [one["name"] for one in page["pictures"]] == [entry.name for entry in entries[2:5]]
    data, found = client.get(f"/api/streams?offset=2&limit=3&revision={page['revision']}").content, []
    while data:
        length = int.from_bytes(data[:4], "little")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    assert found == [(store / f"{entry.name}.clp").read_bytes() for entry in entries[2:5]]
    assert client.get("/api/pictures?offset=7").json()["pictures"] == []


def test_a_picture_is_told_of_layer_by_layer(client: TestClient, store: Path, codec: ClipCodec):
    told = client.get(f"/api/pictures/{pictures(client)['deep/p2']['id']}").json()
    blob = (store / "deep/p2.clp").read_bytes()
    stream = codec.features.parse(blob)
    assert from_base64url(told["stream"]) == blob
    assert (told["semantic_bytes"], told["layout_bytes"]) == (
        len(stream.semantic or b""),
        len(stream.layout or b""),
    )
    assert (told["width"], told["height"]) == (80, 110)
    assert told["original"]
    assert client.get(f"/api/pictures/{told['id']}/stream").content == blob


def test_previews_and_paintings_are_the_codecs(client: TestClient, store: Path, codec: ClipCodec):
    picture, blob = pictures(client)["p1"]["id"], (store / "p1.clp").read_bytes()
    preview = np.asarray(codec.preview(blob, size=64)).astype(int)
    assert (pixels(client.get(f"/api/pictures/{picture}/preview?size=64").content) == preview).all()
    assert (pixels(client.post("/api/preview?size=64", content=blob).content) == preview).all()
    painted = np.asarray(codec.decode(blob, size=64, steps=1, seed=3, fidelity=0.5)).astype(int)
    query = "size=64&steps=1&seed=3&fidelity=0.5"
    assert np.abs(pixels(client.get(f"/api/pictures/{picture}/painted?{query}").content) - painted).max() <= 1
    assert np.abs(pixels(client.post(f"/api/decode?{query}", content=blob).content) - painted).max() <= 1
    other = pixels(client.get(f"/api/pictures/{picture}/painted?size=64&steps=1&seed=4").content)
    assert np.abs(other - painted).max() > 1
    assert client.get("/api/painter").json() == {"steps": 2, "fidelity": True, "size": 64}


@pytest.mark.parametrize(
    "rate", [{"max_bytes": 100}, {"quality": 20, "layers": "layout"}, {"target_cosine": 0.95}]
)
def test_encoding_is_the_codecs(client: TestClient, folder: Path, codec: ClipCodec, rate: dict[str, Any]):
    path = folder / "photos/p3.png"
    answer = client.post("/api/encode", params=rate, content=path.read_bytes())
    assert answer.status_code == 200, answer.text
    assert answer.content == codec.encode(path, **rate)


def test_words_find_what_the_index_finds(client: TestClient, store: Path, codec: ClipCodec):
    hits = SearchIndex.open(open_store(store)).nearest(codec.embedder.embed_text("a green leaf")[0], 4)
    results = client.get("/api/search", params={"text": " a green leaf ", "count": 4}).json()["results"]
    assert [one["name"] for one in results] == [hit.entry.name for hit in hits]
    assert [one["cosine"] for one in results] == pytest.approx([hit.cosine for hit in hits], abs=1e-5)
    assert from_base64url(results[0]["stream"]) == (store / f"{results[0]['name']}.clp").read_bytes()


def test_a_picture_is_found_by_itself_its_photo_and_its_stream(client: TestClient, folder: Path):
    by_itself = client.get("/api/search", params={"picture": pictures(client)["p3"]["id"]}).json()["results"]
    photo = (folder / "photos/p3.png").read_bytes()
    by_photo = client.post("/api/search", content=photo).json()["results"]
    by_stream = client.post("/api/search", content=(folder / "store/p3.clp").read_bytes()).json()["results"]
    assert by_itself[0]["name"] == by_photo[0]["name"] == by_stream[0]["name"] == "p3"
    assert by_itself == by_stream
    assert by_itself[0]["cosine"] == pytest.approx(1)


@pytest.mark.parametrize("threshold", [0.6, 0.97])
def test_what_is_there_twice_is_listed(client: TestClient, store: Path, threshold: float):
    groups = find_duplicates(SearchIndex.open(open_store(store)), threshold)
    found = client.get(f"/api/duplicates?threshold={threshold}").json()
    assert found["total"] == len(groups) > 0
    names = [[one["name"] for one in group] for group in found["groups"]]
    assert names == [[twin.entry.name for twin in group] for group in groups]
    assert any({"p0", "again"} <= set(group) for group in names)


def test_an_original_is_given_out_as_it_is_or_small(client: TestClient, folder: Path):
    picture = pictures(client)["p1"]["id"]
    whole = client.get(f"/api/pictures/{picture}/original")
    assert whole.content == (folder / "photos/p1.png").read_bytes()
    assert whole.headers["content-type"] == "image/png"
    small = client.get(f"/api/pictures/{picture}/original?size=40")
    assert small.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(small.content)).size == (40, 30)


def test_an_original_in_an_archive_is_given_out(tmp_path: Path, codec: ClipCodec):
    photos = make_photos(tmp_path / "photos", 2)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(photos / "p1.png", "000.png")
    store = encoded(tmp_path / "shard.tar", tmp_path / "store", codec)
    with TestClient(make_app(make_service(store)), "http://localhost") as client:
        (picture,) = pictures(client).values()
        whole = client.get(f"/api/pictures/{picture['id']}/original")
        assert whole.content == (photos / "p1.png").read_bytes()
        assert whole.headers["content-type"] == "image/png"
        small = client.get(f"/api/pictures/{picture['id']}/original?size=40")
        assert Image.open(io.BytesIO(small.content)).size == (40, 30)
        (tmp_path / "shard.tar").unlink()
        assert client.get(f"/api/pictures/{picture['id']}/original").status_code == 404


def test_an_original_that_is_another_one_is_not_given_out(tmp_path: Path, codec: ClipCodec):
    photos = make_photos(tmp_path / "photos", 3)
    store = encoded(photos, tmp_path / "store", codec)
    (photos / "p0.png").unlink()
    size = (photos / "p1.png").stat().st_size
    (photos / "p1.png").write_bytes(b"root:x:0:0:" + bytes(size - 11))  # no picture, whoever names it
    load_image(photos / "deep/p2.png").save(photos / "deep/p2.png", compress_level=0)
    with TestClient(make_app(make_service(store)), "http://localhost") as client:
        for name in ("p0", "p1", "deep/p2"):
            picture = pictures(client)[name]["id"]
            assert not client.get(f"/api/pictures/{picture}").json()["original"]
            for query in ("", "?size=64"):
                answer = client.get(f"/api/pictures/{picture}/original{query}")
                assert answer.status_code == 404
                assert str(tmp_path) not in answer.text
    with TestClient(make_app(make_service(store, originals=False)), "http://localhost") as client:
        again = pictures(client)["again"]["id"]
        assert not client.get("/api/store").json()["originals"]
        assert client.get(f"/api/pictures/{again}/original").status_code == 404


def test_a_model_that_is_not_here_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object) -> None:
        raise ModelError(f"{tmp_path}/weights: found none")

    monkeypatch.setattr("clip_feature_codec.embed.embedder_for", fail)
    other = ClipCodec.load(Path(__file__).parents[1] / "golden" / "int8")
    other.features.save(tmp_path / "store/codec.json")
    grow(tmp_path / "store", other, 3)
    with TestClient(make_app(make_service(tmp_path / "store")), "http://localhost") as client:
        assert not client.get("/api/store").json()["paints"]
        answers = [client.get("/api/search?text=x"), client.get("/api/painter")]
        picture = client.get("/api/pictures").json()["pictures"][0]["id"]
        answers.append(client.get(f"/api/pictures/{picture}/painted"))
        assert client.get(f"/api/search?picture={picture}").json()["results"][0]["id"] == picture
    for answer in answers:
        assert (answer.status_code, "is not here" in answer.text) == (501, True)
        assert str(tmp_path) not in answer.text
    assert str(tmp_path) in caplog.text


def test_the_package_for_browsers_may_lie_elsewhere(store: Path, tmp_path: Path):
    (tmp_path / "ort").mkdir()
    (tmp_path / "ort/runtime.mjs").write_text("export {}")
    with TestClient(make_app(make_service(store), web=tmp_path), "http://localhost") as client:
        answer = client.get("/web/ort/runtime.mjs")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "'wasm-unsafe-eval'" in answer.headers["content-security-policy"]


def test_pages_and_the_package_for_browsers_are_served(client: TestClient):
    for path, kind in {
        "/": "text/html",
        "/page/main.js": "text/javascript",
        "/web/src/index.js": "text/javascript",
        "/web/look.css": "text/css",
        "/view": "text/html",
    }.items():
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "set-cookie" not in answer.headers
