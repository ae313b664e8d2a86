"""Stores of both kinds, that grow and shrink while they are looked at; names that are none in UTF-8."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from serve_samples import encoded, grow, make_photos, make_service
from starlette.testclient import TestClient

from clip_feature_codec import ClipCodec
from clip_feature_codec.serve.app import make_app
from clip_feature_codec.store.opening import open_store
from samples import make_picture


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "packed"])
def test_a_store_is_followed_as_it_grows_and_shrinks(tmp_path: Path, codec: ClipCodec, packed: bool):
    photos = make_photos(tmp_path / "photos", 3)
    store = encoded(photos, tmp_path / "store", codec, packed=packed)
    with TestClient(make_app(make_service(store)), "http://localhost") as client:
        before = client.get("/api/store").json()
        assert len(client.get("/api/search?text=sky").json()["results"]) == before["pictures"] == 4
        make_picture(40, (64, 64)).save(photos / "new.png")
        encoded(photos, store, codec)
        after = client.get("/api/store").json()
        assert after["pictures"] == 5
        assert after["revision"] != before["revision"]
        assert after["bytes"] > before["bytes"]
        old = client.get("/api/pictures", params={"revision": before["revision"]}).json()
        assert old["total"] == 4
        found = client.post("/api/search", content=(photos / "new.png").read_bytes()).json()["results"]
        assert found[0]["name"] == "new"
        writable = open_store(store)
        writable.remove([writable.named("new")])  # type: ignore[list-item]
        writable.finish()
        assert client.get("/api/store").json()["pictures"] == 4
        gone = found[0]["id"]
        assert client.get(f"/api/pictures/{gone}").status_code == 404
        assert client.get(f"/api/pictures/{gone}/painted").status_code == 404


def test_a_store_that_changed_often_is_asked_for_again(tmp_path: Path, codec: ClipCodec):
    store = encoded(make_photos(tmp_path / "photos", 1), tmp_path / "store", codec)
    with TestClient(make_app(make_service(store)), "http://localhost") as client:
        first = client.get("/api/store").json()["revision"]
        for i in range(5):
            grow(store, codec, 1, first=i)
            assert client.get("/api/store").json()["pictures"] == 3 + i
        answer = client.get("/api/streams", params={"revision": first})
        assert (answer.status_code, "has changed" in answer.text) == (409, True)


def test_a_damaged_stream_is_an_empty_one_among_the_others(tmp_path: Path, codec: ClipCodec):
    store = encoded(make_photos(tmp_path / "photos", 2), tmp_path / "store", codec)
    (store / "p0.clp").write_bytes(b"damaged")
    with TestClient(make_app(make_service(store)), "http://localhost") as client:
        names = [one["name"] for one in client.get("/api/pictures").json()["pictures"]]
        data, lengths = client.get("/api/streams").content, {}
        for name in names:
            lengths[name] = int.from_bytes(data[:4], "little")
            data = data[4 + lengths[name] :]
        assert lengths["p0"] == 0
        assert lengths["p1"] > 60
        picture = next(
            one["id"] for one in client.get("/api/pictures").json()["pictures"] if one["name"] == "p0"
        )
        for part in ("", "/stream", "/preview", "/painted"):
            answer = client.get(f"/api/pictures/{picture}{part}")
            assert (answer.status_code, str(tmp_path) in answer.text) == (404, False)
        assert client.get("/api/search", params={"picture": picture}).status_code == 404
        assert "p0" not in {one["name"] for one in client.get("/api/search?text=x").json()["results"]}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_are_served(tmp_path: Path, codec: ClipCodec):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in (b"caf\xe9.png", b"a#?&%20b.png", "\N{SNOWMAN} <b>.png".encode()):
        make_picture(1).save(Path(os.fsdecode(os.fsencode(photos) + b"/" + name)))
    store = encoded(photos, tmp_path / "store", codec)
    with TestClient(make_app(make_service(store)), "http://localhost") as client:
        listed = client.get("/api/pictures").json()["pictures"]
        assert {one["name"] for one in listed} == {"caf\\xe9", "a#?&%20b", "\N{SNOWMAN} <b>"}
        for one in listed:
            assert client.get(f"/api/pictures/{one['id']}").json()["name"] == one["name"]
            assert client.get(f"/api/pictures/{one['id']}/original").status_code == 200
