"""What holds of every pipeline as a decoder, on tiny ones of the real classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from made_pipelines import Made
from PIL import Image
from tiny_pipelines import CASCADE_SIDE, SIDE, cascade_by_hand, feature_extractor, image_encoder

from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.decoders.conditions import Conditions
from clip_feature_codec.decoders.loading import open_decoder
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.diffusion.noise import noise_seeds
from clip_feature_codec.embed import load_embedder
from clip_feature_codec.errors import ConfigError, SpaceMismatchError
from clip_feature_codec.images import load_image, output_size
from clip_feature_codec.reconstruct import paint
from clip_feature_codec.store.opening import open_store
from samples import make_picture

QUICK = PaintOptions(steps=2, size=48)
BEGUN = ("kandinsky", "ip_adapter", "lcm", "ip_adapter_xl")
"""Kinds whose sampling begins with the layout."""


def streams_of(made: Made) -> tuple[Any, list[Stream]]:
    store = open_store(made.store)
    return store.codec, [stream for _, stream in store.whole_streams([])]


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.int64)


def painted(
    made: Made, options: PaintOptions = QUICK, rows: slice = slice(2), **others: Any
) -> list[np.ndarray]:
    codec, streams = streams_of(made)
    decoder = others.pop("decoder", None) or open_decoder(made.name, "cpu")
    return [pixels(picture) for picture in paint(streams[rows], codec, decoder, options, **others)]


def spy(decoder: Any, name: str = "call") -> list[Any]:
    """The first arguments that a method of an object is called with from now on."""
    seen, method = [], getattr(decoder, name)

    def noted(first: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(first)
        return method(first, *args, **kwargs)

    setattr(decoder, name, noted)
    return seen


def encoded_by_hand(picture: Image.Image) -> torch.Tensor:
    """A picture's embedding (1, D) by the tower of all tiny pipelines, as transformers gives it."""
    with torch.no_grad():
        return image_encoder()(feature_extractor()(picture, return_tensors="pt").pixel_values).image_embeds


def called_by_hand(
    made: Made, embed: torch.Tensor, generator: torch.Generator, steps: int, guidance: float
) -> Image.Image:
    """What a pipeline paints that was loaded and called as diffusers' documentation says."""
    folder, _, adapter = made.name.partition("+")
    common = {"generator": generator, "num_inference_steps": steps, "guidance_scale": guidance}
    if made.kind == "unclip":
        pipeline = diffusers.StableUnCLIPImg2ImgPipeline.from_pretrained(folder)
        return pipeline(image_embeds=embed, prompt="", **common).images[0]
    if made.kind == "kandinsky":
        with torch.no_grad():
            nothing = image_encoder()(torch.zeros(1, 3, 32, 32)).image_embeds
        pipeline = diffusers.KandinskyV22Pipeline.from_pretrained(folder)
        embeds = {"image_embeds": embed, "negative_image_embeds": nothing}
        return pipeline(**embeds, height=SIDE, width=SIDE, **common).images[0]
    if made.kind == "cascade":
        prior, decoder = cascade_by_hand(Path(folder))
        first = prior(image_embeds=embed[None], prompt="", height=CASCADE_SIDE, width=CASCADE_SIDE, **common)
        last = common | {"num_inference_steps": 1, "guidance_scale": 0.0}
        return decoder(image_embeddings=first.image_embeddings, prompt="", **last).images[0]
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.load_ip_adapter(
        str(Path(adapter).parent), subfolder="", weight_name=Path(adapter).name, image_encoder_folder=None
    )
    given = embed if made.kind == "lcm" else torch.cat([torch.zeros_like(embed), embed])
    return pipeline(prompt="", ip_adapter_image_embeds=[given[:, None]], **common).images[0]


def test_pictures_have_their_shapes_and_depend_on_the_seed_and_the_vector_alone(pipeline: Made) -> None:
    _, streams = streams_of(pipeline)
    first, other = painted(pipeline)
    assert [first.shape[1::-1], other.shape[1::-1]] == [output_size(s.aspect, 48) for s in streams[:2]]
    again, _ = painted(pipeline)
    assert (again == first).all()
    (seeded,) = painted(pipeline, replace(QUICK, seed=1), slice(1))
    assert np.abs(seeded - first).max() > 5


def test_a_picture_does_not_depend_on_its_batch(pipeline: Made) -> None:
    decoder = open_decoder(pipeline.name, "cpu")
    few = slice(2) if pipeline.kind == "cascade" else slice(4)
    alone = painted(pipeline, rows=few, decoder=decoder, batch_size=1)
    together = painted(pipeline, rows=few, decoder=decoder)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 1


def test_the_pipeline_is_fed_what_its_own_encoder_gives_to_the_quantisation_s_error(pipeline: Made) -> None:
    """The length that coding takes from an embedding is given back."""
    codec, streams = streams_of(pipeline)
    decoder = open_decoder(pipeline.name, "cpu")
    requests = spy(decoder)
    list(paint(streams, codec, decoder, QUICK))
    fed = torch.cat([request.embeds for request in requests]).numpy()
    tower = load_embedder(pipeline.name, device="cpu")
    pictures = [load_image(pipeline.photos / f"p{i}.png") for i in range(4)]
    with torch.no_grad():
        own = tower.image_embeds(torch.from_numpy(np.stack([*map(tower.preprocess, pictures)]))).numpy()
    lengths = np.linalg.norm(own, axis=1)
    assert lengths.mean() > 2  # a unit vector would not do
    assert np.linalg.norm(fed, axis=1) == pytest.approx(lengths.mean(), rel=1e-5)
    cosines = (fed * own).sum(axis=1) / np.linalg.norm(fed, axis=1) / lengths
    assert cosines.min() > 0.999
    errors = np.linalg.norm(fed - own, axis=1) / lengths
    assert errors.max() < np.abs(lengths / lengths.mean() - 1).max() + 0.05


def test_the_picture_is_that_of_the_pipeline_called_by_hand_on_the_uncoded_embedding(pipeline: Made) -> None:
    picture, key = make_picture(7, (32, 32)), b"a stream"
    embed = encoded_by_hand(picture)
    length = embed.norm()
    vectors = (embed / length).numpy()
    none = np.zeros(1, np.bool_)
    conditions = Conditions(vectors, None, none, np.ones(1), 0, float(length))
    (ours,) = open_decoder(pipeline.name, "cpu").paint(conditions, PaintOptions(steps=2, guidance=3.0), [key])
    generator = torch.Generator().manual_seed(noise_seeds(0, [key])[0])
    by_hand = called_by_hand(pipeline, embed, generator, steps=2, guidance=3.0)
    assert np.abs(pixels(ours) - pixels(by_hand)).max() <= 1


def there_and_back(decoder: Any, pictures: np.ndarray) -> np.ndarray:
    """What is left of pictures (N, S, S, 3) that the pipeline takes into its latent space and back."""
    parts = decoder.pipelines[0].components
    given = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        if "movq" in parts:
            latents = parts["movq"].encode(given).latents
            back = parts["movq"].decode(latents, force_not_quantize=True).sample
        else:
            back = parts["vae"].decode(parts["vae"].encode(given).latent_dist.mode()).sample
    return ((back.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()


def test_a_layout_is_the_beginning_and_at_fidelity_1_the_picture(pipeline: Made) -> None:
    codec, streams = streams_of(pipeline)
    decoder = open_decoder(pipeline.name, "cpu")
    if pipeline.kind not in BEGUN:
        assert (decoder.layout_side, decoder.has_fidelity) == (0, False)
        with pytest.raises(ConfigError, match="no fidelity"):
            next(paint(streams[:1], codec, decoder, replace(QUICK, fidelity=0.5)))
        return
    side = decoder.image_size
    layouts = codec.layout.render(codec.layouts(streams), side, side)
    target, square = there_and_back(decoder, layouts), replace(QUICK, size=side, square=True, steps=4)
    away = []
    # A consistency model's 50 timesteps leave none for less.
    for fidelity in (0.0, 0.5, 0.9 if pipeline.kind == "lcm" else 0.998):
        pictures = painted(pipeline, replace(square, fidelity=fidelity), slice(4), decoder=decoder)
        away.append(np.abs(np.stack(pictures) - target).mean())
    assert away == sorted(away, reverse=True)
    assert away[-1] < (0.95 if pipeline.kind == "lcm" else 0.85) * away[0]
    pictures = painted(pipeline, replace(square, fidelity=1.0), slice(4), decoder=decoder)
    assert (np.stack(pictures) == layouts).all()


def test_as_many_steps_are_evaluated_as_were_asked_for(pipeline: Made) -> None:
    if pipeline.kind not in BEGUN:
        return
    decoder = open_decoder(pipeline.name, "cpu")
    for fidelity in (0.0, 0.4, 0.75):
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        hook = decoder.pipelines[0].unet.register_forward_pre_hook(count)
        painted(pipeline, replace(QUICK, steps=3, fidelity=fidelity), slice(1), decoder=decoder)
        hook.remove()
        assert calls == 3, fidelity


def test_a_stream_without_a_vector_of_its_own_space_is_refused(
    pipeline: Made, made: Callable[[str], Made]
) -> None:
    codec, streams = streams_of(pipeline)
    foreign = replace(codec, space=replace(codec.space, weights_sha256="ab" * 32, model="other"))
    with pytest.raises(SpaceMismatchError, match="other/folder"):
        next(paint(streams[:1], foreign, open_decoder(pipeline.name, "cpu"), QUICK))


def test_tables_that_know_no_length_are_refused(pipeline: Made) -> None:
    codec, streams = streams_of(pipeline)
    with pytest.raises(ConfigError, match="do not say how long"):
        next(
            paint(streams[:1], replace(codec, vector_length=None), open_decoder(pipeline.name, "cpu"), QUICK)
        )
