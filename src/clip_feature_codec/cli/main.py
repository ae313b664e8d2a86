"""The console command ``clip-codec``."""

from __future__ import annotations

import click

from clip_feature_codec import __version__
from clip_feature_codec.cli.command import Group
from clip_feature_codec.cli.compare import compare
from clip_feature_codec.cli.demo import demo
from clip_feature_codec.cli.encode_images import encode
from clip_feature_codec.cli.eval import evaluate
from clip_feature_codec.cli.fit import fit
from clip_feature_codec.cli.info import info
from clip_feature_codec.cli.prune import prune
from clip_feature_codec.cli.reconstruct_diffusion import decode
from clip_feature_codec.cli.same import same
from clip_feature_codec.cli.search import search
from clip_feature_codec.cli.train import train
from clip_feature_codec.cli.transcode import transcode


@click.group(cls=Group)
@click.version_option(__version__, package_name="clip-feature-codec")
def main() -> None:
    """Pictures as CLIP features in a few hundred bytes, painted again by a diffusion model."""


for command in (encode, decode, info, search, transcode, prune, fit, same, train, evaluate, compare, demo):
    main.add_command(command)
