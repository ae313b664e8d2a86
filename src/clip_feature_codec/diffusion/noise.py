"""Noise for sampling: drawn per picture, the same whatever library the network runs on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16


class NoiseGenerator:
    """Standard normal numbers as torch's generator for the CPU draws them, but for the last bit.

    They come from the Mersenne Twister (Matsumoto & Nishimura 1998), 24 bits to a uniform number, by the
    transform of Box and Muller (1958), which takes eight uniform numbers as radii and the eight after them as
    angles. Pictures were painted with torch's noise before there was another way to run a network.

    Args:
        seed: of 64 bits, the lower 32 of which count.
    """

    def __init__(self, seed: int) -> None:
        # The twister's own seeding, which only the old interface has.
        seeded = np.random.RandomState(seed % 2**32).get_state(legacy=False)
        self._twister = np.random.MT19937(0)
        self._twister.state = {"bit_generator": "MT19937", "state": seeded["state"]}

    def normal(self, *shape: int) -> NDArray[np.float32]:
        """Draw the next numbers, in this shape; from 16 of them on they are torch's."""
        count = math.prod(shape)
        uniform = self._uniform(count + -count % _BLOCK if count < _BLOCK else count)
        whole = len(uniform) - len(uniform) % _BLOCK
        values = np.empty_like(uniform)
        values[:whole] = _box_muller(uniform[:whole])
        if whole < count:  # the last block begins anew, and writes over part of the one before
            values[-_BLOCK:] = _box_muller(self._uniform(_BLOCK))
        return values[:count].reshape(shape)

    def _uniform(self, count: int) -> NDArray[np.float32]:
        """Numbers from 0 up to 1, which they do not reach."""
        raw = self._twister.random_raw(count)
        return (raw & (2**24 - 1)).astype(np.float32) * np.float32(2**-24)


def noise_seeds(seed: int, keys: Sequence[bytes]) -> list[int]:
    """A seed of 64 bits per key (a picture's stream), from SHA-256 of the seed and the key.

    A picture's noise thus depends on nothing but the seed and its own bytes.
    """
    digests = (hashlib.sha256(b"%d:" % seed + key).digest() for key in keys)
    return [int.from_bytes(digest[:8], "little") for digest in digests]


def noise_generators(seed: int, keys: Sequence[bytes]) -> list[NoiseGenerator]:
    """One generator per key (see `noise_seeds`)."""
    return [NoiseGenerator(each) for each in noise_seeds(seed, keys)]


def _box_muller(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normal numbers from uniform ones, whole blocks of 16."""
    radii, angles = np.moveaxis(uniform.reshape(-1, 2, _BLOCK // 2), 1, 0)
    radii = np.sqrt(np.float32(-2) * np.log(1 - radii))
    angles = np.float32(2 * math.pi) * angles
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1).reshape(-1)
