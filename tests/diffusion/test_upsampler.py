from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import ConfigError


def test_untrained_it_is_bicubic_interpolation() -> None:
    pictures = torch.rand(2, 3, 8, 12) * 2 - 1
    with torch.no_grad():
        found = Upsampler(channels=8, blocks=2)(pictures)
    torch.testing.assert_close(found, F.interpolate(pictures, scale_factor=4.0, mode="bicubic"))


def test_it_can_learn_detail_that_interpolation_lacks() -> None:
    torch.manual_seed(0)
    upsampler = Upsampler(channels=16, blocks=1)
    # Checkerboards whose strength is the small picture's brightness: nothing that interpolation can paint.
    small = torch.rand(8, 1, 1, 1).expand(8, 3, 4, 4)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    wanted = (small.mean((1, 2, 3), keepdim=True) * board).expand(8, 3, 16, 16)
    optimizer = torch.optim.Adam(upsampler.parameters(), lr=3e-3)
    first = last = 0.0
    for step in range(150):
        loss = F.mse_loss(upsampler(small), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last = loss.item()
        first = first if step else last
    assert last < 0.05 * first


def test_untrained_it_heeds_no_vector_and_then_it_can() -> None:
    torch.manual_seed(0)
    upsampler, plain = Upsampler(channels=8, blocks=1, dim=3), Upsampler(channels=8, blocks=1)
    pictures, vectors = torch.rand(2, 3, 4, 4), torch.eye(3)[:2]
    torch.nn.init.normal_(plain.head.weight)
    torch.nn.init.normal_(plain.blocks[0].conv2.weight)
    upsampler.load_state_dict(upsampler.state_dict() | plain.state_dict())
    with torch.no_grad():
        wanted = plain(pictures)
        torch.testing.assert_close(upsampler(pictures, vectors), wanted)
        torch.nn.init.normal_(upsampler.blocks[0].film.project.weight)
        assert (upsampler(pictures, vectors) - wanted).abs().max() > 0.1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"channels": 0}, "channels"),
        ({"channels": 6}, "channels"),
        ({"channels": 2**30}, "channels"),
        ({"channels": 8.0}, "channels"),
        ({"blocks": -1}, "blocks"),
        ({"blocks": True}, "blocks"),
        ({"blocks": 10**6}, "blocks"),
        ({"dim": -1}, "dim"),
        ({"dim": 3.0}, "dim"),
        ({"dim": 10**9}, "dim"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(options: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Upsampler(**options)
