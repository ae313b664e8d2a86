"""The recipe of the mini pack, end to end at toy size, through its own commands."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shutil
import sys
import tomllib
from pathlib import Path
from unittest.mock import patch

import numpy as np
import open_clip
import pytest
import timm
from safetensors.torch import save_model

import clip_feature_codec.embed.openclip.glimpse  # noqa: F401  timm is told of the towers' network
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.evaluate.metrics.judge import Judge
from clip_feature_codec.train.config import TrainConfig
from samples import make_picture

RECIPE = Path(__file__).parent.parent / "recipes" / "mini"


def small_config(path: Path) -> Path:
    """The recipe's own configuration with everything that costs time turned down."""
    text = (RECIPE / "config.toml").read_text()
    changes = {
        "per_shard": "8",
        "shards": "1",
        "kept_out": "2",
        "batch_size": "4",
        "steps": "4",
        "warmup_steps": "2",
        "vector_bytes": "[[22, 24, 2], [46, 46, 1]]",
        "layout_qualities": "[[20, 30, 10], [80, 80, 1]]",
        "looks": "4",
        "square": "8",
        "minutes": "0.02",
        "look_every": "1",
        "out_size": "16",
        "layout": "6",
        "base": "8",
        "ch_mult": "[1, 1]",
        "attention_levels": "[]",
        "epochs": "1",
        "sample_every": "0",
        "blocks": "1",
    }
    for key, value in changes.items():
        text, count = re.subn(rf"^{key} = [^#\n]*", f"{key} = {value} ", text, flags=re.M)
        assert count, key
    text = text.replace("side = 256", "side = 64")  # of the decoder's crops: four times its out_size
    path.write_text(text)
    return path


def make_labels(path: Path, names: list[str]) -> Path:
    """A list of 1,000 classes that has these names, and those that the recipe's groups speak of."""
    groups = tomllib.loads((RECIPE / "groups.toml").read_text())
    spoken = [part for table in groups.values() for parts in table.values() for part in parts]
    known = [*names, *sorted({part for part in spoken if isinstance(part, str)} - set(names))]
    known += [f"thing {i}" for i in range(1000 - len(known))]
    path.write_text("\n".join(["background", *known]))
    return path


def make_pictures(folder: Path) -> Path:
    """Twelve pictures with names of classes and without."""
    for i in range(12):
        inside = folder / ("barn", "school bus", "gizmo")[i % 3]
        inside.mkdir(parents=True, exist_ok=True)
        make_picture(i, (64, 64)).save(inside / f"{i}.png")
    return folder


def run(script: str | Path, *arguments: object) -> str:
    """Run a script as Python does, in this process: to load all libraries a dozen times takes a minute."""
    path, told = RECIPE / script, io.StringIO()
    with (
        patch.object(sys, "argv", [str(path), *map(str, arguments)]),
        patch.object(sys, "path", [str(path.parent), *sys.path]),
        contextlib.redirect_stdout(told),
    ):
        runpy.run_path(str(path), run_name="__main__")
    return told.getvalue()


def test_recipe_makes_a_pack_that_encodes_and_decodes(tmp_path: Path) -> None:
    config, work = small_config(tmp_path / "config.toml"), tmp_path / "work"
    data = make_pictures(tmp_path / "data")
    labels = make_labels(tmp_path / "labels.txt", ["barn", "school bus"])
    teacher = tmp_path / "teacher.safetensors"
    save_model(timm.create_model("mobilenetv2_100"), teacher)

    common = ("--config", config, "--out", work, "--device", "cpu")
    pictures = ("--labels", labels, "--photos", data)
    for reader, eyes in (("tower", ("--teacher", teacher)), ("decoder", ())):
        stage = ("label_crops.py", *common[:4], *pictures, "--small", data)
        out = run(*stage, "--for", reader, *eyes)
        assert "{'named': 6, 'other': 4, 'small': 12}" in out  # two with a name are kept out
    stage = ("train_image_tower.py", *common, *pictures, "--teacher", teacher)
    assert "at step 0 of 4" in run(*stage, "--minutes", 0)
    assert "at step 0 of 4" in run(*stage)
    assert "at step 4 of 4" in run(*stage)  # it is done
    run("fit_text_tower.py", *common, *pictures, "--steps", 3)
    run("code_crops.py", *common, *pictures)
    run("train_decoder.py", *common)
    run("tune_decoder.py", *common)
    run("train_upsampler.py", *common, "--teacher", teacher)
    first = tmp_path / "first"
    run("build_pack.py", "--work", work, "--pack", first)
    shutil.rmtree(work / "decoder")
    for checkpoint in ("tuning.pt", "upsampler.pt"):
        (work / checkpoint).unlink()
    projected = tmp_path / "projected.safetensors"  # into the very same space, to begin with what is there
    assert "of the old vectors is foretold" in run("reproject.py", first, "--out", work, "--to", projected)
    run("train_decoder.py", *common, "--init", projected)
    old = first / "decoder/model.safetensors"
    for stage in (
        ("tune_decoder.py", *common),
        ("train_upsampler.py", *common, "--teacher", teacher, "--init", old),
    ):
        out = run(*stage)
        assert "at step 0" in out
        assert "dB" in out
        assert "at step 0" not in run(*stage)  # it goes on, and is done
    run("build_pack.py", "--work", work, "--pack", tmp_path / "pack")

    from clip_feature_codec import ClipCodec
    from clip_feature_codec.decoders.checkpoint import load_decoder
    from clip_feature_codec.decoders.graphs import GraphDecoder
    from clip_feature_codec.embed.onnx.embedder import GraphEmbedder

    codec = ClipCodec.load(tmp_path / "pack", device="cpu")
    picture = make_picture(1, (40, 20))
    assert isinstance(codec.embedder, GraphEmbedder)
    assert isinstance(codec.decoder, GraphDecoder)
    whole = load_decoder(tmp_path / "pack/decoder/model.safetensors")
    assert whole.upsampler is not None
    assert codec.decoder.identity() == whole.identity()
    blob = codec.encode(picture)
    assert float(codec.vector(blob) @ codec.embed(picture)) > 0.99
    assert codec.decode(blob, steps=2, size=32).size == (32, 16)
    assert np.isfinite(codec.embedder.embed_text(["a red bus"])).all()


@pytest.mark.parametrize("name", ["config.toml", "again.toml", "gpu.toml"])
def test_what_a_configuration_makes_is_small_enough_for_the_package(name: str) -> None:
    recipe = runpy.run_path(str(RECIPE / "data.py"))["read_config"](RECIPE / name)
    clip, dim = open_clip.CLIP(**recipe["clip"]["model"]), recipe["clip"]["model"]["embed_dim"]
    decoder = TrainConfig.from_dict(recipe["decoder"]).build_unet(dim)
    upsampler = Upsampler(recipe["upsampler"]["channels"], recipe["upsampler"]["blocks"], dim)
    image, everything, diffusing = (
        2 * sum(parameter.numel() for network in networks for parameter in network.parameters())
        for networks in ([clip.visual], [clip], [decoder, upsampler])
    )
    assert image <= 12_000_000
    assert everything - image <= 14_000_000
    assert diffusing <= 28_000_000
    assert recipe["decoder"]["layout"] <= recipe["decoder"]["out_size"]


def test_the_judge_s_recipe_makes_a_judge(tmp_path: Path) -> None:
    for i in range(6):
        folder = tmp_path / "data" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        make_picture(i, (64, 64)).save(folder / f"{i}.png")
    script, data = RECIPE.parent / "judge/train_judge.py", tmp_path / "data"
    arguments = ("--data", data, "--test", data, "--out", tmp_path / "judge", "--device", "cpu")
    first = run(script, *arguments, "--steps", 2, "--batch-size", 4)
    assert "6 pictures, 2 classes" in first
    assert "of 6 test pictures right" in first
    again = run(script, *arguments, "--steps", 3, "--batch-size", 4)
    assert "step 0/" not in again  # it goes on where it was
    judge = Judge.load(tmp_path / "judge")
    assert (judge.name, judge.dim) == ("regnetx_002", 368)
    assert judge([make_picture(0)]).shape == (1, 368)
