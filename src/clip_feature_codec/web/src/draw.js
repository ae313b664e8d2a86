// From layout coefficients to pixels.

import { GEOMETRY, SIDE } from "./layout.js";

const ROUNDED_GREY = 128; // 127.5, and a half for rounding down
const ROOT2 = Math.sqrt(2);
const LIGHT = 1 / Math.sqrt(3);
const WARM = 1 / Math.sqrt(2);
const PINK = 1 / Math.sqrt(6);
const UNITS = 64;
const OPAQUE = 0xff << 24;

/**
 * Draw coefficients: sums of cosines, first along the rows, then down the columns.
 *
 * Few coefficients are not zero, and those lie at low frequencies: only as many cosines are summed as there are.
 * Even cosines are mirrored at the middle and odd ones turned over, so that half of the rows give the other half.
 *
 * @param {Int32Array} coefficients from decodeCoefficients
 * @param {number} width
 * @param {number} height
 * @returns {Uint8ClampedArray} RGBA, rows from the top
 */
export function draw(coefficients, width, height) {
  const pixels = new Int32Array(width * height); // little-endian, as on every machine that runs browsers
  const down = cosines(height);
  const channels = [0, 1, 2].map((channel) => alongRows(coefficients, channel, width));
  const even = channels.map(() => new Float32Array(width));
  const odd = channels.map(() => new Float32Array(width));
  for (let y = 0; 2 * y < height; y++) {
    channels.forEach(({ lines, rows }, c) => {
      even[c].fill(0);
      odd[c].fill(0);
      for (let u = 0; u < rows; u++) add(u % 2 ? odd[c] : even[c], 0, down[u * height + y], lines, u * width, width);
    });
    colour(pixels, (height - 1 - y) * width, even, odd, -1);
    colour(pixels, y * width, even, odd, 1); // last: in the middle row of an odd height the odd ones are 0
  }
  return new Uint8ClampedArray(pixels.buffer);
}

/** Fill a row of pixels from even and odd parts of brightness, red - blue, and magenta - green. */
function colour(pixels, to, [light, warm, pink], [light2, warm2, pink2], sign) {
  for (let x = 0; x < light.length; x++) {
    const base = ROUNDED_GREY + LIGHT * (light[x] + sign * light2[x]);
    const across = WARM * (warm[x] + sign * warm2[x]);
    const side = PINK * (pink[x] + sign * pink2[x]);
    const red = level(base + across + side);
    const green = level(base - 2 * side);
    pixels[to + x] = red | (green << 8) | (level(base - across + side) << 16) | OPAQUE;
  }
}

function level(value) {
  return value > 255 ? 255 : value > 0 ? value | 0 : 0;
}

/** The sums over the horizontal frequencies of one channel: float32 (rows × width), for each vertical one. */
function alongRows(coefficients, channel, width) {
  const across = cosines(width);
  const lines = new Float32Array(SIDE * width);
  let rows = 0;
  for (let i = GEOMETRY.first[channel]; i < GEOMETRY.first[channel + 1]; i++) {
    if (coefficients[i] === 0) continue;
    const u = GEOMETRY.u[i];
    add(lines, u * width, coefficients[i] / UNITS, across, GEOMETRY.v[i] * width, width);
    rows = Math.max(rows, u + 1);
  }
  return { lines, rows };
}

function add(target, to, factor, source, from, count) {
  for (let i = 0; i < count; i++) target[to + i] += factor * source[from + i];
}

const tables = new Map();

/** Cosines of each frequency at the middles of `size` pixels, float32 (41 × size); the constant one is 1. */
function cosines(size) {
  let table = tables.get(size);
  if (table === undefined) {
    table = new Float32Array(SIDE * size).fill(1, 0, size);
    for (let n = 1; n < SIDE; n++) {
      for (let i = 0; i < size; i++) {
        table[n * size + i] = ROOT2 * Math.cos((Math.PI * (2 * i + 1) * n) / (2 * size));
      }
    }
    if (tables.size >= 32) tables.delete(tables.keys().next().value);
    tables.set(size, table);
  }
  return table;
}
