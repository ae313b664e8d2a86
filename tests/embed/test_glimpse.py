"""An image tower with a glimpse: its features end with the picture itself."""

from __future__ import annotations

import timm
import torch

from clip_feature_codec.embed.openclip.glimpse import SIDE


def test_features_are_the_network_s_own_and_then_the_picture_made_small() -> None:
    network = timm.create_model("mobilenetv2_glimpse").eval()
    network.reset_classifier(0, global_pool="avg")
    pictures = torch.rand(2, 3, 4 * SIDE, 4 * SIDE)
    with torch.no_grad():
        features = network(pictures)
        own = network.network(pictures)
    assert features.shape == (2, network.num_features)
    torch.testing.assert_close(features[:, : own.shape[1]], own)
    blocks = pictures.view(2, 3, SIDE, 4, SIDE, 4).mean((3, 5))
    torch.testing.assert_close(features[:, own.shape[1] :].view(2, 3, SIDE, SIDE), blocks)
