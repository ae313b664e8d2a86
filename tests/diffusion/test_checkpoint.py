from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.diffusion.checkpoint import Decoder, load_decoder, save_decoder
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import CheckpointError, ConfigError

DIM = 6


def make_space(dim: int = DIM) -> ClipSpace:
    return ClipSpace(
        model="test-model",
        pretrained="test-tag",
        weights_sha256="ab" * 32,
        dim=dim,
        preprocessing={"size": 16},
    )


def make_decoder(**changes: Any) -> Decoder:
    unet = CLIPCondUNet(DIM, base=8, ch_mult=(1, 2), num_res_blocks=1, attention_levels=(1,), patch=2)
    generator = torch.Generator().manual_seed(0)
    for parameter in unet.parameters():
        parameter.data.normal_(std=0.2, generator=generator)
    parts: dict[str, Any] = {
        "unet": unet,
        "scheduler": NoiseScheduler(100, "linear", "v", zero_terminal_snr=True),
        "space": make_space(),
        "image_size": 16,
    }
    return Decoder(**(parts | changes))


def paint(decoder: Decoder) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    z = nn.functional.normalize(torch.randn(2, DIM, generator=generator))
    with torch.no_grad():
        out: Tensor = decoder.unet(x, z, torch.tensor([5, 60]))
    return out


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "decoder.pt"
    save_decoder(path, make_decoder(), extra={"steps": 7})
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_decoder(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def altered(path: Path, **changes: Any) -> Path:
    """Write the checkpoint again with some fields changed; None leaves a field out."""
    content = torch.load(path, weights_only=True) | changes
    torch.save({name: value for name, value in content.items() if value is not None}, path)
    return path


def test_a_decoder_comes_back_as_it_was(checkpoint: Path) -> None:
    before, after = make_decoder(), load_decoder(checkpoint)
    assert torch.equal(paint(after), paint(before))
    assert after.unet.config == before.unet.config
    assert after.scheduler.to_config() == before.scheduler.to_config()
    assert after.space == before.space
    assert after.image_size == 16
    assert after.extra == {"steps": 7}
    assert not after.unet.training
    assert all(p.dtype == torch.float32 and p.requires_grad for p in after.unet.parameters())
    assert after.unet.stem.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_loaded_decoder_can_be_saved_again_with_its_facts(checkpoint: Path, tmp_path: Path) -> None:
    save_decoder(tmp_path / "again.pt", load_decoder(checkpoint))
    again = load_decoder(tmp_path / "again.pt")
    assert again.extra == {"steps": 7}
    assert torch.equal(paint(again), paint(make_decoder()))


def test_a_checkpoint_from_before_there_were_layouts_loads_and_paints_the_same(checkpoint: Path) -> None:
    options = dict(make_decoder().unet.config)
    del options["layout"]
    old = load_decoder(altered(checkpoint, unet=options))
    assert old.unet.config["layout"] == 0
    assert torch.equal(paint(old), paint(make_decoder()))


def test_a_decoder_with_layouts_comes_back(tmp_path: Path) -> None:
    unet = CLIPCondUNet(DIM, base=8, ch_mult=(1, 2), num_res_blocks=1, patch=2, layout=5)
    assert unet.layout_proj is not None
    nn.init.normal_(unet.layout_proj.weight)
    save_decoder(tmp_path / "x.pt", make_decoder(unet=unet))
    again = load_decoder(tmp_path / "x.pt").unet
    assert again.layout_proj is not None
    assert torch.equal(again.layout_proj.weight, unet.layout_proj.weight)


def test_float16_halves_the_file_and_comes_back_as_float32(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.pt"
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
        save_decoder(tmp_path / "x.pt", make_decoder(), dtype=torch.bfloat16)
    assert list(tmp_path.iterdir()) == []


def test_saving_that_fails_leaves_the_old_file(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        save_decoder(checkpoint, make_decoder(), extra={"function": lambda: 0})
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": make_space(7)}, "vectors of 6 numbers, those of test-model.* have 7"),
        ({"image_size": 18}, "image size is 18; .* multiples of 4"),
        ({"image_size": 0}, "image size is 0"),
        ({"unet": CLIPCondUNet(DIM, base=4, ch_mult=(1,), in_channels=1)}, "1 channels"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_decoder(**changes)


class Payload:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_refused_and_not_run(checkpoint: Path, tmp_path: Path) -> None:
    victim = tmp_path / "ran"
    altered(checkpoint, extra={"x": Payload(victim)})
    assert "nothing in it was run" in refusal(checkpoint)
    assert not victim.exists()
    # The same file does run its code for a reader that trusts it, so the refusal is what stopped it.
    torch.load(checkpoint, weights_only=False)
    assert victim.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    victim, path = tmp_path / "ran", tmp_path / "x.pt"
    path.write_bytes(pickle.dumps({"format": Payload(victim)}))
    assert "not a decoder checkpoint" in refusal(path)
    assert not victim.exists()


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\x03\x04", b"PK\x03\x04" + b"\0" * 500, b"\x89PNG\r\n\x1a\n" * 50]
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(data)
    refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.pt")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(checkpoint: Path, part: float) -> None:
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(len(data) * part)])
    refusal(checkpoint)


def test_flipped_bits_in_the_weights_are_refused(checkpoint: Path) -> None:
    data = bytearray(checkpoint.read_bytes())
    weights = load_decoder(checkpoint).unet.state_dict()
    at = data.find(weights["time_mlp.2.weight"].numpy().tobytes())
    assert at > 0
    data[at + 1000] ^= 0x40
    checkpoint.write_bytes(bytes(data))
    assert "checksum" in refusal(checkpoint)


@pytest.mark.parametrize(
    "name", ["unet", "scheduler", "space", "image_size", "weights", "upsampler", "extra"]
)
def test_a_missing_or_odd_field_is_named(checkpoint: Path, name: str) -> None:
    content = torch.load(checkpoint, weights_only=True)
    assert name in refusal(altered(checkpoint, **{name: None}))
    assert name in refusal(altered(checkpoint, **content | {name: "text"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something else"}, "not a decoder checkpoint"),
        ({"format": None}, "not a decoder checkpoint"),
        ({"version": 3}, "version 3; this program reads 1 and 2"),
        ({"upsampler": {"channels": 6}}, "channels is 6"),
        ({"upsampler": {"depth": 6}}, "depth"),
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
    checkpoint: Path, changes: dict[str, Any], message: str
) -> None:
    assert message in refusal(altered(checkpoint, **changes))


def test_a_file_that_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "x.pt")
    assert "not a decoder checkpoint" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "replacement", [None, torch.zeros(3), "text", torch.zeros(8, 12, 3, 3, dtype=torch.int64)]
)
def test_weights_must_be_all_there_and_of_the_right_shape(checkpoint: Path, replacement: Any) -> None:
    weights = torch.load(checkpoint, weights_only=True)["weights"]
    assert weights["stem.weight"].shape == (8, 12, 3, 3)
    weights["stem.weight"] = replacement
    if replacement is None:
        del weights["stem.weight"]
    assert "'stem.weight'" in refusal(altered(checkpoint, weights=weights))


def test_weights_of_another_network_are_refused(checkpoint: Path) -> None:
    weights = torch.load(checkpoint, weights_only=True)["weights"] | {"surplus": torch.zeros(1)}
    assert "'surplus'" in refusal(altered(checkpoint, weights=weights))


def test_an_upsampler_comes_back(tmp_path: Path) -> None:
    upsampler = Upsampler(channels=8, blocks=1)
    torch.nn.init.normal_(upsampler.head.weight)
    save_decoder(tmp_path / "decoder.pt", make_decoder(upsampler=upsampler))
    loaded = load_decoder(tmp_path / "decoder.pt")
    pictures = torch.rand(2, 3, 8, 8)
    assert loaded.upsampler is not None
    with torch.no_grad():
        torch.testing.assert_close(loaded.upsampler(pictures), upsampler(pictures))


def test_a_file_of_version_1_has_no_upsampler(checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    del content["upsampler"], content["upsampler_weights"], content["unet"]["residual_gain"]
    torch.save(content | {"version": 1}, tmp_path / "old.pt")
    old = load_decoder(tmp_path / "old.pt")
    assert old.upsampler is None
    torch.testing.assert_close(paint(old), paint(load_decoder(checkpoint)))


def test_a_network_with_residual_and_shrinkage_comes_back(tmp_path: Path) -> None:
    scheduler = NoiseScheduler(100, "linear", "v", zero_terminal_snr=True)
    unet = CLIPCondUNet(
        DIM,
        base=8,
        ch_mult=(1, 2),
        num_res_blocks=1,
        patch=2,
        layout=8,
        residual_gain=3.0,
        shrinkage=scheduler.to_config(),
    )
    torch.nn.init.normal_(unet.head.weight, std=0.1)
    decoder = make_decoder(unet=unet)
    save_decoder(tmp_path / "decoder.pt", decoder)
    loaded = load_decoder(tmp_path / "decoder.pt")
    assert loaded.unet.config == unet.config
    torch.testing.assert_close(paint(loaded), paint(decoder))


def test_a_network_made_for_another_schedule_is_refused() -> None:
    other = NoiseScheduler(100, "cosine", "v", zero_terminal_snr=True)
    unet = CLIPCondUNet(DIM, base=8, ch_mult=(1, 2), num_res_blocks=1, patch=2, shrinkage=other.to_config())
    with pytest.raises(ConfigError, match="another noise schedule"):
        make_decoder(unet=unet)
