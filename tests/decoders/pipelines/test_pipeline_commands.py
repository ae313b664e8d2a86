"""From photographs to pictures by the command line, with pipelines of diffusers as decoders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from made_pipelines import Made
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.cli.main import main
from clip_feature_codec.decoders.checkpoint import save_decoder
from samples import make_decoder, make_picture

QUICK = ("--steps", 1, "--size", 24, "--device", "cpu", "--offline")


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def ok(*args: object) -> Result:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result


def refused(result: Result, *expected: str) -> None:
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert all(text in result.stderr for text in expected), result.stderr


@pytest.mark.parametrize("kind", ["unclip", "ip_adapter"])
def test_from_photographs_to_pictures(kind: str, made: Callable[[str], Made], tmp_path: Path) -> None:
    name, photos = made(kind).name, made(kind).photos
    encoded = ok("encode", photos, "-o", tmp_path / "store", "--model", name, "--device", "cpu", "--offline")
    assert "4 pictures encoded" in encoded.stderr
    decoded = ok("decode", tmp_path / "store", "-o", tmp_path / "out", "--decoder", name, *QUICK)
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert [path.name for path in pictures] == [f"p{i}.png" for i in range(4)]
    assert all(max(Image.open(path).size) == 24 for path in pictures)
    assert ("takes no layouts" in decoded.stderr) == (kind == "unclip")
    assert "Loading" not in decoded.stderr  # no bars of other libraries
    # The store knows where its model is.
    assert "0 pictures encoded, 4 unch" in ok("encode", photos, "-o", tmp_path / "store", "--offline").stderr
    codec = ClipCodec.load(tmp_path / "store", decoder=name, device="cpu")
    again = codec.decode(tmp_path / "store/p1.clp", steps=1, size=24)
    assert again.tobytes() == Image.open(pictures[1]).tobytes()


def test_one_picture_with_the_tables_of_a_store(made: Callable[[str], Made], tmp_path: Path) -> None:
    pipeline = made("kandinsky")
    ok("fit", pipeline.photos, "-o", tmp_path / "codec.json", "--model", pipeline.name, "--device", "cpu")
    assert json.loads((tmp_path / "codec.json").read_bytes())["vector_length"] > 2
    make_picture(9).save(tmp_path / "p.png")
    ok("encode", tmp_path / "p.png", "-o", tmp_path / "p.clp", "--codec", tmp_path / "codec.json")
    tables = ("--codec", tmp_path / "codec.json", "--decoder", pipeline.name)
    ok("decode", tmp_path / "p.clp", "-o", tmp_path / "q.png", *tables, *QUICK)
    assert Image.open(tmp_path / "q.png").size == (24, 18)
    ok("decode", tmp_path / "p.clp", "-o", tmp_path / "r.png", *tables, *QUICK, "--fidelity", 1)
    ok("decode", tmp_path / "p.clp", "-o", tmp_path / "s.png", *tables, *QUICK, "--preview")
    shown, preview = (np.asarray(Image.open(tmp_path / name), int) for name in ("r.png", "s.png"))
    assert np.abs(shown - preview).max() <= 12  # drawn at 16 pixels and enlarged, or drawn at 24


def test_matching_the_layout_brings_a_picture_nearer_to_it(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    pipeline = made("unclip")
    away = []
    for name, more in (("plain", ()), ("matched", ("--match-layout",))):
        done = ok("decode", pipeline.store, "-o", tmp_path / name, "--decoder", pipeline.name, *QUICK, *more)
        assert ("takes no layouts" in done.stderr) == (name == "plain")
        codec = ClipCodec.load(pipeline.store)
        previews = [codec.preview(pipeline.store / f"p{i}.clp", size=24) for i in range(4)]
        pictures = [Image.open(tmp_path / name / f"p{i}.png") for i in range(4)]
        away.append(
            [
                np.abs(np.asarray(a, int) - np.asarray(b, int)).mean()
                for a, b in zip(pictures, previews, strict=True)
            ]
        )
    assert (np.array(away[1]) < 0.6 * np.array(away[0])).all()


def test_what_is_no_decoder_is_refused_in_one_line(made: Callable[[str], Made], tmp_path: Path) -> None:
    unclip, adapter = made("unclip"), made("ip_adapter")
    stable_diffusion, _, file = adapter.name.partition("+")
    broken = Path(shutil.copytree(unclip.name, tmp_path / "broken"))
    (broken / "unet/diffusion_pytorch_model.safetensors").rename(broken / "unet/diffusion_pytorch_model.bin")
    other = Path(shutil.copytree(unclip.name, tmp_path / "other"))
    index = json.loads((other / "model_index.json").read_bytes())
    (other / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    odd = Path(shutil.copytree(unclip.name, tmp_path / "odd"))
    (odd / "model_index.json").write_text(json.dumps(index | {"unet": ["subprocess", "Popen"]}))
    cut = Path(shutil.copytree(unclip.name, tmp_path / "cut"))
    (cut / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\0" * 64)
    pickled = Path(file).with_suffix(".bin")
    pickled.write_bytes(b"\x80\x04")

    def decode(name: object, store: Path = unclip.store, *more: object) -> Result:
        return run("decode", store / "p0.clp", "-o", tmp_path / "x.png", "--decoder", name, *QUICK, *more)

    refused(decode(broken), "diffusion_pytorch_model.bin", "safetensors")
    refused(decode(other), "FluxPipeline", "StableUnCLIPImg2ImgPipeline")
    refused(decode(odd), "no usable part 'unet'")
    refused(decode(cut), "diffusers cannot load it")
    refused(decode(stable_diffusion, adapter.store), "no image_encoder")
    refused(decode(f"{stable_diffusion}+{pickled}", adapter.store), "no IP-Adapter in a .safetensors file")
    refused(decode(f"{unclip.name}+{file}"), "takes no IP-Adapter")
    refused(decode(unclip.name, unclip.store, "--fidelity", 0.5), "no fidelity")
    refused(decode(made("kandinsky").name, unclip.store, "--sampler", "ddim"), "its own sampler")
    refused(decode(unclip.name, unclip.store, "--steps", 1001, "--quiet"), "1 to 1000")
    assert not (tmp_path / "x.png").exists()


def test_a_store_of_another_clip_is_refused_with_both_names(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    pipeline = made("unclip")
    store = Path(shutil.copytree(pipeline.store, tmp_path / "store"))
    foreign = Path(shutil.copytree(pipeline.name, tmp_path / "foreign"))
    import tiny_pipelines

    tiny_pipelines.image_encoder(seed=1).save_pretrained(foreign / "image_encoder")
    result = run("decode", store / "p0.clp", "-o", tmp_path / "x.png", "--decoder", foreign, *QUICK)
    refused(result, str(foreign), pipeline.name, "use one model for all")


def test_samplers_and_eta_reach_the_pipeline(made: Callable[[str], Made], tmp_path: Path) -> None:
    pipeline = made("ip_adapter")
    found = set()
    for more in ((), ("--sampler", "dpm-solver++"), ("--eta", 1.0), ("--guidance", 1.0), ("--steps", 4)):
        out = tmp_path / "x.png"
        options: tuple[Any, ...] = ("--steps", 3, "--size", 16, "--device", "cpu", *more)
        ok("decode", pipeline.store / "p0.clp", "-o", out, "--decoder", pipeline.name, *options)
        found.add(out.read_bytes())
    assert len(found) == 5


def test_our_own_decoders_are_found_in_folders_too(made: Callable[[str], Made], tmp_path: Path) -> None:
    from clip_feature_codec.decoders.checkpoint import save_decoder

    store = Path(shutil.copytree(made("unclip").store, tmp_path / "store"))
    space = ClipCodec.load(store).features.space
    save_decoder(tmp_path / "pack/decoder.safetensors", make_decoder(space))
    for name in (tmp_path / "pack", tmp_path / "pack/decoder.safetensors"):
        ok("decode", store / "p0.clp", "-o", tmp_path / "x.png", "--decoder", name, *QUICK)
    refused(
        run("decode", store / "p0.clp", "-o", tmp_path / "y.png", "--decoder", made("unclip").photos, *QUICK),
        "no decoder in this folder",
    )
    refused(
        run("decode", store / "p0.clp", "-o", tmp_path / "y.png", "--decoder", "nobody/nothing", *QUICK),
        "nobody/nothing",
    )


def test_a_pipeline_and_a_decoder_of_ours_are_in_one_report(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    pipeline, ours = made("ip_adapter"), tmp_path / "ours.safetensors"
    save_decoder(ours, make_decoder(ClipCodec.load(pipeline.store).features.space))
    decoders = ("--decoder", pipeline.name, "--decoder", ours)
    written = ("--json", tmp_path / "r.json", "--html", tmp_path / "r.html")
    ok(
        "eval",
        pipeline.store,
        *decoders,
        *written,
        "--baselines",
        "layout",
        "--work",
        tmp_path / "work",
        *QUICK,
    )
    result = json.loads((tmp_path / "r.json").read_bytes())
    sources = [one["source"] for one in result["provenance"]["settings"]["decoders"]]
    assert sources == [pipeline.name, str(ours)]
    assert (tmp_path / "r.html").stat().st_size > 10_000
