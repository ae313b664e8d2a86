"""ICC profiles put together by hand (ICC.1:2022): no program's own are needed, nor their licences."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
D65 = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3_PRIMARIES = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))


def fixed(*values: float) -> bytes:
    """Numbers of type s15Fixed16."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def gamma_curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def srgb_curve() -> bytes:
    numbers = fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + numbers


def colorants(primaries: Sequence[tuple[float, float]], white: tuple[float, float]) -> np.ndarray:
    """XYZ of red, green and blue under D50, by Bradford's adaptation, in columns."""
    (x, y), lit = white, np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    light = np.array([x / y, 1, (1 - x - y) / y])
    lit = lit * np.linalg.solve(lit, light)
    cones = (BRADFORD @ D50) / (BRADFORD @ light)
    return np.linalg.inv(BRADFORD) @ np.diag(cones) @ BRADFORD @ lit


def profile(space: bytes, tags: Mapping[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """A profile of version 2.4 with the tags that every profile needs, and more."""
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"made\0" + bytes(79)
    always = {
        b"desc": description,
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50),
    }
    table, body, start = b"", b"", 132 + 12 * (len(always) + len(tags))
    for name, data in {**always, **tags}.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(body), 0x02400000, kind, space, pcs)
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + fixed(*D50) + bytes(48)
    return head + struct.pack(">I", len(always) + len(tags)) + table + body


def rgb_profile(
    primaries: Sequence[tuple[float, float]], curve: bytes, white: tuple[float, float] = D65
) -> bytes:
    columns = colorants(primaries, white).T
    tags = {
        name: b"XYZ \0\0\0\0" + fixed(*column)
        for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    }
    return profile(b"RGB ", {**tags, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)})


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma_curve(gamma)})


def cmyk_profile(points: int = 5) -> bytes:
    """Inks that are a little impure, on white paper, as a table from CMYK to Lab (mft2)."""
    axis = np.linspace(0, 1, points)
    cyan, magenta, yellow, black = np.meshgrid(axis, axis, axis, axis, indexing="ij")
    rest = 1 - 0.85 * black
    red = (1 - 0.9 * cyan) * (1 - 0.1 * magenta) * (1 - 0.02 * yellow) * rest
    green = (1 - 0.4 * cyan) * (1 - 0.85 * magenta) * (1 - 0.08 * yellow) * rest
    blue = (1 - 0.2 * cyan) * (1 - 0.4 * magenta) * (1 - 0.85 * yellow) * rest
    light = np.stack([red, green, blue], axis=-1) ** 2.2 @ colorants(SRGB_PRIMARIES, D65).T / D50
    root = np.where(light > 216 / 24389, np.cbrt(light), (24389 / 27 * light + 16) / 116)
    x, y, z = np.moveaxis(root, -1, 0)
    lab = np.stack(
        [(116 * y - 16) * 652.8, (500 * (x - y) + 128) * 256, (200 * (y - z) + 128) * 256], axis=-1
    )
    table = lab.clip(0, 65535).round().astype(">u2").tobytes()
    straight = struct.pack(">HH", 0, 65535)
    head = b"mft2\0\0\0\0" + bytes([4, 3, points, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    data = head + struct.pack(">HH", 2, 2) + 4 * straight + table + 3 * straight
    return profile(b"CMYK", {b"A2B0": data}, kind=b"prtr", pcs=b"Lab ")


SRGB = rgb_profile(SRGB_PRIMARIES, srgb_curve())
DISPLAY_P3 = rgb_profile(P3_PRIMARIES, srgb_curve())
ADOBE_RGB = rgb_profile(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), gamma_curve(563 / 256))
PROPHOTO = rgb_profile(
    ((0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105)), gamma_curve(1.8), (0.345704, 0.358540)
)
