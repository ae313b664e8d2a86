"""Parts of the mini pack's recipe that its dry run cannot tell right from wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import timm
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes" / "mini"))
from data import Pictures, Shards
from teacher import fold_norms, known_classes, unfold_norms


def lively_network() -> torch.nn.Module:
    """A MobileNetV2 whose batch norms do something."""
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_100", num_classes=10)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def test_folded_norms_and_norms_again_are_the_same_function() -> None:
    network, pictures = lively_network(), torch.rand(2, 3, 64, 64) * 2 - 1
    wanted = network(pictures)
    fold_norms(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(network(pictures), wanted, rtol=1e-3, atol=1e-3)
    again = timm.create_model("mobilenetv2_100", num_classes=10).eval()
    unfold_norms(network.state_dict(), again)
    again.classifier.load_state_dict(network.classifier.state_dict())
    torch.testing.assert_close(again(pictures), wanted, rtol=1e-3, atol=1e-3)


def test_a_name_of_two_classes_names_none_unless_all_its_synonyms_are_there() -> None:
    names = [["crane"], ["crane", "lifting gear"], ["tench", "Tinca tinca"]]
    synonyms = {"crane": ["crane", "lifting gear"], "tinca tinca": ["tinca tinca"], "hat": ["hat"]}
    pictures = Pictures(np.zeros((3, 1, 1, 3), np.uint8), list(synonyms), synonyms)
    assert known_classes(pictures, names).tolist() == [1, 2, -1]
    ambiguous = Pictures(pictures.images[:1], ["crane"], {"crane": ["crane"]})
    assert known_classes(ambiguous, names).tolist() == [-1]


def test_shards_are_read_as_one_and_only_where_all_arrays_are_there(tmp_path: Path) -> None:
    for shard, rows in enumerate((3, 2, 4)):
        np.save(tmp_path / f"00{shard}-a.npy", np.arange(rows) + 10 * shard)
        if shard != 1:
            np.save(tmp_path / f"00{shard}-b.npy", np.arange(rows) + 100 * shard)
    shards = Shards(tmp_path, ("a", "b"), torch.device("cpu"))
    assert len(shards) == 7
    taken = shards.take(np.array([6, 0, 3]))
    assert taken["a"].tolist() == [23, 0, 20]
    assert taken["b"].tolist() == [203, 0, 200]
