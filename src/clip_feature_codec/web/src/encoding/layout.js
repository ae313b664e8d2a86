// Layouts of pictures, and their payloads at a step.

import { GEOMETRY, SIDE } from "../layout.js";
import { Magnitudes, MANTISSAS } from "../magnitudes.js";
import { resize } from "../resize.js";
import { roundHalfEven } from "../shapes.js";
import { TABLES } from "../tables.js";
import { placeMachine, placeMagnitudes, placeRecord } from "./tables.js";

const CANVAS = 96;
const UNITS = 64;
const ROOM = 10; // bytes that a coefficient takes at most
const OPPONENT = [[1, 1, 1], [1, 0, -1], [1, -2, 1]];

/**
 * Coefficients of a picture, in 1/64, in the order of GEOMETRY, less their mean: see LayoutCoder.analyse. Sums of
 * integers below 2^53 are exact in any order.
 */
export function analyse(picture) {
  const { data } = resize(picture, CANVAS, CANVAS);
  const basis = Array.from({ length: SIDE }, (_, n) =>
    Array.from({ length: CANVAS }, (_, i) =>
      roundHalfEven((n ? Math.SQRT2 : 1) * Math.cos((Math.PI * (2 * i + 1) * n) / (2 * CANVAS)) * 2 ** 14),
    ),
  );
  const planes = OPPONENT.map((weights) => {
    const lines = Array.from({ length: CANVAS }, (_, y) =>
      basis.map((wave) => {
        let sum = 0;
        for (let x = 0; x < CANVAS; x++) {
          const at = 4 * (CANVAS * y + x);
          sum += wave[x] * (weights[0] * data[at] + weights[1] * data[at + 1] + weights[2] * data[at + 2]);
        }
        return sum;
      }),
    );
    const factor = UNITS / Math.hypot(...weights) / CANVAS ** 2 / 2 ** 28;
    return (u, v) => lines.reduce((sum, line, y) => sum + basis[u][y] * line[v], 0) * factor;
  });
  const { channel, u, v, means } = GEOMETRY;
  const found = Array.from(channel, (c, i) => {
    const grey = i === 0 ? UNITS * 127.5 * Math.sqrt(3) : 0;
    return roundHalfEven(planes[c](u[i], v[i]) - grey);
  });
  means.forEach((at, k) => (found[at] -= TABLES.mean[k]));
  return found;
}

/** Codes one layout after the other. */
export class LayoutCoder {
  steps = 161;
  smallest = 4;
  weight = 1250;
  /** Weights that use up a budget, and at how much finer a step. */
  weights = [
    [0, Array.from({ length: 31 }, (_, i) => Math.floor(1250 / 4) + Math.floor((3 * 1250 * (i + 1)) / 128))],
    [2, Array.from({ length: 32 }, (_, i) => 1250 / 2 + Math.floor((3 * 1250 * (i + 1)) / 64))],
  ];

  constructor(loops) {
    const { count, near, earlier, diagonal, channel, group } = GEOMETRY;
    const magnitudes = placeMagnitudes(loops, new Magnitudes(TABLES));
    const scales = loops.place(BigInt64Array, TABLES.scales);
    const weights = loops.place(BigInt64Array, TABLES.weights);
    const neighbours = Uint16Array.from({ length: 10 * count }, (_, i) => {
      const [at, k] = [Math.floor(i / 10), i % 10];
      return k < 8 ? near[8 * at + k] : earlier[2 * at + k - 8];
    });
    const parts = [diagonal, channel, group].map((numbers) => loops.place(BigInt64Array, numbers));
    this.loops = loops;
    this.tables = placeRecord(loops, [scales, weights, ...magnitudes]);
    this.geometry = placeRecord(loops, [loops.place(Uint16Array, neighbours), ...parts, count]);
    this.machine = placeMachine(loops, 0o13, 0o4, 3);
    this.row = loops.room(BigInt64Array, count);
    // step, its size, weight, where the three channels are searched to; length, error, where channels end
    this.told = loops.room(BigInt64Array, 11);
    this.given = placeRecord(loops, [this.row, this.told, this.told + 8, this.told + 24]);
    this.work = loops.work("layout_code_size", count);
    this.out = loops.room(Uint8Array, ROOM * (count + 1));
  }

  /** Take up a layout, from analyse: what codes it at a step byte and a weight. */
  of(coefficients) {
    this.loops.write(BigInt64Array, this.row, coefficients);
    return (step, weight) => this.#code(step, weight);
  }

  #code(step, weight) {
    const { loops, told, out } = this;
    const { count } = GEOMETRY;
    const [weights, lengths, outcomes] = [2, 6, 7].map((i) => told + 8 * i);
    loops.write(BigInt64Array, told, [step, MANTISSAS[step & 15] * 2 ** (step >> 4), weight, count, count, count]);
    const room = BigInt(ROOM * (count + 1));
    const tables = [this.tables, this.geometry, this.machine, this.work];
    loops.call("layout_code", this.given, 1n, weights, ...tables, out, room, lengths, outcomes);
    const [length, error] = loops.view(BigInt64Array, lengths, 2);
    return { payload: Uint8Array.from([step, ...loops.view(Uint8Array, out, Number(length))]), error: Number(error) };
  }
}
