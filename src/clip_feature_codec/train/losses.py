"""The training objective of the decoder.

Legend: x0 the picture in [-1, 1], x_t its noisy version, a_t = ``alphas_cumprod[t]``, f the network's output,
x0' the picture that follows from (x_t, t, f), z the dequantised unit CLIP vector.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.diffusion.residual import Residual
from clip_feature_codec.diffusion.schedule import NoiseScheduler
from clip_feature_codec.train.config import TrainConfig


class ImageEncoder(Protocol):
    """The part of a `DifferentiableEmbedder` that the CLIP loss needs."""

    @property
    def space(self) -> ClipSpace:
        """The space its vectors live in."""

    def encode_tensor(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] to unit vectors (N, D), differentiable in ``x``."""


def decoder_losses(
    output: Tensor,
    *,
    x0: Tensor,
    x_t: Tensor,
    residual: Residual[Tensor],
    noise: Tensor,
    t: Tensor,
    z: Tensor,
    scheduler: NoiseScheduler,
    config: TrainConfig,
    clip: ImageEncoder | None = None,
) -> dict[str, Tensor]:
    """The loss ``total`` and the terms it is made of, unweighted; scalars.

    ``mse`` is the simple objective of DDPM (Ho et al. 2020, eq. 14), on the scheduler's target. The terms in
    pixel space, ``recon``, ``tv`` and ``clip``, are means of a_t times the picture's own loss: x0' predicted
    from near-pure noise means nothing. A term whose weight in ``config`` is 0 is not computed.

    Args:
        output: the network's output f (N, 3, H, W).
        x0: the pictures, same shape, in [-1, 1].
        x_t: the noisy pictures, or residuals of pictures, that the network saw.
        residual: what those are of.
        noise: the noise in them.
        t: timesteps (N,), int64.
        z: the pictures' unit vectors (N, D), also where the network did not get them; rows of zeros, where
            there is none to compare with, count as perfect.
        scheduler: knows target and x0'.
        config: its ``recon_w``, ``tv_w`` and ``clip_w`` are read.
        clip: frozen encoder; needed when ``clip_w`` is above 0.
    """
    terms = {"mse": F.mse_loss(output, scheduler.target(residual.of(x0), noise, t))}
    weights = {"recon": config.recon_w, "tv": config.tv_w, "clip": config.clip_w}
    if any(weights.values()):
        predicted = residual.picture(scheduler.predict_x0(x_t, t, output))
        trust = x0.new_tensor(scheduler.alphas_cumprod)[t]
        terms |= _picture_terms(predicted, x0, trust, z, config, clip)
    total = terms["mse"]
    for name in [name for name in weights if name in terms]:
        total = total + weights[name] * terms[name]
    return {**terms, "total": total}


def _picture_terms(
    predicted: Tensor, x0: Tensor, trust: Tensor, z: Tensor, config: TrainConfig, clip: ImageEncoder | None
) -> dict[str, Tensor]:
    """The terms of `decoder_losses` in pixel space, of x0' (N, 3, H, W); ``trust``, a_t, is (N,)."""
    terms = {}
    if config.recon_w:
        terms["recon"] = (trust * (predicted - x0).abs().mean(dim=(1, 2, 3))).mean()
    if config.tv_w:
        terms["tv"] = (trust * total_variation(predicted)).mean()
    if config.clip_w and clip is not None:
        # The encoder has only ever seen pictures; far outside their range its answer means nothing.
        cosine = (clip.encode_tensor(predicted.clamp(-1, 1)).float() * z).sum(dim=1)
        terms["clip"] = (trust * (z.any(dim=1).float() - cosine)).mean()
    return terms


def total_variation(x: Tensor) -> Tensor:
    """Anisotropic total variation per picture (N,): mean |difference| of neighbours, both directions summed.

    Rudin, Osher & Fatemi 1992 in its L1 form. ``x``: (N, C, H, W) with H and W of at least 2.
    """
    across = (x[..., :, 1:] - x[..., :, :-1]).abs().mean(dim=(1, 2, 3))
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().mean(dim=(1, 2, 3))
    return torch.add(across, down)
