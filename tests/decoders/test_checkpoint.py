from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoder_samples import (
    DIM,
    content_of,
    make_decoder,
    outputs,
    refusal,
    write_archive,
    write_now,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from clip_feature_codec.decoders.checkpoint import export_decoder, load_decoder, save_decoder
from clip_feature_codec.decoders.container import content_digest
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import ConfigError

Writer = Callable[[Path, dict[str, Any]], None]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "decoder.safetensors"
    save_decoder(path, make_decoder(), extra={"steps": 7})
    return path


@pytest.fixture(params=[write_now, write_archive], ids=["safetensors", "archive"])
def write(request: pytest.FixtureRequest) -> Writer:
    """Both kinds of file: what may stand in them is the same."""
    found: Writer = request.param
    return found


def test_a_decoder_comes_back_as_it_was(checkpoint: Path) -> None:
    before, after = make_decoder(), load_decoder(checkpoint)
    assert torch.equal(outputs(after), outputs(before))
    assert after.unet.config == before.unet.config
    assert after.scheduler.to_config() == before.scheduler.to_config()
    assert after.space == before.space
    assert after.image_size == 16
    assert after.extra == {"steps": 7}
    assert not after.unet.training
    assert all(p.dtype == torch.float32 and p.requires_grad for p in after.unet.parameters())
    assert after.unet.stem.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_file_is_safetensors_with_its_configuration(checkpoint: Path) -> None:
    with safe_open(checkpoint, "np") as file:
        facts = json.loads(file.metadata()["decoder"])
        stem = file.get_tensor("unet.stem.weight")
    assert (facts["format"], facts["version"]) == ("clip-feature-codec decoder", 3)
    assert facts["unet"] == make_decoder().unet.config.to_json()
    assert np.array_equal(stem, make_decoder().unet.stem.weight.detach().numpy())


@pytest.mark.parametrize("write", [write_now, write_archive], ids=["safetensors", "archive"])
def test_a_pack_s_folder_holds_the_same_to_the_bit(tmp_path: Path, write: Writer) -> None:
    content = content_of(make_decoder(upsampler=Upsampler(4, 1)))
    content["weights"] = {name: value.half() for name, value in content["weights"].items()}
    file, folder = tmp_path / "decoder.pt", tmp_path / "decoder"
    write(file, content)
    before = load_decoder(file)
    export_decoder(file, folder, before.space)
    after = load_decoder(folder / "model.safetensors")
    assert after.identity() == before.identity()
    assert (after.extra, after.space) == (before.extra, before.space)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert torch.equal(weights.get_tensor("unet.stem.weight"), content["weights"]["stem.weight"])
    if write is write_now:
        assert (folder / "model.safetensors").read_bytes() == file.read_bytes()
    told = json.loads((folder / "config.json").read_bytes())
    assert {name: told[name] for name in before.configuration()} == before.configuration()
    assert told["space"] == before.space.to_json()


def test_equal_decoders_are_equal_files_in_every_process(checkpoint: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    script = (
        "import sys; from pathlib import Path\n"
        "from clip_feature_codec.decoders.checkpoint import export_decoder, load_decoder, save_decoder\n"
        "save_decoder(Path(sys.argv[2]), load_decoder(Path(sys.argv[1])))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(checkpoint), str(again)], check=True)
    assert again.read_bytes() == checkpoint.read_bytes()


def test_a_loaded_decoder_can_be_saved_over_its_own_file(checkpoint: Path) -> None:
    save_decoder(checkpoint, load_decoder(checkpoint))
    again = load_decoder(checkpoint)
    assert again.extra == {"steps": 7}
    assert torch.equal(outputs(again), outputs(make_decoder()))


def test_a_decoder_with_layouts_comes_back(tmp_path: Path) -> None:
    unet = CLIPCondUNet(UNetConfig(DIM, base=8, ch_mult=(1, 2), num_res_blocks=1, patch=2, layout=5))
    assert unet.layout_proj is not None
    nn.init.normal_(unet.layout_proj.weight)
    save_decoder(tmp_path / "x", make_decoder(unet=unet))
    again = load_decoder(tmp_path / "x")
    assert again.layout_side == 5
    assert again.unet.layout_proj is not None
    assert torch.equal(again.unet.layout_proj.weight, unet.layout_proj.weight)


def test_float16_halves_the_file_and_comes_back_as_float32(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "half"
    save_decoder(path, make_decoder(), dtype=torch.float16)
    after = load_decoder(path)
    weights, half_weights = make_decoder().unet.state_dict(), after.unet.state_dict()
    for name, value in half_weights.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[name].half().float())
    saved = sum(value.numel() for value in weights.values()) * 2
    assert checkpoint.stat().st_size - path.stat().st_size == pytest.approx(saved, rel=0.2)


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"torch\.bfloat16"):
        save_decoder(tmp_path / "x", make_decoder(), dtype=torch.bfloat16)
    assert list(tmp_path.iterdir()) == []


def test_saving_that_fails_leaves_the_old_file(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with pytest.raises(TypeError):
        save_decoder(checkpoint, make_decoder(), extra={"function": lambda: 0})
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


@pytest.mark.parametrize("told", [False, True])
def test_an_upsampler_comes_back(tmp_path: Path, told: bool) -> None:
    upsampler = Upsampler(channels=8, blocks=1, dim=make_decoder().space.dim if told else 0)
    torch.nn.init.normal_(upsampler.head.weight)
    save_decoder(tmp_path / "x", make_decoder(upsampler=upsampler))
    loaded = load_decoder(tmp_path / "x")
    given = (torch.rand(2, 3, 8, 8), torch.rand(2, loaded.space.dim))
    assert loaded.upsampler is not None
    with torch.no_grad():
        torch.testing.assert_close(loaded.upsampler(*given), upsampler(*given))


def test_a_network_with_residual_and_shrinkage_comes_back(tmp_path: Path) -> None:
    scheduler = NoiseScheduler(100, "linear", "v", zero_terminal_snr=True)
    config = UNetConfig(
        DIM,
        base=8,
        ch_mult=(1, 2),
        num_res_blocks=1,
        patch=2,
        layout=8,
        residual_gain=3.0,
        shrinkage=scheduler.to_config(),
    )
    unet = CLIPCondUNet(config)
    torch.nn.init.normal_(unet.head.weight, std=0.1)
    decoder = make_decoder(unet=unet)
    save_decoder(tmp_path / "x", decoder)
    loaded = load_decoder(tmp_path / "x")
    assert loaded.unet.config == unet.config
    torch.testing.assert_close(outputs(loaded), outputs(decoder))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"PK\x03\x04",
        b"PK\x03\x04" + b"\0" * 500,
        b"\x89PNG\r\n\x1a\n" * 50,
        b"\x10" + b"\0" * 7 + b"{",
        b"\xff" * 8 + b"{" * 50,
        b"\x10" + b"\0" * 7 + b'{"__metadata__":',
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    refusal(path)


def test_safetensors_of_another_program_are_refused(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(3)}, tmp_path / "x", metadata)
        assert "not a decoder checkpoint" in refusal(tmp_path / "x")
    save_file({"weight": torch.zeros(3)}, tmp_path / "x", {"decoder": "[1, 2"})
    assert "damaged" in refusal(tmp_path / "x")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.pt")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(write: Writer, tmp_path: Path, part: float) -> None:
    path = tmp_path / "x"
    write(path, content_of(make_decoder()))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    refusal(path)


def test_flipped_bits_in_the_weights_are_refused(write: Writer, tmp_path: Path) -> None:
    path = tmp_path / "x"
    write(path, content_of(make_decoder()))
    data = bytearray(path.read_bytes())
    at = data.find(make_decoder().unet.time_mlp[2].weight.detach().numpy().tobytes())
    assert at > 0
    data[at + 1000] ^= 0x40
    path.write_bytes(bytes(data))
    assert "checksum" in refusal(path)


def test_a_changed_configuration_is_refused(checkpoint: Path) -> None:
    data = checkpoint.read_bytes()
    assert data.count(b'\\"linear\\"') == 1
    checkpoint.write_bytes(data.replace(b'\\"linear\\"', b'\\"cosine\\"'))
    assert "checksum" in refusal(checkpoint)


@pytest.mark.parametrize("name", ["unet", "scheduler", "space", "image_size", "upsampler", "extra"])
def test_a_missing_or_odd_field_is_named(write: Writer, tmp_path: Path, name: str) -> None:
    for value in (None, "text"):
        write(tmp_path / "x", content_of(make_decoder(), **{name: value}))
        assert name in refusal(tmp_path / "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something else"}, "not a decoder checkpoint"),
        ({"format": None}, "not a decoder checkpoint"),
        ({"version": 4}, "version 4; this program reads 1 to 3"),
        ({"version": "2"}, "version '2'; this program reads 1 to 3"),
        ({"upsampler": {"channels": 6}}, "channels is 6"),
        ({"upsampler": {"depth": 6}}, "depth"),
        ({"upsampler": {"channels": 8, "blocks": 1, "dim": 99}}, "the upsampler takes vectors of 99 numbers"),
        ({"upsampler": {"channels": 8, "blocks": 1}}, "no tensor"),
        ({"image_size": 17}, "image size is 17"),
        ({"image_size": True}, "image_size"),
        ({"scheduler": {"timesteps": -1}}, "timesteps is -1"),
        ({"scheduler": {"colour": "red"}}, "colour"),
        ({"space": {"model": "x"}}, "configuration"),
        ({"unet": {"clip_dim": DIM, "base": 6}}, "base is 6"),
        ({"unet": {"clip_dim": DIM, "ch_mult": 3}}, "configuration"),
        ({"unet": {"clip_dim": DIM, "base": 2**40}}, "configuration"),
        ({"unet": {"depth": 9}}, "depth"),
    ],
)
def test_contents_that_make_no_sense_are_refused(
    write: Writer, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write(tmp_path / "x", content_of(make_decoder(), **changes))
    assert message in refusal(tmp_path / "x")


@pytest.mark.parametrize("replacement", [None, torch.zeros(3), torch.zeros(8, 12, 3, 3, dtype=torch.int64)])
def test_weights_must_be_all_there_and_of_the_right_shape(
    write: Writer, tmp_path: Path, replacement: torch.Tensor | None
) -> None:
    content = content_of(make_decoder())
    weights = content["weights"]
    assert weights["stem.weight"].shape == (8, 12, 3, 3)
    weights["stem.weight"] = replacement
    if replacement is None:
        del weights["stem.weight"]
    write(tmp_path / "x", content)
    assert "'stem.weight'" in refusal(tmp_path / "x")


def test_weights_of_another_network_are_refused(write: Writer, tmp_path: Path) -> None:
    content = content_of(make_decoder())
    content["weights"]["surplus"] = torch.zeros(1)
    write(tmp_path / "x", content)
    assert "'surplus'" in refusal(tmp_path / "x")


def test_the_digest_follows_facts_names_types_shapes_and_values() -> None:
    tensors: dict[str, np.ndarray] = {
        "a": np.arange(6, dtype=np.float32),
        "b": np.ones(2, np.float16),
        "c": np.array(1.0, np.float32),
    }
    others: list[dict[str, np.ndarray]] = [
        {**tensors, "a": np.arange(6, dtype=np.float32).reshape(2, 3)},
        {**tensors, "a": np.arange(6, dtype=np.float32) + 1e-6},
        {**tensors, "b": np.ones(2, np.float32)},
        {"a": tensors["a"], "b": tensors["b"], "d": tensors["c"]},
        {},
    ]
    found = [content_digest({"x": 1}, tensors), content_digest({"x": 2}, tensors)]
    found += [content_digest({"x": 1}, other) for other in others]
    assert len(set(found)) == len(found)
    assert content_digest({"x": 1}, dict(reversed(tensors.items()))) == found[0]
    turned = {**tensors, "a": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)).reshape(-1)}
    assert content_digest({"x": 1}, turned) == found[0]
