"""Files of versions 1 and 2, which ``torch.save`` made."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from decoder_samples import content_of, make_decoder, outputs, refusal, write_archive

from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.diffusion.upsampler import Upsampler


def test_a_file_of_version_2_loads(tmp_path: Path) -> None:
    upsampler = Upsampler(channels=8, blocks=1)
    torch.nn.init.normal_(upsampler.head.weight)
    before = make_decoder(upsampler=upsampler)
    write_archive(tmp_path / "old.pt", content_of(before))
    after = load_decoder(tmp_path / "old.pt")
    assert after.identity() == before.identity()
    assert after.space == before.space
    assert after.extra == {"steps": 7}
    assert torch.equal(outputs(after), outputs(before))


def test_a_file_of_version_1_has_no_upsampler(tmp_path: Path) -> None:
    content = content_of(make_decoder(), version=1, upsampler=None, upsampler_weights=None)
    del content["unet"]["residual_gain"]
    write_archive(tmp_path / "old.pt", content)
    old = load_decoder(tmp_path / "old.pt")
    assert old.upsampler is None
    assert torch.equal(outputs(old), outputs(make_decoder()))


def test_a_file_from_before_there_were_layouts_loads_and_paints_the_same(tmp_path: Path) -> None:
    content = content_of(make_decoder())
    del content["unet"]["layout"]
    write_archive(tmp_path / "old.pt", content)
    old = load_decoder(tmp_path / "old.pt")
    assert old.layout_side == 0
    assert torch.equal(outputs(old), outputs(make_decoder()))


class Payload:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    victim, path = tmp_path / "ran", tmp_path / "old.pt"
    write_archive(path, content_of(make_decoder(), extra={"x": Payload(victim)}))
    assert "nothing in it was run" in refusal(path)
    assert not victim.exists()
    # The same file does run its code for a reader that trusts it, so the refusal is what stopped it.
    torch.load(path, weights_only=False)
    assert victim.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    victim, path = tmp_path / "ran", tmp_path / "x.pt"
    path.write_bytes(pickle.dumps({"format": Payload(victim)}))
    assert "not a decoder checkpoint" in refusal(path)
    assert not victim.exists()


def test_a_file_that_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "x.pt")
    assert "not a decoder checkpoint" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["weights", "upsampler_weights"])
def test_weights_that_are_none_are_named(tmp_path: Path, name: str) -> None:
    for value in (None, "text"):
        write_archive(tmp_path / "x.pt", content_of(make_decoder(), **{name: value}))
        assert name in refusal(tmp_path / "x.pt")
    content = content_of(make_decoder())
    content["weights"]["stem.weight"] = "text"
    write_archive(tmp_path / "x.pt", content)
    assert "'stem.weight' is str" in refusal(tmp_path / "x.pt")
