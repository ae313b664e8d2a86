"""Diffusion: noise schedule, U-Net conditioned on a CLIP vector, upsampler, samplers, noise."""
