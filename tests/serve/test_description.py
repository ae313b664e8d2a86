"""The OpenAPI description is one, and what is answered is what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.testclient import TestClient

from clip_feature_codec.serve.app import ENDPOINTS


@pytest.fixture(scope="module")
def description(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_the_description_is_valid(description: dict[str, Any]):
    assert [str(error) for error in OpenAPIV31SpecValidator(description).iter_errors()] == []
    assert description["openapi"].startswith("3.1")


def test_every_endpoint_is_described_and_answers_as_it_says(
    client: TestClient, folder: Path, description: Any
):
    (picture,) = client.get("/api/pictures?limit=1").json()["pictures"]
    photo, stream = (folder / "photos/p1.png").read_bytes(), (folder / "store/p1.clp").read_bytes()
    bodies = {"searchUpload": photo, "encode": photo, "decode": stream, "previewUpload": stream}
    queries = {"search": {"text": "grass"}, "painted": {"steps": 1, "size": 32}, "decode": {"steps": 1}}
    asked = 0
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            name = operation["operationId"]
            address = re.sub(r"\{id\}", picture["id"], path)
            answer = client.request(method, address, params=queries.get(name), content=bodies.get(name))
            assert answer.status_code == 200, (name, answer.text)
            kind = answer.headers["content-type"].partition(";")[0]
            content = operation["responses"]["200"]["content"]
            assert kind in content, name
            if schema := content[kind].get("schema"):
                whole = schema | {"components": description["components"]}
                assert [str(error) for error in OAS31Validator(whole).iter_errors(answer.json())] == []
            asked += 1
    assert asked == len(ENDPOINTS)


def test_refusals_are_described(client: TestClient, description: dict[str, Any]):
    schema = description["components"]["schemas"]["Error"]
    for address in ("/api/pictures?limit=0", "/api/pictures/x", "/nothing"):
        assert list(OAS31Validator(schema).iter_errors(client.get(address).json())) == []


def test_defaults_and_limits_are_those_that_are_held(client: TestClient, description: dict[str, Any]):
    for operation in (operation for path in description["paths"].values() for operation in path.values()):
        for parameter in operation["parameters"]:
            schema = parameter["schema"]
            validator = OAS31Validator(schema)
            if "default" in schema:
                assert list(validator.iter_errors(schema["default"])) == []
            if "maximum" in schema and parameter["name"] == "limit":
                assert client.get("/api/pictures", params={"limit": schema["maximum"] + 1}).status_code == 400
