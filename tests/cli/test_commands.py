from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clip_feature_codec import ClipCodec, __version__
from clip_feature_codec.cli import encode_images, reconstruct_diffusion
from clip_feature_codec.cli import eval as eval_module
from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.embed import ClipEmbedder
from samples import make_decoder, make_picture

QUICK = ("--steps", 2, "--size", 32, "--device", "cpu")
Run = Callable[..., Result]


def pixels(picture: Path | bytes) -> np.ndarray:
    """RGB values as whole numbers whose differences do not wrap around."""
    file = io.BytesIO(picture) if isinstance(picture, bytes) else picture
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int64)


def module(name: str, *args: object, folder: Path) -> str:
    """Run one of the specification's modules as a command in ``folder``; its standard output."""
    command = [sys.executable, "-m", f"clip_feature_codec.cli.{name}", *map(str, args)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_specification_s_commands_as_they_stand(tmp_path: Path, tiny_clip: Path, embedder: ClipEmbedder):
    (tmp_path / "images").mkdir()
    for i in range(2):
        make_picture(i, (60, 40)).save(tmp_path / "images" / f"name{i}.png")
    sampling = ("--weights", "store/diffusion_unet_final.pt", "--steps", 2, "--eta", 0.0, "--size", 48)

    module(
        "encode_images", "--img_dir", "images", "--out_dir", "store", "--model", tiny_clip, folder=tmp_path
    )
    assert sorted(p.name for p in (tmp_path / "store").glob("*.clp")) == ["name0.clp", "name1.clp"]

    save_decoder(tmp_path / "store/diffusion_unet_final.pt", make_decoder(embedder.space))
    stream = ("--bitstream", "store/name0.clp")
    module(
        "reconstruct_diffusion",
        "--store_dir",
        "store",
        *stream,
        *sampling,
        "--out",
        "recon.png",
        folder=tmp_path,
    )
    assert pixels(tmp_path / "recon.png").shape == (32, 48, 3)

    table = module("eval", "--store_dir", "store", *sampling, "--device", "cpu", folder=tmp_path)
    assert [
        title for title in ("PSNR", "SSIM", "LPIPS", "CLIP similarity", "bytes") if title not in table
    ] == []


def test_options_may_be_written_with_hyphens_too(work: Path, tiny_clip: Path, tmp_path: Path):
    def invoke(command, *args: object) -> None:
        result = CliRunner().invoke(command, [str(arg) for arg in args])
        assert result.exit_code == 0, result.output

    out, picture = tmp_path / "new", tmp_path / "picture.png"
    for img_dir, out_dir in (("--img-dir", "--out_dir"), ("--img_dir", "--out-dir")):
        invoke(
            encode_images.main,
            f"{img_dir}={work / 'photos'}", out_dir, out, "--model", tiny_clip, "--workers", 0,
        )  # fmt: skip
    assert len(list(out.rglob("*.clp"))) == 4
    for store_dir, batch_size in (("--store-dir", "--batch_size"), ("--store_dir", "--batch-size")):
        stream = ("--bitstream", work / "store/p0.clp", "--out", picture, batch_size, 3)
        invoke(reconstruct_diffusion.main, store_dir, work / "store", *stream, *QUICK)
        invoke(eval_module.main, store_dir, work / "store", *QUICK)


def test_one_picture_there_and_back(work: Path, tmp_path: Path, ok: Run):
    photo, stream, out = work / "photos/p1.png", tmp_path / "p1.clp", tmp_path / "p1.webp"
    ok("encode", photo, "-o", stream, "--codec", work / "store", "--device", "cpu")
    codec = ClipCodec.load(work / "store", device="cpu")
    # The picture alone and in a batch: the same vector but for rounding.
    together = (work / "store/p1.clp").read_bytes()
    np.testing.assert_allclose(codec.vector(stream.read_bytes()), codec.vector(together), atol=0.02)
    weights = ("--weights", work / "store/diffusion_unet_final.pt")
    ok("decode", stream, "-o", out, "--codec", work / "store/codec.json", *weights, *QUICK)
    assert pixels(out).shape[:2] == (21, 32)


def test_a_lone_stream_finds_the_codec_of_the_store_that_it_lies_in(work: Path, tmp_path: Path, ok: Run):
    ok("decode", work / "store/deep/p2.clp", "-o", tmp_path / "p2.png", *QUICK)
    assert (tmp_path / "p2.png").is_file()


def test_a_hyphen_is_standard_input_and_output(work: Path, tmp_path: Path, ok: Run):
    photo, codec = work / "photos/p0.png", ("--codec", work / "store", "--device", "cpu")
    stream, out = tmp_path / "p0.clp", tmp_path / "p0.png"
    ok("encode", photo, "-o", stream, *codec)
    piped = ok("encode", "-", "-o", "-", *codec, stdin=photo.read_bytes())
    assert piped.stdout_bytes == stream.read_bytes()
    ok("decode", stream, "-o", out, *codec, *QUICK)
    piped = ok("decode", "-", "-o", "-", *codec, *QUICK, stdin=stream.read_bytes())
    assert (pixels(piped.stdout_bytes) == pixels(out)).all()
    facts = json.loads(
        ok("info", "-", "--codec", work / "store", "--json", "-", stdin=stream.read_bytes()).stdout
    )
    assert facts["bytes"] == stream.stat().st_size


def test_a_picture_is_the_same_alone_in_a_batch_and_from_a_store(work: Path, tmp_path: Path, ok: Run):
    store = work / "store"
    ok("decode", store, "-o", tmp_path / "batch", *QUICK, "--eta", 0.7)
    ok("decode", store, "-o", tmp_path / "single", *QUICK, "--eta", 0.7, "--batch-size", 1)
    names = ["p0.png", "p1.png", "deep/p2.png", "p3.png"]
    assert sorted(
        p.relative_to(tmp_path / "batch").as_posix() for p in (tmp_path / "batch").rglob("*.png")
    ) == sorted(names)
    for name in names:
        alone = tmp_path / "alone.png"
        ok("decode", (store / name).with_suffix(".clp"), "-o", alone, *QUICK, "--eta", 0.7)
        assert pixels(alone).std() > 5  # a picture, not an even field that equals any other
        for folder in ("batch", "single"):
            assert np.abs(pixels(tmp_path / folder / name) - pixels(alone)).max() <= 1
    first, other = (pixels(tmp_path / "batch" / name)[:24, :24] for name in ("p0.png", "deep/p2.png"))
    assert np.abs(first - other).max() > 20


def test_the_seed_chooses_the_noise(work: Path, tmp_path: Path, ok: Run):
    def painted(seed: int) -> np.ndarray:
        ok("decode", work / "store/p0.clp", "-o", tmp_path / "out.png", *QUICK, "--seed", seed)
        return pixels(tmp_path / "out.png")

    first = painted(1)
    assert (painted(1) == first).all()
    assert np.abs(painted(2) - first).max() > 20


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("p0", ("--size", 100), (100, 80)),  # 40×50
        ("p1", ("--size", 61), (40, 61)),  # 61×40
        ("p1", ("--size", 20, "--square"), (20, 20)),
    ],
)
def test_the_size_is_the_longer_side_and_the_aspect_ratio_is_kept(
    name: str, options: tuple[object, ...], shape: tuple[int, int], work: Path, tmp_path: Path, ok: Run
):
    out = tmp_path / "out.bmp"
    ok("decode", work / f"store/{name}.clp", "-o", out, "--steps", 1, "--device", "cpu", *options)
    assert np.abs(np.subtract(pixels(out).shape[:2], shape)).max() <= (0 if "--square" in options else 1)
    assert max(pixels(out).shape[:2]) == options[1]


def test_encoding_goes_on_where_it_was_with_the_store_s_own_model(work: Path, ok: Run):
    make_picture(9, (30, 30)).save(work / "photos/new.png")
    encoded = ok("encode", work / "photos", "-o", work / "store", "--json", "-", "--workers", 0)
    record = json.loads(encoded.stdout)
    assert (record["added"], record["unchanged"], record["pictures"]) == (1, 4, 5)
    assert record["bytes"] == sum(p.stat().st_size for p in (work / "store").rglob("*.clp"))
    assert record["failures"] == []


def test_info_of_a_stream_and_of_a_store(finished: Path, embedder: ClipEmbedder, ok: Run):
    store, stream = finished / "store", finished / "store/p1.clp"
    facts = json.loads(ok("info", stream, "--json", "-").stdout)
    assert facts["bytes"] == stream.stat().st_size
    assert facts["aspect_ratio"] == pytest.approx(61 / 40, abs=0.01)
    assert (facts["dimension"], facts["clip_space"]) == (32, embedder.space.fingerprint)
    assert facts["codec_id"] == stream.read_bytes()[2:4].hex()
    sizes = [p.stat().st_size for p in store.rglob("*.clp")]
    facts = json.loads(ok("info", store, "--json", "-").stdout)
    assert (facts["pictures"], facts["bytes"], facts["trained_decoder"]) == (4, sum(sizes), True)
    assert facts["bytes_per_picture"] == pytest.approx(np.mean(sizes), abs=0.05)
    assert f"{sum(sizes)}\n" in ok("info", store).stdout


def test_eval_writes_json_a_page_tables_figures_and_a_grid(finished: Path, tmp_path: Path, ok: Run):
    names = ("result.json", "page.html", "grid.png", "rows.csv", "rows.parquet", "figures")
    files = [tmp_path / name for name in names]
    outputs = [*("--json", files[0], "--html", files[1], "--grid", files[2], "--table", files[3])]
    outputs += ["--table", files[4], "--figures", files[5]]
    compared = ("--budgets", "90,600", "--baselines", "layout,webp", "--seeds", 2)
    table = ok("eval", finished / "store", *QUICK, *compared, *outputs).stdout
    result = json.loads(files[0].read_text())
    assert len(result["images"]) == 4
    points = {(point["series"], point["budget"]): point for point in result["summary"]["points"]}
    assert points.keys() == {(s, b) for s in ("clp@2", "layout", "webp") for b in (90, 600)}
    assert f"{points['webp', 90]['metrics']['psnr']['mean']:.2f}" in table
    assert "alexnet" in table
    assert "<html" in files[1].read_text()
    assert pixels(files[2]).size > 0
    with files[3].open() as file:
        assert len(list(csv.DictReader(file))) == len(result["rows"])
    assert pq.read_table(files[4]).num_rows == len(result["rows"])
    assert (files[5] / "psnr.png").is_file()
    assert not list((finished / "store/evaluation").glob("*/"))  # no unfinished work is left


def test_eval_leaves_standard_output_to_the_json_or_the_page(finished: Path, ok: Run):
    limited = (*QUICK, "--limit", 2)
    result = json.loads(ok("eval", finished / "store", *limited, "--json", "-").stdout)
    assert [row["image"] for row in result["rows"]] == ["deep/p2", "p0"]
    page = ok("eval", finished / "store", *limited, "--html", "-").stdout
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")


def test_quiet_says_nothing(work: Path, tmp_path: Path, ok: Run):
    encoded = ok("encode", work / "photos", "-o", work / "store", "--quiet", "--workers", 0)
    decoded = ok("decode", work / "store", "-o", tmp_path / "out", *QUICK, "--quiet")
    assert (encoded.output, decoded.output) == ("", "")


def test_train_prints_the_resolved_configuration_and_stops(work: Path, ok: Run):
    before = sorted(work.rglob("*"))
    printed = ok(
        "train", work / "store", "--dry-run", "--out_size", 64, "--ch-mult", "1,2", "--compile"
    ).stdout
    config = json.loads(printed)
    assert (config["out_size"], config["ch_mult"], config["compile"]) == (64, [1, 2], True)
    assert (config["epochs"], config["timesteps"], config["attention_levels"]) == (40, 1000, [])
    assert sorted(work.rglob("*")) == before


def test_train_writes_the_decoder_that_decode_uses(work: Path, tmp_path: Path, ok: Run):
    final = work / "store/diffusion_unet_final.pt"
    final.unlink()
    tiny = ("--out-size", 16, "--base", 8, "--ch-mult", "1,2", "--num-res-blocks", 1, "--timesteps", 20)
    short = ("--max-steps", 1, "--batch-size", 2, "--sample-every", 0, "--workers", 0, "--device", "cpu")
    ok("train", work / "store", *tiny, *short, "--quiet")
    assert load_decoder(final).image_size == 16
    ok("decode", work / "store/p0.clp", "-o", tmp_path / "out.png", *QUICK)


def test_train_is_told_where_its_clip_has_moved_and_which_pictures_are_too_large(
    work: Path, tiny_clip: Path, tmp_path: Path, ok: Run, run: Run
):
    moved = shutil.copytree(tiny_clip, tmp_path / "moved")
    tiny = ("--out-size", 16, "--base", 8, "--ch-mult", "1,2", "--num-res-blocks", 1, "--timesteps", 20)
    short = ("--max-steps", 1, "--batch-size", 2, "--sample-every", 0, "--workers", 0, "--device", "cpu")
    train = ("train", work / "store", *tiny, *short, "--quiet", "--force")
    result = run(*train, "--clip-w", 0.1, "--model", "nowhere")
    assert (result.exit_code, "'nowhere'" in result.stderr) == (2, True), result.stderr
    ok(*train, "--clip-w", 0.1, "--model", moved)
    result = run(*train, "--restart", "--max-pixels", 100)
    assert (result.exit_code, "--max-pixels" in result.stderr) == (2, True), result.stderr


def test_help_and_version(ok: Run):
    commands = ("encode", "decode", "info", "train", "eval", "demo")
    listed = ok("--help").stdout
    assert [command for command in commands if f"\n  {command} " not in listed] == []
    for command in commands:
        assert "--debug" in ok(command, "--help").stdout
    assert __version__ in ok("--version").stdout
