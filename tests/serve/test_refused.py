"""What is refused, with a status and a line: parameters, bodies, and what leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serve_samples import MAX_PIXELS
from starlette.testclient import TestClient

from clip_feature_codec.serve.app import ENDPOINTS
from clip_feature_codec.serve.parameters import Parameter
from clip_feature_codec.serve.refusals import Refusal
from clip_feature_codec.serve.shelf import _name_of, to_base64url
from samples import make_picture

PARAMETERS = sorted({one for endpoint in ENDPOINTS for one in endpoint.parameters}, key=lambda one: one.name)


@pytest.mark.parametrize(
    ("address", "status", "expected"),
    [
        ("/api/pictures?limit=0", 400, "limit: found '0', expected a whole number from 1 to 1000"),
        ("/api/pictures?limit=1&limit=2", 400, "limit: found 2 times"),
        ("/api/pictures?limits=3", 400, "found the parameter 'limits', expected limit, offset, revision"),
        ("/api/pictures?offset=1e3", 400, "offset: found '1e3'"),
        ("/api/pictures?revision=0123456789abcdef", 409, "the store has changed"),
        ("/api/search", 400, "by text or by picture"),
        ("/api/search?text=a&picture=b", 400, "by text or by picture"),
        ("/api/search?text=%20", 400, "nothing but spaces"),
        ("/api/search?picture=cDk5", 404, "no such picture"),
        ("/api/duplicates?threshold=nan", 400, "threshold: found 'nan', expected a number from 0.5 to 1"),
        ("/api/pictures/cDk5", 404, "no such picture"),
        ("/api/pictures/UDE", 404, "no such picture"),  # P1, where there is p1
        ("/api/pictures/%ff", 404, "no such picture"),
        ("/api/pictures/cDE/painted?steps=100", 400, "steps: found '100'"),
        ("/api/pictures/cDE/painted?match_layout=1", 400, "match_layout: found '1', expected true or false"),
        ("/api/pictures/Li4vcGhvdG9zL3Ax/original", 404, "no such picture"),  # ../photos/p1
        ("/api/nothing", 404, "Not Found"),
        ("/page/../app.py", 404, "Not Found"),
        ("/web/..%2f..%2fserve%2fapp.py", 404, "Not Found"),
    ],
)
def test_an_address_is_refused(client: TestClient, address: str, status: int, expected: str):
    answer = client.get(address)
    assert (answer.status_code, expected in answer.json()["error"]) == (status, True), answer.text


def test_other_methods_are_refused(client: TestClient):
    assert client.delete("/api/store").status_code == 405
    assert client.get("/api/encode").status_code == 405


def test_bodies_are_refused(client: TestClient, folder: Path):
    stream = (folder / "store/p1.clp").read_bytes()
    cases = {
        ("encode", b""): (400, "the body: found none"),
        ("encode", b"no picture"): (422, "not a picture in a format we read"),
        ("search", b"no picture"): (422, "not a picture in a format we read"),
        ("encode", bytes(200_001)): (413, "more than the 200,000 bytes"),
        ("decode", stream[:-1]): (422, "checksum"),
        ("preview", stream[:1] + bytes(30)): (422, "version"),
        ("search", stream[:-1]): (422, "checksum"),
        ("encode?max_bytes=3", (folder / "photos/p1.png").read_bytes()): (400, "max bytes"),
        ("encode?max_bytes=30&quality=3", b"x"): (400, "expected one of them"),
    }
    for (path, body), (status, expected) in cases.items():
        answer = client.post(f"/api/{path}", content=body)
        assert (answer.status_code, expected in answer.text) == (status, True), (path, answer.text)


def test_a_body_in_parts_is_counted(client: TestClient):
    answer = client.post("/api/encode", content=(bytes(1000) for _ in range(201)))
    assert answer.status_code == 413


def test_a_picture_of_too_many_pixels_is_refused(client: TestClient, tmp_path: Path):
    side = int(MAX_PIXELS**0.5) + 1
    make_picture(0, (side, side)).save(tmp_path / "large.webp", quality=1)
    answer = client.post("/api/encode", content=(tmp_path / "large.webp").read_bytes())
    assert (answer.status_code, f"{side}×{side} pixels" in answer.text) == (422, True)


@given(st.sampled_from(PARAMETERS), st.text(max_size=30) | st.integers().map(str) | st.floats().map(str))
def test_a_parameter_is_in_its_range_or_refused(parameter: Parameter, text: str):
    try:
        value = parameter.read(text)
    except Refusal as refusal:
        value = refusal
    if isinstance(value, Refusal):
        assert value.status_code == 400
    elif parameter.kind in ("integer", "number"):
        assert parameter.low <= value <= parameter.high
    elif parameter.choices:
        assert value in parameter.choices


@given(st.text(st.characters(), min_size=1))
def test_an_id_leads_to_its_name(name: str):
    assert _name_of(to_base64url(name.encode("utf-8", "surrogatepass"))) == name


@given(st.text(max_size=20))
def test_whatever_is_no_id_has_no_name(text: str):
    name = _name_of(text)
    assert name is None or isinstance(name, str)
