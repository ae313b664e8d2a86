// CLIP vectors and their payloads at a step, profile `klt`.

import { vectorDecoder } from "../vector.js";
import { MANTISSAS } from "../magnitudes.js";
import { roundHalfEven } from "../shapes.js";
import { placeMachine, placeMagnitudes, placeRecord } from "./tables.js";

const ROOM = 10; // bytes that a coefficient takes at most
const LOWEST_LEVEL = -40;
const STEP_ONE = 208;
const WEIGHT = 1475;

/** Codes one vector after the other. */
export class VectorCoder {
  steps = 256;
  smallest = 1;
  weight = WEIGHT;
  /** Weights that use up a budget, up to five times the usual one, and at how much finer a step. */
  weights = [1, 2, 3, 4].map((finer) => [
    finer,
    Array.from({ length: 32 }, (_, i) => roundHalfEven(WEIGHT * 5 ** ((i + 1) / 32))),
  ]);

  constructor(loops, codec) {
    const decoder = vectorDecoder(codec);
    const { dim, scales, magnitudes } = decoder;
    Object.assign(this, { loops, decoder });
    this.tables = placeRecord(loops, placeMagnitudes(loops, magnitudes));
    this.machine = placeMachine(loops, 0o235, 0o126, 7);
    this.scales = loops.place(BigInt64Array, scales);
    this.targets = loops.room(BigInt64Array, dim);
    this.mean = loops.place(BigInt64Array, new Int32Array(dim)); // is for errors, which are measured here
    this.told = loops.room(BigInt64Array, 6); // step, weight; length and three sums
    this.work = loops.work("semantic_code_size", dim);
    this.out = loops.room(Uint8Array, ROOM * (dim + 1));
  }

  /** Take up a unit vector: what codes it at a step byte and a weight; errors are 1 less the cosines. */
  of(vector) {
    const { dim, mean, basis } = this.decoder;
    const offsets = Array.from(vector, (value, i) => roundHalfEven(value * 2 ** 15) - mean[i]);
    const coefficients = Array.from({ length: dim }, (_, j) =>
      offsets.reduce((sum, offset, i) => sum + offset * basis[dim * j + i], 0),
    );
    return (step, weight) => {
      const payload = this.#code(coefficients, step, weight);
      const decoded = this.decoder.decode(payload);
      return { payload, error: 1 - vector.reduce((sum, value, i) => sum + value * decoded[i], 0) };
    };
  }

  #code(coefficients, step, weight) {
    const { loops, told, out, decoder } = this;
    const level = step - STEP_ONE + 16;
    const coded = decoder.scales.findIndex((scale) => scale - level < LOWEST_LEVEL);
    const width = coded < 0 ? decoder.dim : coded;
    const factor = 2 ** (8 - 30) / (MANTISSAS[step % 16] * 2 ** ((step >> 4) - 29));
    const targets = coefficients.slice(0, width).map((each) => roundHalfEven(each * factor));
    loops.write(BigInt64Array, this.targets, targets);
    loops.write(BigInt64Array, told, [level, weight]);
    const [steps, weights, sizes, sums] = [0, 1, 2, 3].map((i) => told + 8 * i);
    const tables = [this.tables, this.machine, this.mean, this.work];
    const [size, room] = [BigInt(width), BigInt(ROOM * (width + 1))];
    loops.call("semantic_code", this.targets, 1n, size, this.scales, steps, weights, ...tables, out, room, sizes, sums);
    const [length] = loops.view(BigInt64Array, sizes, 1);
    return Uint8Array.from([step, ...loops.view(Uint8Array, out, Number(length))]);
  }
}
