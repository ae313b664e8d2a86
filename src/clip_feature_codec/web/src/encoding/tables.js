// What the loops look up: the tables of magnitudes, and the machines that say which quantiser comes next.

const SYMBOLS = 20;

/** Addresses of the tables, in the order of `struct magnitudes`. */
export function placeMagnitudes(loops, { frequencies, starts, scores, information, centroids }) {
  const costs = Array.from(frequencies, (frequency, i) => codeLength(frequency) + (i % SYMBOLS > 0 ? 256 : 0));
  const points = Array.from(centroids, (centroid, i) => {
    const symbol = i % SYMBOLS;
    const quantiser = Math.floor(i / SYMBOLS) % 2;
    return symbol === 0 ? 0 : centroid + 512 * symbol - 256 * quantiser;
  });
  const tables = [starts, scores, information, centroids, costs, points];
  return tables.map((table) => loops.place(BigInt64Array, table));
}

/** -log2(f / 2^15) in 1/256 bit, rounded down; what a sign takes comes on top. */
function codeLength(frequency) {
  return 15 * 256 - Math.floor(256 * Math.log2(frequency));
}

/** `struct machine` of a code's parity-check polynomials: see codec/entropy/machine.py. */
export function placeMachine(loops, h0, h1, bits) {
  const summed = (polynomial) =>
    Int32Array.from({ length: 2 ** bits }, (_, state) => {
      let sum = 0;
      for (let age = 1; age <= bits; age++) {
        if ((polynomial >> (bits - age)) & 1) sum ^= (state >> (age - 1)) & 1;
      }
      return sum;
    });
  return placeRecord(loops, [h1, h0].map((polynomial) => loops.place(Int32Array, summed(polynomial))));
}

/** A structure of addresses and sizes. */
export function placeRecord(loops, words) {
  return loops.place(Uint32Array, words);
}
