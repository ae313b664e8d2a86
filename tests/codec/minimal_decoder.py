"""A decoder written from docs/clp-format.md alone, slow and short.

The document is complete if this agrees.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import struct
from dataclasses import dataclass

import zstandard

MANTISSAS = (65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752)
MANTISSAS += (92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515)
LAYOUT_STATES = ((0, 4), (2, 6), (4, 0), (6, 2), (3, 7), (1, 5), (7, 3), (5, 1))
MAGNITUDES = ("frequencies", "scores", "information", "centroids")
# The coefficients (c, u, v) of the layout, in their order.
ORDER = [(c, u, s - u) for c in range(3) for s in range(60) for u in range(s + 1)]
ORDER = [(c, u, v) for c, u, v in ORDER if u * u + v * v <= (650 if c else 1640)]


@dataclass
class Decoded:
    """What a file holds; the layout is a list of 2411 integers, the preview is H x W x 3."""

    aspect: float
    vector: list[float] | None
    layout: list[int] | None
    preview: list | None


def refuse_unless(good: bool, field: str) -> None:
    if not good:
        raise ValueError(f"{field} is not as it must be")


def float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def array(tables: dict, name: str) -> list[int]:
    raw = base64.b64decode(tables[name])
    return [number for (number,) in struct.iter_unpack("<i" if name == "information" else "<h", raw)]


def sha256_of(tables: dict) -> bytes:
    space, profile, semantic = tables["space"], tables["profile"], tables["semantic"]
    decisive = {name: space[name] for name in ("dim", "preprocessing", "weights_sha256")}
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
    data = f"{profile}\n{space['dim']}\n{fingerprint}\n".encode("ascii")
    if profile == "int8":
        data += b"".join(struct.pack("<f", each) for each in semantic["minimum"] + semantic["step"])
    else:
        data += b"".join(base64.b64decode(semantic[name]) for name in ("mean", "basis", "scales"))
        data += b"".join(base64.b64decode(semantic["magnitudes"][name]) for name in MAGNITUDES)
    layout = tables["layout"]
    data += b"".join(base64.b64decode(layout[name]) for name in ("scales", "weights", "mean", *MAGNITUDES))
    return hashlib.sha256(data).digest()


class Arithmetic:
    """The arithmetic decoder."""

    def __init__(self, stream: bytes) -> None:
        self.stream, self.read, self.range, self.damaged = stream, 6, 1 << 48, False
        self.number = int.from_bytes(stream[:6].ljust(6, b"\0"), "big")

    def _symbol(self, starts: list[int]) -> int:
        share = self.range >> 15
        slot = self.number // share
        if slot > 32767:
            slot, self.number, self.damaged = 32767, share * 32768 - 1, True
        s = max(s for s in range(len(starts) - 1) if starts[s] <= slot)
        self.number -= share * starts[s]
        self.range = share * (starts[s + 1] - starts[s])
        while self.range < 1 << 40:
            following = self.stream[self.read] if self.read < len(self.stream) else 0
            self.number, self.range, self.read = (
                256 * self.number + following,
                256 * self.range,
                self.read + 1,
            )
        return s

    def symbol(self, frequencies: list[int]) -> int:
        return self._symbol([sum(frequencies[:s]) for s in range(len(frequencies) + 1)])

    def bits(self, n: int) -> int:
        return self._symbol(list(range(0, 32769, 1 << (15 - n))))

    def end(self) -> None:
        stream, p = self.stream, self.read - 6
        refuse_unless(not self.damaged, "arithmetic code")
        refuse_unless(not stream or stream[-1] != 0, "last byte of the stream")
        refuse_unless(len(stream) <= p + 1, "length of the stream")
        if len(stream) == p + 1:
            low = (stream[p] << 40) - self.number
            good = low > 0 and self.number < 1 << 40 and low + self.range <= 1 << 48
            refuse_unless(good, "end of the stream")


class Magnitudes:
    """The tables of 65 rows, 2 quantisers and 20 symbols, and how a value is read with them."""

    def __init__(self, tables: dict) -> None:
        self.information = array(tables, "information")
        self.frequencies, self.scores, self.centroids = (
            [[flat[40 * r + 20 * q :][:20] for q in (0, 1)] for r in range(65)]
            for flat in (array(tables, name) for name in ("frequencies", "scores", "centroids"))
        )

    @staticmethod
    def row(level: int) -> tuple[int, int]:
        r = (level >> 1) + 40
        return (max(r, 0), 0) if r < 57 else (57 + (r - 57) % 8, (r - 57) // 8 + 1)

    def value(self, code: Arithmetic, r: int, q: int, shift: int) -> tuple[int, int, int]:
        """The symbol, the magnitude, and the value in 1/256 of the step."""
        s = m = code.symbol(self.frequencies[r][q])
        if s == 19:
            n = code.bits(4)
            m = 18 + 2**n + code.bits(n)
        if shift > 0:
            m = m * 2**shift + code.bits(shift)
        refuse_unless(m < 32768, "magnitude")
        negative = m > 0 and code.bits(1) == 1
        value = 0 if m == 0 else (2 * m - q) * 256 + (self.centroids[r][q][s] if shift == 0 else 0)
        return s, m, -value if negative else value


def decode_int8(semantic: dict, payload: bytes, dim: int) -> list[float]:
    codes = payload
    refuse_unless(len(payload) <= dim, "length of the semantic layer")
    if len(payload) < dim:
        refuse_unless(len(payload) >= 2 and payload[0] == 0 and payload[1] <= 0x18, "zstd header")
        inflate = zstandard.ZstdDecompressor().decompressobj()
        try:
            codes = inflate.decompress(b"\x28\xb5\x2f\xfd" + payload)
        except zstandard.ZstdError as error:
            raise ValueError("zstd frame is not as it must be") from error
        refuse_unless(inflate.eof and not inflate.unused_data and len(codes) == dim, "zstd frame")
    tables = zip(codes, semantic["minimum"], semantic["step"], strict=True)
    x = [float32(float32(low) + float32(k * float32(step))) for k, low, step in tables]
    length = math.sqrt(math.fsum(each * each for each in x))
    refuse_unless(length > 0, "length of the vector")
    return [float32(each / length) for each in x]


def decode_klt(semantic: dict, payload: bytes, dim: int) -> list[float]:
    refuse_unless(len(payload) > 0, "step byte")
    b, code, tables = payload[0], Arithmetic(payload[1:]), Magnitudes(semantic["magnitudes"])
    mean, basis, scales = (array(semantic, name) for name in ("mean", "basis", "scales"))
    value, state, drift, known = [0] * dim, 0, 0, 42000
    for j in range(dim):
        level = scales[j] - (b - 192)
        if level < -40:
            continue
        gain = 775000000 // known
        known += tables.information[tables.row(level)[0]] - (known >> 6)
        r, shift = tables.row(level + (drift >> 12))
        q = 1 if state >= 64 else 0
        s, m, value[j] = tables.value(code, r, q, shift)
        drift = min(max(drift + (tables.scores[r][q][s] * gain >> 8), -196608), 196608)
        n = 2 * state ^ (86 if m % 2 else 0)
        state = n if state < 64 else n ^ 157
    code.end()
    step = math.ldexp(MANTISSAS[b % 16], b // 16 - 29)
    o = [sum(value[j] * basis[dim * j + i] for j in range(dim)) for i in range(dim)]
    v = [o[i] * (step / 256 / 32768) + mean[i] / 32768 for i in range(dim)]
    if not any(v):
        return [1.0] + [0.0] * (dim - 1)
    e = math.frexp(max(map(abs, v)))[1]
    w = [round(math.ldexp(each, 24 - e)) for each in v]
    return [float32(each / math.sqrt(sum(each * each for each in w))) for each in w]


def decode_layout(layout: dict, payload: bytes) -> list[int]:
    refuse_unless(len(payload) > 0 and payload[0] <= 160, "step byte")
    b, code, tables = payload[0], Arithmetic(payload[1:]), Magnitudes(layout)
    scales, weights, mean = (array(layout, name) for name in ("scales", "weights", "mean"))
    step, means = MANTISSAS[b % 16] << (b // 16), iter(mean)
    out, S, state, before, r = [], {}, 0, None, [0] * 6
    for (c, u, v), scale in zip(ORDER, scales, strict=True):
        start, value = scale - 16 * b, 0
        if start >= -1280:
            if before and before[0] != c:
                r = [0] * 6
            elif before and before[1] != u + v:
                r = [(r[0] * 205 >> 8) + r[4], (r[1] * 205 >> 8) + r[5], r[2] + r[4], r[3] + r[5], 0, 0]
            before = c, u + v
            f = [
                S.get((c, u - 1, v), 0) + S.get((c, u, v - 1), 0),
                S.get((c, u - 2, v), 0) + S.get((c, u, v - 2), 0),
                S.get((c, u - 1, v + 1), 0) + S.get((c, u - 2, v + 2), 0),
                S.get((c, u - 3, v), 0) + S.get((c, u, v - 3), 0),
                S.get((0, u, v), 0) if c > 0 else 0,
                S.get((1, u, v), 0) if c == 2 else 0,
                r[0] * 256 // (r[1] + 16),
                r[2] * 256 // (r[3] + 16),
            ]
            w = weights[8 * (4 * c + sum(u * u + v * v >= limit for limit in (9, 49, 169))) :]
            level = min(start + (sum(w[k] * f[k] for k in range(8)) >> 8), 3328) >> 4
            q = 1 if state >= 4 else 0
            row, shift = tables.row(level)
            _, m, value = tables.value(code, row, q, shift)
            row, shift = tables.row(min(start, 3328) >> 4)
            S[c, u, v] = tables.scores[row][q][min(m >> shift, 19)]
            r[4], r[5] = r[4] + S[c, u, v], r[5] + tables.information[row]
            state = LAYOUT_STATES[state][m % 2]
        coefficient = (value * step + (1 << 20)) >> 21
        refuse_unless(abs(coefficient) <= 65536, "layout coefficient")
        out.append(coefficient + (next(means) if u < 2 and v < 2 else 0))
    code.end()
    return out


def draw(layout: list[int], width: int, height: int) -> list:
    def waves(size: int) -> list[list[float]]:
        turn, root = math.pi / (2 * size), math.sqrt(2)
        return [
            [(root if u else 1) * math.cos((2 * y + 1) * u * turn) for u in range(41)] for y in range(size)
        ]

    down, across = waves(height), waves(width)
    preview = []
    for y in range(height):
        lines = [[0.0] * 41 for _ in range(3)]  # the sum over u, for each c and v
        for (c, u, v), coefficient in zip(ORDER, layout, strict=True):
            lines[c][v] += coefficient / 64 * down[y][u]
        X = [[math.fsum(a * b for a, b in zip(line, wave, strict=True)) for line in lines] for wave in across]
        s2, s3, s6 = math.sqrt(2), math.sqrt(3), math.sqrt(6)
        colours = [(a / s3 + b / s2 + c / s6, a / s3 - 2 * c / s6, a / s3 - b / s2 + c / s6) for a, b, c in X]
        preview.append([[round(min(max(127.5 + each, 0), 255)) for each in rgb] for rgb in colours])
    return preview


def decode(tables: dict, blob: bytes, width: int, height: int) -> Decoded:
    sha, dim = sha256_of(tables), tables["space"]["dim"]
    refuse_unless(sha.hex() == tables["tables_sha256"], "tables_sha256")
    refuse_unless(6 <= len(blob) <= 65536, "length")
    refuse_unless(blob[0] == 0xC7, "magic")
    flags = blob[1]
    version, profile, has_layout = flags >> 5, flags >> 3 & 3, bool(flags & 4)
    refuse_unless(version == 1, "version")
    refuse_unless(profile in (("int8", "klt").index(tables["profile"]), 3), "profile")
    refuse_unless(not flags & 2, "reserved bit")
    refuse_unless(has_layout or profile != 3, "layers")
    refuse_unless(blob[2:4] == sha[:2], "codec id")
    (initial, found) = struct.unpack("<HH", sha[2:4] + blob[4:6])
    refuse_unless(binascii.crc_hqx(blob[:4] + blob[6:], initial) == found, "checksum")
    rest, aspect = blob[6:], 1.0
    if flags & 1:
        refuse_unless(len(rest) > 0 and rest[0] & 127 > 0, "aspect")
        n = rest[0] & 127
        rest, aspect = rest[1:], (n / 128 if rest[0] & 128 else 128 / n)
    first = len(rest) if has_layout else 0
    if has_layout and profile != 3:
        refuse_unless(len(rest) > 0 and 1 <= rest[0] <= len(rest) - 1, "split")
        first, rest = rest[0], rest[1:]
    vector = layout = None
    if has_layout:
        refuse_unless(first <= 255, "layout layer")
        layout = decode_layout(tables["layout"], rest[:first])
    if profile != 3:
        decode_semantic = decode_int8 if tables["profile"] == "int8" else decode_klt
        vector = decode_semantic(tables["semantic"], rest[first:], dim)
    return Decoded(aspect, vector, layout, draw(layout, width, height) if layout else None)
