"""Pipelines by their names on a hub, which runs on the loopback interface."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_pipelines import Made

from clip_feature_codec.decoders.diffusers.files import wanted_files
from clip_feature_codec.errors import CheckpointError
from hub_server import Hub, running_hub

NAME = "lab/kandinsky"


def run(hub: Hub, cache: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which knows this hub and no other."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    hubs = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    code = "import sys; from clip_feature_codec.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, env=kept | hubs, capture_output=True, text=True)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PARTS = ("unet", "vae")
FILES = [
    "model_index.json",
    "README.md",
    "v1-5-pruned.ckpt",
    "v1-5-pruned.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
    "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "safety_checker/model.safetensors",
]


def test_of_a_repository_only_the_parts_that_paint_are_wanted() -> None:
    whole = set(wanted_files("lab/sd", FILES, PARTS, half=False))
    assert {name for name in whole if name.endswith(".safetensors")} == {
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert {"model_index.json", "README.md", "unet/config.json", "vae/config.json"} <= whole
    half = {name for name in wanted_files("lab/sd", FILES, PARTS, half=True) if name.endswith(".safetensors")}
    assert all(".fp16" in name for name in half)
    assert len(half) == 3
    mixed = [name for name in FILES if name != "vae/diffusion_pytorch_model.fp16.safetensors"]
    assert not [
        name for name in wanted_files("lab/sd", mixed, PARTS, half=True) if name.endswith(".fp16.safetensors")
    ]
    unsafe = [name for name in FILES if not name.startswith("vae/diffusion")] + ["vae/model.ckpt"]
    with pytest.raises(CheckpointError, match=r"lab/sd: vae: found vae/model\.ckpt, which can run anything"):
        wanted_files("lab/sd", unsafe, PARTS, half=False)


@pytest.mark.slow
def test_what_is_needed_is_told_of_and_downloaded_and_nothing_offline(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    """The image tower lies in another repository, which the model card names."""
    decoder = Path(made("kandinsky").name)
    store, prior = made("kandinsky").store, decoder.with_name(f"{decoder.name}-prior")
    card = f"---\nprior:\n- {NAME}-prior\n---\n".encode()
    more = {"README.md": card, "unet/diffusion_pytorch_model.bin": b"\x80", "movq.ckpt": b"\x80" * 5000}
    with running_hub() as hub:
        hub.add(NAME, files_in(decoder) | more)
        hub.add(f"{NAME}-prior", files_in(prior) | {"text_encoder/model.safetensors": b"0" * 5000})
        options = ("--steps", 1, "--size", 16, "--device", "cpu", "--decoder", NAME)
        done = run(hub, tmp_path / "hub", "decode", store / "p0.clp", "-o", tmp_path / "a.png", *options)
        assert done.returncode == 0, done.stderr
        told = [line for line in done.stderr.splitlines() if line.startswith("downloading")]
        assert any(NAME in line and "MB" in line for line in told), told
        assert hub.sent("unet/diffusion_pytorch_model.safetensors") == 1
        assert hub.sent("image_encoder/model.safetensors") == 1
        assert not any(hub.sent(name) for name in (".bin", ".ckpt", "text_encoder/model.safetensors"))
        hub.requests.clear()
        again = run(
            hub, tmp_path / "hub", "decode", store / "p0.clp", "-o", tmp_path / "b.png", *options, "--offline"
        )
        assert again.returncode == 0, again.stderr
        assert "downloading" not in again.stderr
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        elsewhere = run(
            hub, tmp_path / "new", "decode", store / "p0.clp", "-o", tmp_path / "c.png", *options, "--offline"
        )
        assert elsewhere.returncode == 2
        assert NAME in elsewhere.stderr
        assert hub.requests == []


@pytest.mark.slow
def test_pickles_of_a_hub_are_not_even_downloaded(made: Callable[[str], Made], tmp_path: Path) -> None:
    files = files_in(Path(made("kandinsky").name))
    files["unet/diffusion_pytorch_model.bin"] = files.pop("unet/diffusion_pytorch_model.safetensors")
    with running_hub() as hub:
        hub.add(NAME, files)
        options = ("--device", "cpu", "--decoder", NAME)
        store = made("kandinsky").store
        done = run(hub, tmp_path / "hub", "decode", store / "p0.clp", "-o", tmp_path / "a.png", *options)
        assert done.returncode == 2
        assert "diffusion_pytorch_model.bin" in done.stderr.splitlines()[-1]
        assert hub.sent(".bin") == 0
