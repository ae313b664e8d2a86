"""One folder of each kind of pipeline, and a store of photographs encoded with its image tower."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_pipelines as tiny
from made_pipelines import Made

from clip_feature_codec.decoders.diffusers.cascade import Cascade
from samples import make_picture

KINDS = ("unclip", "kandinsky", "ip_adapter", "lcm", "ip_adapter_xl", "cascade")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """A function that makes what belongs to a kind, once."""
    root = tmp_path_factory.mktemp("pipelines")
    done: dict[str, Made] = {}

    def make(kind: str) -> Made:
        if kind not in done:
            name = str(getattr(tiny, f"save_{kind}")(root / kind))
            done[kind] = Made(kind, name, _photos(root), _store(root / f"{kind}-store", _photos(root), name))
        return done[kind]

    return make


@pytest.fixture(scope="session", autouse=True)
def small_cascade() -> None:
    """Stable Cascade paints 256 pixels here, since 1024 take their time whatever the weights are."""
    Cascade.side = tiny.CASCADE_SIDE


@pytest.fixture(params=KINDS)
def pipeline(request: pytest.FixtureRequest, made: Callable[[str], Made]) -> Made:
    """Each kind in turn."""
    return made(request.param)


def _photos(root: Path) -> Path:
    folder = root / "photos"
    if not folder.is_dir():
        folder.mkdir()
        for i in range(4):
            make_picture(i, (60 + i, 40) if i % 2 else (40, 51 + i)).save(folder / f"p{i}.png")
    return folder


def _store(store: Path, photos: Path, model: str) -> Path:
    from clip_feature_codec.embed import load_embedder
    from clip_feature_codec.encode import encode_source

    encode_source(photos, store, load_embedder(model, device="cpu"), workers=0)
    return store
