"""What a JPEG XL codestream says of itself before its first frame (ISO/IEC 18181-1, annexes A and D)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

_CONTAINER = b"\0\0\0\x0cJXL "
_NAKED = b"\xff\x0a"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}

# The enumerations of the colour encoding
SPACE_RGB, SPACE_GREY = 0, 1
TRANSFER_LINEAR, TRANSFER_SRGB = 8, 13
_WHITE_D65 = (0.3127, 0.3290)
_PRIMARIES_SRGB = (0.639998686, 0.330010138, 0.300003784, 0.600003357, 0.150002046, 0.059997204)
_WHITES = {1: _WHITE_D65, 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_PRIMARIES = {
    1: _PRIMARIES_SRGB,
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_CUSTOM = 2

_ALPHA, _SPOT, _CFA = 0, 2, 5


class Colours(NamedTuple):
    """A colour encoding.

    Attributes:
        space: `SPACE_RGB`, `SPACE_GREY`, or another number.
        white: x and y of the white point.
        primaries: x and y of red, green and blue.
        transfer: number of the transfer function; None where it is a power.
        gamma: the power, from samples to light; 1.0 where there is a number.
    """

    space: int = SPACE_RGB
    white: tuple[float, ...] = _WHITE_D65
    primaries: tuple[float, ...] = _PRIMARIES_SRGB
    transfer: int | None = TRANSFER_SRGB
    gamma: float = 1.0

    @property
    def has_srgb_primaries(self) -> bool:
        """Whether white point and primaries are those of sRGB."""
        return self.white == _WHITE_D65 and self.primaries == _PRIMARIES_SRGB


class Header(NamedTuple):
    """A codestream's size and samples.

    Attributes:
        width, height: in pixels, as stored: before the orientation is applied.
        bits: per sample.
        premultiplied: whether the colours are multiplied by alpha.
        colours: what the samples mean; None where that stands in an ICC profile.
    """

    width: int
    height: int
    bits: int = 8
    premultiplied: bool = False
    colours: Colours | None = Colours()


def read_header(data: bytes) -> Header:
    """Read the header of a JPEG XL file, naked or in a container.

    Raises:
        ValueError: it is cut short, or none.
    """
    bits = _Bits(_codestream(data))
    width, height = _size(bits)
    if bits.flag():  # all by default
        return Header(width, height)
    if bits.flag():
        _skip_extra_fields(bits)
    depth = _depth(bits)
    bits.flag()  # whether 16-bit buffers suffice
    channels = [_extra_channel(bits) for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12)))]
    bits.flag()  # XYB: the decoder's affair, who gives out the colours below
    return Header(width, height, depth, any(channels), _colours(bits))


class _Bits:
    """A reader of bits, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def number(self, bits: int) -> int:
        """An unsigned number of so many bits."""
        self._left -= bits
        if self._left < 0:
            raise ValueError("the header is cut short")
        number = self._value & ((1 << bits) - 1)
        self._value >>= bits
        return number

    def flag(self) -> bool:
        return bool(self.number(1))

    def choice(self, *options: tuple[int, int]) -> int:
        """A number in one of four forms (U32): (offset, bits that are added to it)."""
        offset, bits = options[self.number(2)]
        return offset + self.number(bits)

    def enumerated(self) -> int:
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))


def _codestream(data: bytes) -> bytes:
    """The first kilobytes of the codestream; in a container it is in boxes jxlc, or jxlp in parts."""
    enough = 4096
    if data.startswith(_NAKED):
        return data[len(_NAKED) : enough]
    if not data.startswith(_CONTAINER):
        raise ValueError("no JPEG XL signature")
    at, found = 0, b""
    while at + 8 <= len(data) and len(found) < enough:
        size, kind = struct.unpack_from(">I4s", data, at)
        start, end = at + 8, at + size
        if size == 1:
            start, end = at + 16, at + int.from_bytes(data[at + 8 : at + 16], "big")
        if size == 0:
            end = len(data)
        if end <= at:
            raise ValueError("a box of no size")
        if kind in (b"jxlc", b"jxlp"):
            found += data[start + (4 if kind == b"jxlp" else 0) : min(end, start + enough)]
        at = end
    return found.removeprefix(_NAKED)


def _size(bits: _Bits) -> tuple[int, int]:
    """Width and height (SizeHeader)."""
    small = bits.flag()

    def side() -> int:
        if small:
            return 8 * (1 + bits.number(5))
        return bits.choice((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.number(3)
    if ratio == 0:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _skip_extra_fields(bits: _Bits) -> None:
    """Pass over orientation, intrinsic size, preview and animation."""
    bits.number(3)
    if bits.flag():
        _size(bits)
    if bits.flag():
        small = bits.flag()
        sides = ((16, 0), (32, 0), (1, 5), (33, 9)) if small else ((1, 6), (65, 8), (321, 10), (1345, 12))
        bits.choice(*sides)
        if bits.number(3) == 0:
            bits.choice(*sides)
    if bits.flag():
        bits.choice((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.choice((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.choice((0, 0), (0, 3), (0, 16), (0, 32))
        bits.flag()


def _depth(bits: _Bits) -> int:
    """Bits per sample (BitDepth)."""
    if not bits.flag():
        return bits.choice((8, 0), (10, 0), (12, 0), (1, 6))
    depth = bits.choice((32, 0), (16, 0), (24, 0), (1, 6))
    bits.number(4)  # of the exponent
    return depth


def _extra_channel(bits: _Bits) -> bool:
    """Pass over an extra channel, and tell whether it is an alpha that the colours are multiplied by."""
    if bits.flag():
        return False
    kind = bits.enumerated()
    _depth(bits)
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))
    bits.number(8 * bits.choice((0, 0), (0, 4), (16, 5), (48, 10)))  # its name
    premultiplied = kind == _ALPHA and bits.flag()
    if kind == _SPOT:
        bits.number(4 * 16)
    if kind == _CFA:
        bits.choice((1, 0), (0, 2), (3, 4), (19, 8))
    return premultiplied


def _colours(bits: _Bits) -> Colours | None:
    """The colour encoding (ColourEncoding)."""
    if bits.flag():
        return Colours()
    in_profile, space = bits.flag(), bits.enumerated()
    if in_profile:
        return None
    if space not in (SPACE_RGB, SPACE_GREY):
        return Colours(space)
    white = _points(bits, 1, _WHITES)
    primaries = _points(bits, 3, _PRIMARIES) if space == SPACE_RGB else _PRIMARIES_SRGB
    if bits.flag():
        return Colours(space, white, primaries, None, 1e7 / max(1, bits.number(24)))
    return Colours(space, white, primaries, bits.enumerated())


def _points(bits: _Bits, count: int, known: Mapping[int, tuple[float, ...]]) -> tuple[float, ...]:
    """CIE x and y of some colours: known by a number, or in millionths (Customxy)."""
    number = bits.enumerated()
    if number != _CUSTOM:
        if number not in known:
            raise ValueError(f"found white point or primaries {number}, expected one of {[*known]}")
        return known[number]
    sides = ((0, 19), (524288, 19), (1048576, 20), (2097152, 21))
    values = [bits.choice(*sides) for _ in range(2 * count)]
    return tuple((-(value + 1) // 2 if value & 1 else value // 2) / 1e6 for value in values)
