from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.painting import make_paint_options, paint_options
from clip_feature_codec.decoders.options import PaintOptions


@click.command(cls=Command)
@paint_options
def show(**options: Any) -> None:
    chosen = make_paint_options(options)
    assert not options
    click.echo(asdict(chosen))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(show, arguments)


def shown(options: PaintOptions) -> str:
    return f"{asdict(options)}\n"


def test_what_is_not_given_has_the_default_of_the_library() -> None:
    assert run().stdout == shown(PaintOptions())


def test_every_option_arrives() -> None:
    given = "--steps 3 --sampler ddim --eta 0.5 --guidance 1.5 --fidelity 0.25 --seed 7 --size 64 --square"
    expected = PaintOptions(3, "ddim", 0.5, 1.5, 0.25, 7, 64, True)
    assert run(*given.split()).stdout == shown(expected)


def test_an_eta_alone_is_ddim_as_in_the_specification() -> None:
    assert run("--steps", "50", "--eta", "0.0").stdout == shown(PaintOptions(steps=50, sampler="ddim"))
    assert run("--sampler", "ddim").stdout == shown(PaintOptions(sampler="ddim"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--steps 2.5", "'2.5' is not a whole number"),
        ("--steps 0", "0 is not in the range"),
        ("--sampler euler", "'euler' is not one of 'dpm-solver++', 'ddim'"),
        ("--sampler dpm-solver++ --eta 0.5", "eta is 0.5; dpm-solver++ adds no noise: take the sampler ddim"),
        ("--guidance nan", "guidance is nan; it must be a finite number"),
        ("--seed 9223372036854775808", "it must be a whole number from 0 to 9223372036854775807"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(arguments: str, said: str) -> None:
    """Fault 15."""
    done = run(*arguments.split())
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
