// From layout coefficients to pixels.

import { GEOMETRY, SIDE } from "./layout.js";

const GREY = 127.5;
const ROOT2 = Math.sqrt(2);
const LIGHT = 1 / Math.sqrt(3);
const WARM = 1 / Math.sqrt(2);
const PINK = 1 / Math.sqrt(6);
const UNITS = 64;
const AT_ONCE = 4; // frequencies: fewer are slower

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
  const pixels = new Uint8ClampedArray(4 * width * height).fill(255); // rounds by itself
  const down = cosines(height);
  const channels = [0, 1, 2].map((channel) => alongRows(coefficients, channel, width));
  const [even, odd] = [0, 1].map((parity) => channels.map((parts) => parts[parity].sums));
  for (let y = 0; 2 * y < height; y++) {
    for (const parts of channels) for (const part of parts) sumUp(part, down, height, y);
    colour(pixels, 4 * (height - 1 - y) * width, even, odd, -1);
    colour(pixels, 4 * y * width, even, odd, 1); // last: in the middle row of an odd height the odd ones are 0
  }
  return pixels;
}

/** Fill a row of pixels from even and odd parts of brightness, red - blue, and magenta - green. */
function colour(pixels, to, [light, warm, pink], [light2, warm2, pink2], sign) {
  for (let x = 0, at = to; x < light.length; x++, at += 4) {
    const base = GREY + LIGHT * (light[x] + sign * light2[x]);
    const across = WARM * (warm[x] + sign * warm2[x]);
    const side = PINK * (pink[x] + sign * pink2[x]);
    pixels[at] = base + across + side;
    pixels[at + 1] = base - 2 * side;
    pixels[at + 2] = base - across + side;
  }
}

/**
 * The sums over the horizontal frequencies of one channel, for its even and for its odd vertical ones: which those
 * are, padded to a multiple of AT_ONCE, a line of numbers for each, and room for their sum.
 */
function alongRows(coefficients, channel, width) {
  const across = cosines(width);
  const there = [];
  for (let i = GEOMETRY.first[channel]; i < GEOMETRY.first[channel + 1]; i++) {
    if (coefficients[i] !== 0) there.push(i);
  }
  return [0, 1].map((parity) => {
    const own = there.filter((i) => GEOMETRY.u[i] % 2 === parity);
    const rows = [...new Set(own.map((i) => GEOMETRY.u[i]))];
    while (rows.length % AT_ONCE) rows.push(0);
    const lines = new Float64Array(rows.length * width);
    for (const i of own) {
      const [to, from] = [rows.indexOf(GEOMETRY.u[i]) * width, GEOMETRY.v[i] * width];
      const factor = coefficients[i] / UNITS;
      for (let x = 0; x < width; x++) lines[to + x] += factor * across[from + x];
    }
    return { rows, lines, sums: new Float64Array(width) };
  });
}

/** The sum over the vertical frequencies of a part, in a row of the picture. */
function sumUp({ rows, lines, sums }, down, height, y) {
  const width = sums.length;
  sums.fill(0);
  for (let k = 0; k < rows.length; k += AT_ONCE) {
    const a = down[rows[k] * height + y];
    const b = down[rows[k + 1] * height + y];
    const c = down[rows[k + 2] * height + y];
    const d = down[rows[k + 3] * height + y];
    for (let x = 0, at = k * width; x < width; x++, at++) {
      sums[x] += a * lines[at] + b * lines[at + width] + c * lines[at + 2 * width] + d * lines[at + 3 * width];
    }
  }
}

const tables = new Map();

/** Cosines of each frequency at the middles of `size` pixels, (41 × size); the constant one is 1. */
function cosines(size) {
  let table = tables.get(size);
  if (table === undefined) {
    table = new Float64Array(SIDE * size).fill(1, 0, size);
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
