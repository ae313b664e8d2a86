// The container (docs/clp-format.md): checked in the document's order, cheapest first, before anything is decoded.

import { ClpError } from "./errors.js";
import { roundHalfEven } from "./shapes.js";

const MAGIC = 0xc7;
const VERSION = 1;
const HEADER = 6;
const MAX_BYTES = 65536;
const MAX_LAYOUT_BYTES = 255;
const PROFILES = ["int8", "klt"];
const NO_PROFILE = 3;

/**
 * Check a stream and take it apart.
 *
 * @param {Uint8Array} bytes the file
 * @param {{tables_sha256: string, profile: string}} codec what it was written with, such as a codec.json
 * @returns {{profile: ?string, semantic: ?Uint8Array, layout: ?Uint8Array, aspect: number, header: number}}
 *   payloads, null where there is no such layer; aspect is width / height; header, bytes of no layer
 * @throws {ClpError} with the field, what was found and what was expected
 */
export function parse(bytes, { tables_sha256: sha256, profile }) {
  const n = bytes.length;
  if (n < HEADER || n > MAX_BYTES) {
    throw new ClpError(
      `length: found ${n} bytes, expected ${HEADER} to ${MAX_BYTES}; this is no .clp stream`,
    );
  }
  if (bytes[0] !== MAGIC) {
    throw new ClpError(`magic: found ${hex(bytes[0], 2)}, expected ${hex(MAGIC, 2)}; this is no .clp stream`);
  }
  const flags = bytes[1];
  checkFlags(flags);
  const id = bytes.subarray(2, 4).reduce((text, byte) => text + byte.toString(16).padStart(2, "0"), "");
  if (id !== sha256.slice(0, 4)) {
    throw new ClpError(
      `codec id: found ${id}, expected ${sha256.slice(0, 4)}; ` +
        "the stream was written with other tables, use the codec.json of its own store",
    );
  }
  const found = bytes[4] | (bytes[5] << 8);
  const expected = checksum(bytes, sha256);
  if (found !== expected) {
    throw new ClpError(
      `checksum: found ${hex(found, 4)}, expected ${hex(expected, 4)}; ` +
        "the stream is damaged or was written with other tables",
    );
  }
  const stream = takeApart(flags, bytes);
  if (stream.profile !== null && stream.profile !== profile) {
    throw new ClpError(`profile: found ${stream.profile}, expected ${profile}`);
  }
  return stream;
}

function checkFlags(flags) {
  const version = flags >> 5;
  const profile = (flags >> 3) & 3;
  if (version !== VERSION) {
    throw new ClpError(`version: found ${version}, expected ${VERSION}; use the release that wrote it`);
  }
  if (profile !== NO_PROFILE && profile >= PROFILES.length) {
    throw new ClpError(`profile: found ${profile}, expected 0 (int8), 1 (klt) or 3 (none)`);
  }
  if (flags & 2) {
    throw new ClpError("reserved bit: found 1, expected 0; use a newer release");
  }
  if (profile === NO_PROFILE && !(flags & 4)) {
    throw new ClpError("layers: found none, expected at least one");
  }
}

function takeApart(flags, bytes) {
  let at = HEADER;
  let aspect = 1;
  if (flags & 1) {
    aspect = aspectOf(byteAt(bytes, at, "aspect"));
    at += 1;
  }
  const number = (flags >> 3) & 3;
  const profile = number === NO_PROFILE ? null : PROFILES[number];
  if (profile === null) {
    const size = bytes.length - at;
    if (size < 1 || size > MAX_LAYOUT_BYTES) {
      throw new ClpError(`layout layer: found ${size} bytes, expected 1 to ${MAX_LAYOUT_BYTES}`);
    }
    return { profile, semantic: null, layout: bytes.subarray(at), aspect, header: at };
  }
  if (!(flags & 4)) {
    return { profile, semantic: bytes.subarray(at), layout: null, aspect, header: at };
  }
  const size = byteAt(bytes, at, "split");
  at += 1;
  const rest = bytes.length - at;
  if (size < 1 || size > rest) {
    throw new ClpError(`split: found a layout layer of ${size} bytes, expected 1 to ${rest}`);
  }
  return {
    profile,
    semantic: bytes.subarray(at + size),
    layout: bytes.subarray(at, at + size),
    aspect,
    header: at,
  };
}

/**
 * Make a stream of both layers, or of a vector alone.
 *
 * @param {{tables_sha256: string, profile: string}} codec what they were coded with
 * @param {{semantic: Uint8Array, layout: ?Uint8Array}} layers
 * @param {number[]} aspect from aspectField
 * @returns {Uint8Array}
 */
export function pack({ tables_sha256: sha256, profile }, { semantic, layout }, aspect) {
  const flags = (VERSION << 5) | (PROFILES.indexOf(profile) << 3) | (layout ? 4 : 0) | (aspect.length ? 1 : 0);
  const id = [0, 2].map((at) => parseInt(sha256.slice(at, at + 2), 16));
  const first = layout ? [layout.length, ...layout] : [];
  const stream = Uint8Array.from([MAGIC, flags, ...id, 0, 0, ...aspect, ...first, ...semantic]);
  new DataView(stream.buffer).setUint16(4, checksum(stream, sha256), true);
  return stream;
}

/** The byte of a picture's shape, width / height; none for a square one. */
export function aspectField(aspect) {
  const units = Math.max(1, roundHalfEven(128 * Math.min(aspect, 1 / aspect)));
  return units === 128 ? [] : [units | (aspect < 1 ? 0x80 : 0)];
}

function byteAt(bytes, at, field) {
  if (at >= bytes.length) {
    throw new ClpError(`${field}: found the end of the stream, expected one byte`);
  }
  return bytes[at];
}

/** Width / height from the aspect byte. */
function aspectOf(field) {
  const units = field & 0x7f;
  if (units === 0) {
    throw new ClpError(`aspect: found ${hex(field, 2)}, expected 1 to 127 in its low seven bits`);
  }
  return field & 0x80 ? units / 128 : 128 / units;
}

/** CRC-16/CCITT over the stream without its checksum; it starts from the tables, to tell codecs apart. */
function checksum(bytes, sha256) {
  let crc = parseInt(sha256.slice(6, 8) + sha256.slice(4, 6), 16);
  for (let i = 0; i < bytes.length; i++) {
    if (i === 4 || i === 5) continue;
    crc ^= bytes[i] << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc;
}

function hex(number, digits) {
  return "0x" + number.toString(16).padStart(digits, "0");
}
