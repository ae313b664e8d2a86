"""The decoder: noise schedule, U-Net conditioned on a CLIP vector, samplers, checkpoints."""
