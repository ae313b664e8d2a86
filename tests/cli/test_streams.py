"""Lone streams find their tables."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from PIL import Image

from clip_feature_codec.codec.feature_codec import FeatureCodec

Run = Callable[..., Result]


def test_a_codec_json_beside_a_stream_does_not_hide_its_own(work: Path, ok: Run):
    """Fault 3: encode, fit and decode in one folder failed."""
    stream, picture = work / "p.clp", work / "x.png"
    ok("encode", work / "photos/p0.png", "-o", stream, "--layers", "layout")
    ok("fit", work / "store", "-o", work / "codec.json")
    ok("decode", stream, "-o", picture, "--preview", "--size", 32)
    with Image.open(picture) as image:
        assert max(image.size) == 32
    assert "mini/pack" in ok("info", stream).stdout
    ok("transcode", stream, "-o", work / "small.clp", "--quality", 1)
    coded = work / "coded.clp"
    ok("transcode", work / "store/p0.clp", "-o", coded, "--codec", work / "codec.json")
    fitted = FeatureCodec.load(work / "codec.json")
    assert fitted.codec_id.hex() in ok("info", coded).stdout
    assert "p0" in ok("search", work / "store", "--image", coded).stdout.splitlines()[1]


def test_a_stream_of_nobody_s_tables_names_those_that_were_tried(work: Path, tmp_path: Path, run: Run):
    away = shutil.copy(work / "store/p0.clp", tmp_path / "away.clp")
    for args in (("decode", away, "-o", tmp_path / "x.png"), ("info", away)):
        result = run(*args)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert f"{away}: codec id: found " in result.stderr
        assert "other tables than mini (" in result.stderr
        assert "--codec" in result.stderr


def test_info_has_quiet_and_says_the_same_with_it(finished: Path, ok: Run):
    """Fault 13: every command has ``--quiet``."""
    for source in (finished / "store", finished / "store/p0.clp"):
        assert ok("info", source, "--quiet").stdout == ok("info", source).stdout != ""
