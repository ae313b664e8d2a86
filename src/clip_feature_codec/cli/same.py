"""``clip-codec same``: one CLIP model in two formats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from clip_feature_codec.cli.command import Command
from clip_feature_codec.cli.common import offline_option, quiet_option, remark
from clip_feature_codec.cli.paths import NAMED_PATH


@click.command("same", cls=Command)
@click.argument("source", metavar="STORE", type=NAMED_PATH)
@click.option("--model", required=True, help="The CLIP model that may be the same, as for encode.")
@click.option("--pretrained", help="Weights of --model, as for encode.")
@offline_option
@quiet_option
def same(source: Path, model: str, pretrained: str | None, quiet: bool) -> None:
    """Prove that another CLIP model gives the vectors of a store's, and keep that in the store.

    STORE may be a codec.json by itself. Both models embed probe pictures on the CPU; where all vectors are
    equal, decoders of the one take streams of the other from then on: a pipeline of diffusers, for example,
    streams of the same CLIP in open_clip's format.
    """
    from clip_feature_codec.bundle import Bundle
    from clip_feature_codec.embed import embedder_for, load_embedder
    from clip_feature_codec.embed.probes import prove_same

    bundle = Bundle.find(source)
    codec = bundle.codec
    space, other = codec.space, load_embedder(model, pretrained, "cpu")
    proof = None
    if not space.is_same(other.space):
        proof = prove_same(embedder_for(space, device="cpu"), other)
        replace(codec, space=replace(space, proven=(*space.proven, proof))).save(bundle.codec_file)
    found = (
        f"least cosine {proof.least_cosine:.7f} of {proof.pictures} pictures" if proof else "known already"
    )
    remark(f"{other.space.label} is {space.label} ({found})", quiet)
