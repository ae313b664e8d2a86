"""Who is let in: by Host, by where a page comes from, and by token."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_samples import make_service
from starlette.testclient import TestClient

from clip_feature_codec.serve.app import make_app

TOKEN = "a-token"


@pytest.fixture(scope="module")
def locked(store: Path) -> Iterator[TestClient]:
    with TestClient(make_app(make_service(store), "0.0.0.0", TOKEN), "http://192.168.7.7:8140") as client:
        yield client


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8140", "[::1]:8140", "192.168.1.2", socket.gethostname()]
)
def test_a_host_of_this_machine_is_answered(client: TestClient, host: str):
    assert client.get("/api/store", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::1", "a@b:c"]
)
def test_another_host_is_not(client: TestClient, host: str):
    for path in ("/", "/api/store"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert "Host" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "null"},
    ],
)
def test_another_sites_page_reads_and_does_nothing(client: TestClient, headers: dict[str, str]):
    assert client.get("/api/store", headers=headers).status_code == 403
    assert client.post("/api/encode", headers=headers, content=b"x").status_code == 403


def test_another_sites_page_may_open_ours(client: TestClient):
    opening = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=opening).status_code == 200
    assert client.get("/page/main.js", headers=opening | {"Sec-Fetch-Mode": "no-cors"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        {"Origin": "http://localhost"},
    ],
)
def test_our_own_page_and_programs_are_answered(client: TestClient, headers: dict[str, str]):
    assert client.get("/api/store", headers=headers).status_code == 200


def test_with_a_token_nothing_of_the_store_is_told_without_it(locked: TestClient):
    for given in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe4"):
        answer = locked.get("/api/store", headers={"Authorization": given.encode("latin-1")} if given else {})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.post("/api/encode", content=bytes(10_000_000)).status_code == 401
    assert locked.get(f"/api/store?token={TOKEN}").status_code == 401
    assert locked.get("/api/store", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert locked.get("/").status_code == 200  # the page, which knows nothing
    assert "token" in locked.get("/openapi.json").json()["components"]["securitySchemes"]


def test_with_a_token_a_proxy_may_be_called_as_it_likes(locked: TestClient):
    knows = {"Authorization": f"Bearer {TOKEN}", "Host": "photos.example.org"}
    ours = {"Origin": "https://photos.example.org"}
    assert locked.get("/", headers={"Host": "photos.example.org"}).status_code == 200
    assert locked.get("/api/store", headers=knows).status_code == 200
    assert locked.post("/api/preview", headers=knows | ours, content=b"no stream").status_code == 422
    assert locked.get("/api/store", headers={"Host": "photos.example.org"}).status_code == 401
    for foreign in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert locked.get("/api/store", headers=knows | foreign).status_code == 403
