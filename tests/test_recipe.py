"""The recipe of the mini pack, end to end at toy size, through its own commands."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest

from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.evaluate.metrics.judge import Judge
from clip_feature_codec.names import DECODER_FILE
from clip_feature_codec.train.config import TrainConfig
from samples import make_picture

RECIPE = Path(__file__).parent.parent / "recipes" / "mini"


def small_config(path: Path) -> Path:
    """The recipe's own configuration with everything that costs time turned down."""
    text = (RECIPE / "config.toml").read_text()
    changes = {
        "batch_size": "4",
        "stages": "[[32, 1], [48, 1]]",
        "warmup_steps": "2",
        "qualities": "[[20, 30], [80, 80]]",
        "out_size": "16",
        "layout": "6",
        "base": "8",
        "ch_mult": "[1, 1]",
        "attention_levels": "[]",
        "epochs": "1",
        "sample_every": "0",
        "crop": "32",
        "steps": "4",
        "blocks": "1",
        "shown": "2",
        "held_out": '["cat"]',
    }
    for key, value in changes.items():
        text = re.sub(rf"^{key} = (\[[^]=]*\n[^=]*?^\]|.*)$", f"{key} = {value}", text, flags=re.M)
    path.write_text(text)
    return path


def run(script: str | Path, *arguments: object) -> str:
    command = [sys.executable, str(RECIPE / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_recipe_makes_a_pack_that_encodes_and_decodes(tmp_path: Path) -> None:
    for i in range(12):
        folder = tmp_path / "data" / ("cat", "red bus", "dog")[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        make_picture(i, (64, 64)).save(folder / f"{i}.png")
    config, data, work = small_config(tmp_path / "config.toml"), tmp_path / "data", tmp_path / "work"

    out = run("train_image_tower.py", "--config", config, "--small", data, "--out", work, "--device", "cpu")
    assert "8] pictures, 2 classes" in out  # the held-out class is left out
    run(
        "fit_text_tower.py",
        "--config",
        config,
        "--data",
        data,
        "--out",
        work,
        "--steps",
        3,
        "--device",
        "cpu",
    )
    stage = ("train_decoder.py", "--config", config, "--data", data, "--out", work, "--device", "cpu")
    run(*stage)
    first = work / "first.pt"
    (work / "decoder" / DECODER_FILE).rename(first)
    shutil.rmtree(work / "decoder")
    run(*stage, "--init", first)  # begins with the weights of the decoder that the first run has made
    stage = ("train_upsampler.py", "--config", config, "--data", data, "--out", work, "--device", "cpu")
    assert "detail" in run(*stage)
    assert run(*stage) == ""  # it is done
    run("build_pack.py", "--work", work, "--pack", tmp_path / "pack")

    from clip_feature_codec import ClipCodec
    from clip_feature_codec.names import PACK_DECODER

    codec = ClipCodec.load(
        tmp_path / "pack" / "codec.json",
        weights=tmp_path / "pack" / PACK_DECODER,
        model=str(tmp_path / "pack" / "clip"),
        device="cpu",
    )
    picture = make_picture(1, (40, 20))
    assert codec.decoder.upsampler is not None
    blob = codec.encode(picture)
    assert float(codec.vector(blob) @ codec.embed(picture)) > 0.99
    assert codec.decode(blob, steps=2, size=32).size == (32, 16)
    assert np.isfinite(codec.embedder.embed_text(["a red bus"])).all()


@pytest.mark.parametrize("name", ["config.toml", "gpu.toml"])
def test_what_a_configuration_makes_is_small_enough_for_the_package(name: str) -> None:
    recipe = runpy.run_path(str(RECIPE / "data.py"))["read_config"](RECIPE / name)
    clip = open_clip.CLIP(**recipe["clip"]["model"])
    decoder = TrainConfig.from_dict(recipe["decoder"]).build_unet(recipe["clip"]["model"]["embed_dim"])
    upsampler = Upsampler(recipe["upsampler"]["channels"], recipe["upsampler"]["blocks"])
    image, everything, painting = (
        2 * sum(parameter.numel() for network in networks for parameter in network.parameters())
        for networks in ([clip.visual], [clip], [decoder, upsampler])
    )
    assert image <= 12_000_000
    assert everything - image <= 14_000_000
    assert painting <= 28_000_000
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
