from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_samples import encoded, make_photos, make_service
from starlette.testclient import TestClient

from clip_feature_codec import ClipCodec
from clip_feature_codec.serve.app import make_app


@pytest.fixture(scope="session")
def codec() -> ClipCodec:
    return ClipCodec.load()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, codec: ClipCodec) -> Path:
    """``photos`` and a ``store`` of them; not to be written to."""
    folder = tmp_path_factory.mktemp("served")
    encoded(make_photos(folder / "photos"), folder / "store", codec)
    return folder


@pytest.fixture(scope="session")
def store(folder: Path) -> Path:
    return folder / "store"


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[TestClient]:
    with TestClient(make_app(make_service(store)), "http://localhost") as client:
        yield client
