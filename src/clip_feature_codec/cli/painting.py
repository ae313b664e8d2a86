"""The options about painting; their defaults are those of `PaintOptions`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from clip_feature_codec.cli.common import stack
from clip_feature_codec.decoders.options import MAX_SIZE, PaintOptions
from clip_feature_codec.diffusion.plans import SAMPLERS

_DEFAULT = PaintOptions()

sampling_options = stack(
    click.option(
        "--sampler",
        type=click.Choice(SAMPLERS),
        help=f"How noise becomes a picture. [default: {_DEFAULT.sampler}; ddim where there is an --eta]",
    ),
    click.option(
        "--eta", type=click.FloatRange(0, 1), help="Noise that DDIM adds, 0: deterministic, 1: as DDPM."
    ),
    click.option(
        "--guidance",
        type=float,
        default=_DEFAULT.guidance,
        show_default=True,
        help="Classifier-free guidance; 1 is none.",
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
)
paint_options = stack(
    click.option(
        "--steps",
        type=click.IntRange(min=1),
        default=_DEFAULT.steps,
        show_default=True,
        help="Network evaluations.",
    ),
    sampling_options,
)


def make_paint_options(options: dict[str, Any]) -> PaintOptions:
    """Take the values of `paint_options` out of ``options``."""
    return PaintOptions.of(**{field.name: options.pop(field.name) for field in fields(PaintOptions)})
