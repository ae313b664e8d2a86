"""Codecs under a limit: what fits, what is best, and that it can be made again."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from clip_feature_codec.errors import ConfigError, MissingExtraError
from clip_feature_codec.evaluate.baselines.baseline import Baseline
from clip_feature_codec.evaluate.baselines.known import built_in, load_baselines
from clip_feature_codec.evaluate.baselines.thumbnails import Jpeg, Jxl, WebP, sides
from clip_feature_codec.evaluate.metrics.pixels import psnr
from samples import make_picture

SHORT, LONG = 64, 600


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(data.astronaut()).resize((48, 36), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", built_in())
def test_what_is_found_fits_and_can_be_made_again(name: str, photo: Image.Image):
    (codec,) = load_baselines([name])
    found = codec.search(photo, [LONG, SHORT, 1])
    assert len(found) == 3
    assert found[2] is None, "nothing fits into one byte"
    values = []
    for settings, limit in zip(found, (LONG, SHORT), strict=False):
        if settings is None:
            continue
        blob = codec.encode(photo, json.loads(json.dumps(settings)))
        assert blob == codec.encode(photo, settings)
        assert 0 < codec.payload(blob) <= len(blob)
        assert (codec.payload(blob) if name.endswith(":payload") else len(blob)) <= limit
        decoded = codec.decode(blob, photo.size)
        assert (decoded.mode, decoded.size) == ("RGB", photo.size)
        assert codec.describe(settings)
        values.append(psnr(decoded, photo))
    assert values, "something fits into the greater limit"
    mean = Image.new("RGB", photo.size, tuple(np.asarray(photo).mean(axis=(0, 1)).round().astype(int)))
    assert all(value > psnr(mean, photo) for value in values)
    assert values == sorted(values, reverse=True)
    assert codec.version
    json.dumps(codec.parameters)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("jpeg", {"format": "JPEG", "optimize": True}),
        ("webp", {"format": "WEBP"}),
        ("avif", {"format": "AVIF"}),
    ],
)
def test_it_is_better_than_a_plain_search_with_pillows_defaults(
    name: str, option: dict, photo: Image.Image, tmp_path: Path
):
    (codec,) = load_baselines([name])
    best = 0.0
    for side in (8, 16, 24, 32, 48):
        small = photo.resize((side, side * 3 // 4), Image.Resampling.LANCZOS)
        for quality in range(5, 96, 15):
            small.save(tmp_path / "x", quality=quality, **option)
            if (tmp_path / "x").stat().st_size <= LONG:
                with Image.open(tmp_path / "x") as opened:
                    shown = opened.convert("RGB").resize(photo.size, Image.Resampling.LANCZOS)
                best = max(best, psnr(shown, photo) or 99.0)
    (settings,) = codec.search(photo, [LONG])
    assert psnr(codec.decode(codec.encode(photo, settings or {}), photo.size), photo) > best > 0


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_it_is_as_good_as_trying_everything(name: str, photo: Image.Image):
    (codec,) = load_baselines([name])
    limits, best = (340, LONG), {340: 0.0, LONG: 0.0}
    variants = [{"subsampling": "4:2:0"}, {"subsampling": "4:4:4"}] if name == "jpeg" else [{}]
    for side in range(4, 49, 3):
        for quality in range(3, 96, 3):
            for variant in variants:
                blob = codec.encode(photo, {"side": side, "quality": quality, **variant})
                for limit in limits:
                    if len(blob) <= limit:
                        value = psnr(codec.decode(blob, photo.size), photo)
                        best[limit] = max(best[limit], value or 99.0)
    for settings, limit in zip(codec.search(photo, limits), limits, strict=True):
        found = psnr(codec.decode(codec.encode(photo, settings or {}), photo.size), photo)
        assert found > best[limit] - 0.05


def test_a_payload_limit_lets_more_in_than_a_file_limit(photo: Image.Image):
    for whole, payload in ((Jpeg(), Jpeg("payload")), (WebP(), WebP("payload"))):
        assert (whole.counts, payload.counts) == ("file", "payload")
        assert payload.name == f"{whole.name}:payload"
        (settings,) = payload.search(photo, [SHORT])
        blob = payload.encode(photo, settings or {})
        assert payload.payload(blob) <= SHORT < len(blob)


def test_a_jxl_file_is_a_naked_codestream(photo: Image.Image):
    blob = Jxl().encode(photo, {"side": 16, "distance": 8.0, "effort": 4})
    assert blob[:2] == b"\xff\x0a"
    assert Jxl().payload(blob) == len(blob)


def test_tiny_webp_pictures_may_be_lossless():
    flat = Image.new("RGB", (40, 30), (200, 30, 90))
    (settings,) = WebP().search(flat, [34])
    assert settings is not None
    assert WebP().describe(settings).endswith("lossless")
    assert np.array_equal(WebP().decode(WebP().encode(flat, settings), flat.size), flat)


def test_describing_settings():
    assert WebP().describe({"side": 24, "quality": 35}) == "24 px, quality 35"
    assert Jpeg().describe({"side": 9, "quality": 5, "subsampling": "4:2:0"}) == "9 px, quality 5, 4:2:0"


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 200), (33, 33)])
def test_pictures_of_any_shape(size: tuple[int, int]):
    picture = make_picture(3, size)
    for codec in load_baselines(["jpeg", "webp", "blurhash", "thumbhash"]):
        (settings,) = codec.search(picture, [2000])
        assert settings is not None
        assert codec.decode(codec.encode(picture, settings), size).size == size


@pytest.mark.parametrize("longest", [1, 4, 5, 32, 33, 64, 100, 256, 1000])
def test_scales_rise_to_the_pictures_own(longest: int):
    found = sides(longest)
    assert found[-1] == longest
    assert found == sorted(set(found))
    assert all(b - a <= max(1, a / 16) for a, b in itertools.pairwise(found))


def test_all_means_every_built_in_one_once():
    chosen = load_baselines(["webp", "all"])
    assert [codec.name for codec in chosen] == ["webp", *(name for name in built_in() if name != "webp")]
    assert all(isinstance(codec, Baseline) and codec.title and codec.peak_bytes is None for codec in chosen)
    assert {codec.kind for codec in chosen} == {"classic", "hash"}
    assert load_baselines([]) == []


def test_an_unknown_name_is_an_error():
    with pytest.raises(ConfigError, match=r"'webq'.*jpeg, webp"):
        load_baselines(["webp", "webq"])


def test_a_missing_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "blurhash", None)
    with pytest.raises(MissingExtraError, match=r"blurhash.*pip install"):
        load_baselines(["blurhash"])
