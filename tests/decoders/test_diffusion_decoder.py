from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoder_samples import DIM, make_decoder, make_space

from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.decoders.conditions import Conditions
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.diffusion.unet import CLIPCondUNet
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": make_space(7)}, "vectors of 6 numbers, those of test-model.* have 7"),
        ({"image_size": 18}, "image size is 18; .* multiples of 4"),
        ({"image_size": 0}, "image size is 0"),
        ({"unet": CLIPCondUNet(UNetConfig(DIM, base=4, ch_mult=(1,), in_channels=1))}, "1 channels"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_decoder(**changes)


def test_a_network_made_for_another_schedule_is_refused() -> None:
    other = NoiseScheduler(100, "cosine", "v", zero_terminal_snr=True)
    unet = CLIPCondUNet(UNetConfig(DIM, base=8, num_res_blocks=1, shrinkage=other.to_config()))
    with pytest.raises(ConfigError, match="another noise schedule"):
        make_decoder(unet=unet)


def with_changed_weight(decoder: DiffusionDecoder, part: str) -> DiffusionDecoder:
    """The same with the least change of one weight."""
    network = getattr(decoder, part)
    bias = next(value for name, value in network.named_parameters() if name.endswith("bias"))
    with torch.no_grad():
        bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    return decoder


def test_the_identity_covers_all_that_decides_a_pixel() -> None:
    """Fault 6: it knew nothing of the upsampler, so that resumed work could mix two decoders."""
    torch.manual_seed(0)
    upsampler = Upsampler(channels=8, blocks=1)
    state = {name: value.clone() for name, value in upsampler.state_dict().items()}

    def upsampled(blocks: int = 1) -> DiffusionDecoder:
        again = Upsampler(channels=8, blocks=blocks)
        again.load_state_dict(state, strict=False)
        return make_decoder(upsampler=again)

    linear = NoiseScheduler(100, "linear", "v", zero_terminal_snr=True)
    layout = UNetConfig(DIM, base=8, ch_mult=(1, 2), num_res_blocks=1, patch=2, layout=6)
    gained = replace(layout, residual_gain=3.0)
    same_weights = CLIPCondUNet(layout), CLIPCondUNet(gained)
    same_weights[1].load_state_dict(same_weights[0].state_dict())
    others = [
        make_decoder(),
        upsampled(),
        upsampled(blocks=2),
        with_changed_weight(make_decoder(), "unet"),
        with_changed_weight(upsampled(), "upsampler"),
        make_decoder(image_size=32),
        make_decoder(scheduler=NoiseScheduler(101, "linear", "v", zero_terminal_snr=True)),
        make_decoder(scheduler=NoiseScheduler(100, "cosine", "v", zero_terminal_snr=True)),
        make_decoder(scheduler=NoiseScheduler(100, "linear", "v")),
        make_decoder(scheduler=NoiseScheduler(100, "linear")),
        *(make_decoder(unet=unet) for unet in same_weights),
    ]
    found = [decoder.identity() for decoder in others]
    assert len(set(found)) == len(found)
    assert make_decoder(scheduler=linear).identity() == found[0]
    assert upsampled().identity() == found[1]


def test_the_identity_is_that_of_the_pixels_and_not_of_the_file(tmp_path: Path) -> None:
    decoder = make_decoder()
    save_decoder(tmp_path / "a", decoder)
    save_decoder(tmp_path / "b", decoder, extra={"steps": 7})
    save_decoder(tmp_path / "half", decoder, dtype=torch.float16)
    named = replace(decoder.space, model="another name")
    first, second, half = (load_decoder(tmp_path / name).identity() for name in ("a", "b", "half"))
    assert first == second == decoder.identity() == make_decoder(space=named).identity() != half


def test_the_rest_of_the_program_sees_what_it_needs() -> None:
    decoder = make_decoder()
    assert (decoder.layout_side, decoder.image_size, decoder.has_fidelity) == (0, 16, True)
    assert not make_decoder(scheduler=NoiseScheduler(100, "linear", "v")).has_fidelity
    config = UNetConfig(DIM, base=8, ch_mult=(1, 2), num_res_blocks=1, patch=2, layout=6)
    assert make_decoder(unet=CLIPCondUNet(config)).layout_side == 6


def test_weights_are_handed_on_to_a_network_that_takes_layouts_as_well() -> None:
    decoder = make_decoder()
    config = replace(decoder.unet.config, layout=6)
    unet = CLIPCondUNet(config)
    projection = unet.state_dict()["layout_proj.weight"]
    weights = decoder.weights_for(unet, decoder.scheduler)
    assert weights.keys() == unet.state_dict().keys()
    assert torch.equal(weights["layout_proj.weight"], projection)
    assert all(torch.equal(value, weights[name]) for name, value in decoder.unet.state_dict().items())
    with pytest.raises(ConfigError, match="has patch: 2, not 1: take the same"):
        decoder.weights_for(CLIPCondUNet(replace(config, patch=1)), decoder.scheduler)
    with pytest.raises(ConfigError, match="has schedule: 'linear', not 'cosine'"):
        decoder.weights_for(unet, NoiseScheduler(100, "cosine", "v", zero_terminal_snr=True))


def test_the_network_is_told_of_the_layouts_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    forward = CLIPCondUNet.forward

    def listening(unet: CLIPCondUNet, *arguments: torch.Tensor) -> torch.Tensor:
        told.append(arguments[3] if len(arguments) > 3 else None)
        return forward(unet, *arguments)

    monkeypatch.setattr(CLIPCondUNet, "forward", listening)
    config = UNetConfig(DIM, base=8, ch_mult=(1, 2), num_res_blocks=1, patch=2, layout=6)
    decoder = make_decoder(unet=CLIPCondUNet(config))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), dtype=np.uint8)
    vectors, options = np.zeros((2, DIM), np.float32), PaintOptions(steps=1, guidance=1.0)
    for present in ([True, False], [False, False]):
        conditions = Conditions(vectors, pictures, np.array(present), np.ones(2), 0)
        painted = decoder.paint(conditions, options, [b"a", b"b"])
        assert [picture.size for picture in painted] == [(16, 16)] * 2
    planes, none = told
    assert planes is not None
    assert none is None
    colours = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(planes[0], torch.cat([colours[0], torch.ones(1, 6, 6)]))
    assert not planes[1].any()
