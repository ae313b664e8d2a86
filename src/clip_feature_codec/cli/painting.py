"""The options about painting; their defaults are those of `PaintOptions`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from clip_feature_codec.cli.common import stack
from clip_feature_codec.decoders.options import MAX_SIZE, OUR_SAMPLING, PaintOptions
from clip_feature_codec.diffusion.plans import SAMPLERS

_DEFAULT = PaintOptions()

sampling_options = stack(
    click.option(
        "--sampler",
        type=click.Choice(SAMPLERS),
        help="How noise becomes a picture. [default: the decoder's own way; ddim where there is an --eta]",
    ),
    click.option(
        "--eta", type=click.FloatRange(0, 1), help="Noise that DDIM adds, 0: deterministic, 1: as DDPM."
    ),
    click.option(
        "--guidance",
        type=float,
        help="Classifier-free guidance; 1 is none. "
        f"[default: the decoder's own; {OUR_SAMPLING.guidance:g} for ours]",
    ),
    click.option(
        "--fidelity",
        type=click.FloatRange(0, 1),
        default=_DEFAULT.fidelity,
        show_default=True,
        help="0: sharp and invented; 1: smooth and nearest to the original.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=_DEFAULT.seed,
        show_default=True,
        help="Chooses the noise.",
    ),
    click.option(
        "--size",
        type=click.IntRange(1, MAX_SIZE),
        default=_DEFAULT.size,
        show_default=True,
        help="Longer side in pixels.",
    ),
    click.option("--square", is_flag=True, help="Give out the square canvas, not the picture's own shape."),
    click.option(
        "--match-layout", is_flag=True, help="Give what is painted the low frequencies of the layout layer."
    ),
)
paint_options = stack(
    click.option(
        "--steps",
        type=click.IntRange(min=1),
        help=f"Network evaluations. [default: the decoder's own; {OUR_SAMPLING.steps} for ours]",
    ),
    sampling_options,
)


def make_paint_options(options: dict[str, Any]) -> PaintOptions:
    """Take the values of `paint_options` out of ``options``."""
    return PaintOptions.of(**{field.name: options.pop(field.name) for field in fields(PaintOptions)})
