// The semantic layer: from its payload to the CLIP vector.

import { ArithmeticDecoder } from "./arithmetic.js";
import { integers } from "./base64.js";
import { ClpError } from "./errors.js";
import { address, Magnitudes, MANTISSAS } from "./magnitudes.js";
import { roundHalfEven } from "./shapes.js";
import { FrameError, inflate } from "./zstd.js";

const LOWEST_LEVEL = -40;
const STEP_ONE = 208;
const DRIFT_LIMIT = 196608;

/** What decodes the vectors of a `codec.json`; its tables are read once. */
export function vectorDecoder(codec) {
  let found = decoders.get(codec);
  if (found === undefined) {
    const { profile, semantic } = codec;
    if (semantic === undefined) throw new TypeError("codec: found no tables of vectors, expected a whole codec.json");
    found = profile === "klt" ? new KltDecoder(semantic) : new Int8Decoder(semantic);
    decoders.set(codec, found);
  }
  return found;
}

const decoders = new WeakMap();

class KltDecoder {
  constructor({ dim, mean, basis, scales, magnitudes }) {
    this.dim = dim;
    this.mean = integers(Int16Array, mean);
    this.basis = integers(Int16Array, basis);
    this.scales = integers(Int16Array, scales);
    const tables = Object.entries(magnitudes).map(([name, text]) => [
      name,
      integers(name === "information" ? Int32Array : Int16Array, text),
    ]);
    this.magnitudes = new Magnitudes(Object.fromEntries(tables));
  }

  /** The unit vector of a payload. */
  decode(payload) {
    if (payload.length === 0) throw new ClpError("klt payload: found 0 bytes, expected 1 or more");
    const step = payload[0];
    const offsets = this.#offsets(this.#values(payload));
    const factor = MANTISSAS[step % 16] * 2 ** ((step >> 4) - 29 - 23);
    return normalised(offsets.map((offset, i) => offset * factor + this.mean[i] * 2 ** -15));
  }

  /** Coefficients in 1/256 of the step. */
  #values(payload) {
    const { dim, scales, magnitudes } = this;
    const code = new ArithmeticDecoder(payload.subarray(1));
    const values = new Float64Array(dim);
    const coarser = payload[0] - STEP_ONE + 16;
    let [state, drift, known, coded] = [0, 0, 42000, 0];
    while (coded < dim && scales[coded] - coarser >= LOWEST_LEVEL) coded++;
    const none = new ClpError(
      `klt payload: found ${payload.length} bytes that are no stream of ${coded} coefficients, expected one`,
    );
    for (let j = 0; j < coded; j++) {
      const level = scales[j] - coarser;
      const gain = Math.floor(775000000 / known);
      known += magnitudes.information[address(level)[0]] - (known >> 6);
      const [row, shift] = address(level + (drift >> 12));
      const quantiser = state >> 6;
      const magnitude = magnitudes.magnitude(code, row, quantiser, shift);
      if (!Magnitudes.holds(magnitude)) throw none;
      if (magnitude > 0) values[j] = magnitudes.value(code, magnitude, row, quantiser, shift);
      const moved = Math.floor((magnitudes.score(magnitude, row, quantiser, shift) * gain) / 256);
      drift = Math.min(Math.max(drift + moved, -DRIFT_LIMIT), DRIFT_LIMIT);
      state = (2 * state) ^ (magnitude & 1 ? 86 : 0) ^ (state >= 64 ? 157 : 0);
    }
    if (!code.complete()) throw none;
    return values;
  }

  /** Sums of integers below 2^53, exact in any order. */
  #offsets(values) {
    const { dim, basis } = this;
    const offsets = new Float64Array(dim);
    values.forEach((value, j) => {
      if (value !== 0) for (let i = 0; i < dim; i++) offsets[i] += value * basis[dim * j + i];
    });
    return offsets;
  }
}

class Int8Decoder {
  constructor({ minimum, step }) {
    this.minimum = Float32Array.from(minimum);
    this.step = Float32Array.from(step);
  }

  /** The unit vector of a payload. */
  decode(payload) {
    const codes = codesOf(payload, this.step.length);
    const rows = this.step.map((step, i) => Math.fround(codes[i] * step) + this.minimum[i]);
    const length = Math.sqrt(rows.reduce((sum, each) => sum + each * each, 0));
    if (length === 0) throw new ClpError("vector: found length 0, expected a direction; the stream is damaged");
    return rows.map((each) => each / length);
  }
}

/** The codes of one payload of the profile `int8`. */
function codesOf(payload, dim) {
  const { length } = payload;
  if (length === dim) return payload;
  if (length < 2 || length > dim) {
    throw new ClpError(`payload: found ${length} bytes, expected ${dim}, or 2 or more as zstd`);
  }
  if (payload[0] !== 0) {
    throw new ClpError(`zstd frame descriptor: found ${hex(payload[0])}, expected 0x00`);
  }
  if (payload[1] > 0x18) {
    throw new ClpError(`zstd window: found ${hex(payload[1])}, expected at most 0x18 (8 KiB)`);
  }
  const window = 2 ** (10 + (payload[1] >> 3)) * (1 + (payload[1] & 7) / 8);
  const codes = inflated(payload.subarray(2), window, dim);
  if (codes.length !== dim) throw new ClpError(`zstd frame: found ${codes.length} codes, expected ${dim}`);
  return codes;
}

function inflated(blocks, window, dim) {
  try {
    return inflate(blocks, window, dim);
  } catch (error) {
    if (!(error instanceof FrameError)) throw error;
    throw new ClpError(
      `zstd frame: found one that does not decode to ${dim} bytes (${error.message}), expected one that does`,
    );
  }
}

function hex(byte) {
  return "0x" + byte.toString(16).padStart(2, "0");
}

/** A unit float32 vector by integers below 2^24, so that every machine gets the same; of zeros, the first axis. */
function normalised(vector) {
  const largest = vector.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
  if (largest === 0) return Float32Array.from(vector, (_, i) => (i === 0 ? 1 : 0));
  let exponent = Math.floor(Math.log2(largest)) + 1;
  if (2 ** exponent <= largest) exponent++;
  if (2 ** (exponent - 1) > largest) exponent--;
  const whole = vector.map((each) => roundHalfEven(each * 2 ** (24 - exponent)));
  let squares = 0n;
  for (const each of whole) squares += BigInt(each) * BigInt(each);
  const length = Math.sqrt(Number(squares));
  return Float32Array.from(whole, (each) => each / length);
}
