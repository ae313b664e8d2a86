// CLIP vectors and their payloads at a step, profile `klt`.

import { vectorDecoder } from "../vector.js";
import { MANTISSAS } from "../magnitudes.js";
import { roundHalfEven } from "../shapes.js";
import { placeMachine, placeMagnitudes, placeRecord } from "./tables.js";

const ROOM = 10; // bytes that a coefficient takes at most
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
    this.coefficients = loops.room(Float64Array, dim);
    this.mean = loops.place(BigInt64Array, new Int32Array(dim)); // is for errors, which are measured here
    this.told = loops.room(BigInt64Array, 7); // row, level, weight; room and then length; three sums
    this.factor = loops.room(Float64Array, 1);
    const sizes = [dim, 0, dim, 0]; // of 64 bits
    const parts = [loops.place(BigInt64Array, scales), this.told, this.told + 8, this.factor];
    this.vectors = placeRecord(loops, [this.coefficients, 0, ...sizes, ...parts]);
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
    this.loops.write(Float64Array, this.coefficients, coefficients);
    return (step, weight) => {
      const payload = this.#code(step, weight);
      const decoded = this.decoder.decode(payload);
      return { payload, error: 1 - vector.reduce((sum, value, i) => sum + value * decoded[i], 0) };
    };
  }

  #code(step, weight) {
    const { loops, told, out } = this;
    const room = ROOM * (this.decoder.dim + 1);
    loops.write(BigInt64Array, told, [0, step - STEP_ONE + 16, weight, room]);
    loops.write(Float64Array, this.factor, [2 ** (8 - 30) / (MANTISSAS[step % 16] * 2 ** ((step >> 4) - 29))]);
    const [weights, sizes, sums] = [2, 3, 4].map((i) => told + 8 * i);
    const tables = [this.tables, this.machine, this.mean, this.work];
    loops.call("semantic_code", this.vectors, 1n, weights, ...tables, out, BigInt(room), sizes, sums, 0);
    const [length] = loops.view(BigInt64Array, sizes, 1);
    return Uint8Array.from([step, ...loops.view(Uint8Array, out, Number(length))]);
  }
}
