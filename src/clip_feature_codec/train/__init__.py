"""Training of the diffusion decoder on (picture, dequantised CLIP vector) pairs."""
