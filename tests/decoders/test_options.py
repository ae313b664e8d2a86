from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import pytest

from clip_feature_codec.decoders.options import PaintKeywords, PaintOptions, Sampling
from clip_feature_codec.errors import ConfigError


def test_the_keywords_are_the_fields() -> None:
    assert list(get_type_hints(PaintKeywords)) == [field.name for field in fields(PaintOptions)]


def test_what_is_left_out_has_its_default() -> None:
    assert PaintOptions.of() == PaintOptions.of(sampler=None, eta=None) == PaintOptions()
    assert PaintOptions.of(steps=3, size=64) == PaintOptions(steps=3, size=64)


def test_an_eta_alone_chooses_ddim() -> None:
    assert PaintOptions.of(eta=0.0).sampler == "ddim"
    assert PaintOptions.of(eta=0.5) == PaintOptions(sampler="ddim", eta=0.5)
    assert PaintOptions.of(sampler="ddim") == PaintOptions(sampler="ddim", eta=0.0)
    assert PaintOptions.of(sampler="dpm-solver++", eta=0.0) == PaintOptions(sampler="dpm-solver++")
    with pytest.raises(ConfigError, match=r"eta is 0.5; dpm-solver\+\+ adds no noise: take the sampler ddim"):
        PaintOptions.of(sampler="dpm-solver++", eta=0.5)


def test_what_is_not_chosen_is_left_to_the_decoder() -> None:
    usual = Sampling(steps=30, guidance=7.5, sampler=None)
    assert PaintOptions().sampling(usual) == usual
    chosen = PaintOptions(steps=4, sampler="ddim", eta=0.5, seed=3).settled(usual)
    assert chosen == PaintOptions(steps=4, sampler="ddim", eta=0.5, guidance=7.5, seed=3)
    assert PaintOptions(guidance=0.0).sampling(usual).guidance == 0.0


def test_numpy_s_numbers_become_plain_ones() -> None:
    options = PaintOptions(steps=np.int64(3), size=np.uint16(64), guidance=np.float32(1.5), fidelity=1)  # type: ignore[arg-type]
    assert options == PaintOptions(steps=3, size=64, guidance=1.5, fidelity=1.0)
    assert {type(value) for value in (options.steps, options.size)} == {int}
    assert {type(value) for value in (options.guidance, options.fidelity)} == {float}


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("steps", 2.5, "a whole number of at least 1"),
        ("steps", 2.0, "a whole number of at least 1"),
        ("steps", "8", "a whole number of at least 1"),
        ("steps", True, "a whole number of at least 1"),
        ("steps", 0, "a whole number of at least 1"),
        ("size", 0, "a whole number from 1 to 8192"),
        ("size", 8193, "a whole number from 1 to 8192"),
        ("size", 64.5, "a whole number from 1 to 8192"),
        ("seed", -1, "a whole number from 0 to 9223372036854775807"),
        ("seed", 2**63, "a whole number from 0 to 9223372036854775807"),
        ("seed", 0.5, "a whole number from 0 to 9223372036854775807"),
        ("eta", 1.5, "a number from 0 to 1"),
        ("eta", float("nan"), "a number from 0 to 1"),
        ("fidelity", -0.1, "a number from 0 to 1"),
        ("fidelity", 1.1, "a number from 0 to 1"),
        ("fidelity", float("nan"), "a number from 0 to 1"),
        ("fidelity", "0.5", "a number from 0 to 1"),
        ("fidelity", False, "a number from 0 to 1"),
        ("guidance", float("inf"), "a finite number"),
        ("guidance", 10**400, "a finite number"),
        ("guidance", 2 + 0j, "a finite number"),
        ("sampler", "euler", "dpm-solver++ or ddim"),
        ("sampler", 3, "dpm-solver++ or ddim"),
        ("square", 1, "True or False"),
        ("square", "no", "True or False"),
    ],
)
def test_options_are_checked_when_they_are_made(option: str, value: Any, expected: str) -> None:
    """Fault 15: ``steps=2.5`` and its like ended in errors from deep inside."""
    with pytest.raises(ConfigError) as caught:
        PaintOptions(**{option: value})
    assert str(caught.value) == f"{option} is {value!r}; it must be {expected}"
