from __future__ import annotations

import numpy as np
import pytest
import torch
from train_helpers import DIM, SIZE, SPACE, tiny_config

from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.train.losses import decoder_losses


class LinearEncoder:
    """Stands in for CLIP: a random projection of the picture, normalised."""

    space = SPACE

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.matrix = torch.randn(3 * SIZE * SIZE, DIM, generator=generator)
        self.calls = 0

    def encode_tensor(self, x):
        self.calls += 1
        return torch.nn.functional.normalize(x.flatten(1) @ self.matrix, dim=1)


def drawn(prediction, t=(3, 20, 49), **options):
    scheduler = NoiseScheduler(50, "cosine", prediction, prediction == "v")
    random = torch.Generator().manual_seed(1)
    shape = (3, 3, SIZE, SIZE)
    x0 = torch.rand(shape, generator=random) * 2 - 1
    noise, output = torch.randn(shape, generator=random), torch.randn(shape, generator=random)
    z = torch.nn.functional.normalize(torch.randn(3, DIM, generator=random), dim=1)
    t = torch.tensor(t)
    base = torch.rand(shape, generator=random) - 0.5
    residual = Residual(base, torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1))
    x_t = scheduler.q_sample(residual.of(x0), t, noise)
    arguments = {"x0": x0, "x_t": x_t, "residual": residual, "noise": noise, "t": t, "z": z}
    config = tiny_config(prediction=prediction, zero_terminal_snr=prediction == "v", **options)
    return output, {**arguments, "scheduler": scheduler, "config": config}


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_agrees_with_formulas_written_out_in_float64(prediction):
    output, given = drawn(prediction, recon_w=0.3, tv_w=0.2, clip_w=0.5)
    encoder = LinearEncoder()
    losses = decoder_losses(output, clip=encoder, **given)

    x0, noise, x_t, f = (v.double().numpy() for v in (given["x0"], given["noise"], given["x_t"], output))
    bar = given["scheduler"].alphas_cumprod[given["t"].numpy()]
    a, s = np.sqrt(bar)[:, None, None, None], np.sqrt(1 - bar)[:, None, None, None]
    base, gain = given["residual"].base.double().numpy(), np.array([1.0, 2.0, 3.0])[:, None, None, None]
    target = noise if prediction == "epsilon" else a * noise - s * (x0 - base) * gain
    guess = (x_t - s * f) / a if prediction == "epsilon" else a * x_t - s * f
    guess = guess / gain + base
    recon = np.mean([b * np.abs(g - x).mean() for b, g, x in zip(bar, guess, x0, strict=True)])
    variations = [np.abs(np.diff(g, axis=1)).mean() + np.abs(np.diff(g, axis=2)).mean() for g in guess]
    v = np.clip(guess, -1, 1).reshape(3, -1) @ encoder.matrix.double().numpy()
    cosines = (v / np.linalg.norm(v, axis=1, keepdims=True) * given["z"].double().numpy()).sum(axis=1)

    expected = {
        "mse": ((f - target) ** 2).mean(),
        "recon": recon,
        "tv": np.mean(bar * variations),
        "clip": np.mean(bar * (1 - cosines)),
    }
    assert losses.keys() == {*expected, "total"}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    total = sum(w * expected[n] for n, w in {"mse": 1, "recon": 0.3, "tv": 0.2, "clip": 0.5}.items())
    assert losses["total"].item() == pytest.approx(total, rel=1e-4)


def test_a_weight_of_zero_leaves_the_term_out():
    output, given = drawn("v", recon_w=0.0, tv_w=0.0, clip_w=0.0)
    encoder = LinearEncoder()
    losses = decoder_losses(output, clip=encoder, **given)
    assert losses.keys() == {"mse", "total"}
    assert losses["total"] == losses["mse"]
    assert encoder.calls == 0


def test_pure_noise_has_no_say_in_pixel_space():
    output, given = drawn("v", t=(49, 49, 49), recon_w=1.0, tv_w=1.0, clip_w=1.0)
    losses = decoder_losses(output, clip=LinearEncoder(), **given)
    assert [losses[name].item() for name in ("recon", "tv", "clip")] == [0.0, 0.0, 0.0]


def test_a_picture_without_a_vector_adds_nothing_to_the_clip_term():
    output, given = drawn("v", recon_w=0.0, tv_w=0.0, clip_w=1.0)
    whole = decoder_losses(output, clip=LinearEncoder(), **given)["clip"]
    alone = {name: given[name][:1] for name in ("x0", "x_t", "noise", "t", "z")}
    alone["residual"] = Residual(given["residual"].base[:1], given["residual"].gain[:1])
    first = decoder_losses(output[:1], clip=LinearEncoder(), **{**given, **alone})["clip"]
    given["z"][1:] = 0
    masked = decoder_losses(output, clip=LinearEncoder(), **given)["clip"]
    assert masked.item() == pytest.approx(first.item() / 3)
    assert masked < whole


def test_the_clip_term_reaches_the_output():
    output, given = drawn("v", recon_w=0.0, tv_w=0.0, clip_w=1.0)
    output.requires_grad_()
    decoder_losses(output, clip=LinearEncoder(), **given)["clip"].backward()
    assert output.grad.abs().sum() > 0
