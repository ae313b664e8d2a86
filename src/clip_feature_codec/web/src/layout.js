// The layout layer: from its payload to coefficients, integers that are the same on every machine.

import { ArithmeticDecoder } from "./arithmetic.js";
import { ClpError } from "./errors.js";
import { address, Magnitudes, MANTISSAS } from "./magnitudes.js";
import { TABLES } from "./tables.js";

export const SIDE = 41;
const RADII = [1640, 650, 650];
const BANDS = [9, 49, 169];
const MAX_STEP = 160;
const LOWEST = -1280;
const HIGHEST = 3328;
const LARGEST = 65536;
// The state after a symbol of even and of odd magnitude (Ungerboeck's 8-state code).
const SUCCESSORS = [0, 4, 2, 6, 4, 0, 6, 2, 3, 7, 1, 5, 7, 3, 5, 1];
// (du, dv) of the neighbours whose scores are added up in pairs.
const NEAR = [-1, 0, 0, -1, -2, 0, 0, -2, -1, 1, -2, 2, -3, 0, 0, -3];

/** The coefficients in their order: channel, u (vertical), v (horizontal), places of those before. */
export const GEOMETRY = geometry();

const MAGNITUDES = new Magnitudes(TABLES);

/**
 * Decode a layout payload.
 *
 * @param {Uint8Array} payload step byte and arithmetic code
 * @returns {Int32Array} 2411 coefficients in 1/64, in the order of GEOMETRY
 * @throws {ClpError} it is no payload of ours
 */
export function decodeCoefficients(payload) {
  const step = payload[0];
  if (step > MAX_STEP) throw new ClpError(`layout step: found ${step}, expected 0 to ${MAX_STEP}`);
  const { channel, diagonal, group, near, earlier, count } = GEOMETRY;
  const { scales, weights, information } = TABLES;
  const size = MANTISSAS[step % 16] * 2 ** (step >> 4);
  const code = new ArithmeticDecoder(payload.subarray(1));
  const coefficients = new Int32Array(count);
  const scored = new Int16Array(count + 1); // the last stays 0, for neighbours that are not there
  const running = new Float64Array(6);
  const features = new Float64Array(8);
  let state = 0;
  let last = -1;
  for (let i = 0; i < count; i++) {
    const start = scales[i] - 16 * step;
    if (start < LOWEST) continue;
    if (last >= 0) turn(running, channel[i] === channel[last], diagonal[i] === diagonal[last]);
    for (let k = 0; k < 4; k++) features[k] = scored[near[8 * i + 2 * k]] + scored[near[8 * i + 2 * k + 1]];
    features[4] = scored[earlier[2 * i]];
    features[5] = scored[earlier[2 * i + 1]];
    features[6] = Math.floor((running[0] * 256) / (running[1] + 16));
    features[7] = Math.floor((running[2] * 256) / (running[3] + 16));
    let moved = 0;
    for (let k = 0; k < 8; k++) moved += weights[8 * group[i] + k] * features[k];
    const [row, shift] = address(Math.min(start + Math.floor(moved / 256), HIGHEST) >> 4);
    const quantiser = state >> 2;
    const magnitude = MAGNITUDES.magnitude(code, row, quantiser, shift);
    if (!Magnitudes.holds(magnitude)) throw endsElsewhere(payload);
    if (magnitude > 0) {
      const value = MAGNITUDES.value(code, magnitude, row, quantiser, shift);
      coefficients[i] = Math.floor((value * size + 2 ** 20) / 2 ** 21);
    }
    const [home, coarse] = address(Math.min(start, HIGHEST) >> 4);
    scored[i] = MAGNITUDES.score(magnitude, home, quantiser, coarse);
    running[4] += scored[i];
    running[5] += information[home];
    state = SUCCESSORS[2 * state + (magnitude & 1)];
    last = i;
  }
  if (!code.complete()) throw endsElsewhere(payload);
  return withMean(coefficients);
}

function endsElsewhere(payload) {
  const expected = `${GEOMETRY.count} coefficients`;
  return new ClpError(
    `layout payload: found ${payload.length} bytes that end elsewhere, expected ${expected}`,
  );
}

function withMean(coefficients) {
  let largest = 0;
  for (const coefficient of coefficients) largest = Math.max(largest, Math.abs(coefficient));
  if (largest > LARGEST) {
    throw new ClpError(`layout payload: found a coefficient of ${largest}, expected at most ${LARGEST}`);
  }
  GEOMETRY.means.forEach((at, k) => (coefficients[at] += TABLES.mean[k]));
  return coefficients;
}

/** A new diagonal: the one at hand goes into the means; or a new channel: they begin again. */
function turn(running, sameChannel, sameDiagonal) {
  if (!sameChannel) {
    running.fill(0);
  } else if (!sameDiagonal) {
    running[0] = Math.floor((running[0] * 205) / 256) + running[4];
    running[1] = Math.floor((running[1] * 205) / 256) + running[5];
    running[2] += running[4];
    running[3] += running[5];
    running[4] = running[5] = 0;
  }
}

function geometry() {
  const places = [];
  RADII.forEach((radius, c) => {
    for (let sum = 0; sum < 2 * SIDE; sum++) {
      for (let u = 0; u <= sum; u++) if (u * u + (sum - u) ** 2 <= radius) places.push([c, u, sum - u]);
    }
  });
  const count = places.length;
  const index = new Uint16Array(RADII.length * SIDE * SIDE).fill(count);
  places.forEach(([c, u, v], i) => (index[(c * SIDE + u) * SIDE + v] = i));
  const within = (frequency) => frequency >= 0 && frequency < SIDE;
  const at = (c, u, v) => (within(u) && within(v) ? index[(c * SIDE + u) * SIDE + v] : count);
  const found = {
    count,
    first: [0, 1, 2, 3].map((c) => places.filter(([channel]) => channel < c).length),
    channel: Uint8Array.from(places, ([c]) => c),
    u: Uint8Array.from(places, ([, u]) => u),
    v: Uint8Array.from(places, ([, , v]) => v),
    diagonal: Uint8Array.from(places, ([, u, v]) => u + v),
    group: Uint8Array.from(places, ([c, u, v]) => 4 * c + BANDS.filter((b) => u * u + v * v >= b).length),
    near: new Uint16Array(8 * count),
    earlier: new Uint16Array(2 * count).fill(count),
    means: [],
  };
  places.forEach(([c, u, v], i) => {
    for (let k = 0; k < 8; k++) found.near[8 * i + k] = at(c, u + NEAR[2 * k], v + NEAR[2 * k + 1]);
    for (let before = 0; before < c; before++) found.earlier[2 * i + before] = at(before, u, v);
    if (u < 2 && v < 2) found.means.push(i);
  });
  return found;
}
