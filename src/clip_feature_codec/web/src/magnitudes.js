// What both layers are coded with: tables of magnitudes, and the grids of the two quantisers (docs/clp-format.md).

const SYMBOLS = 20;
const ESCAPE = 19;
const LIMIT = 32768;

/** The step of a step byte's low four bits, in 2^-16 of what its high bits say. */
export const MANTISSAS = [
  65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752, 92682, 96785, 101070, 105545, 110218, 115098,
  120194, 125515,
];

/** The table row of a level, and how many low bits of the magnitude are coded apart from it. */
export function address(level) {
  const row = (level >> 1) + 40;
  return row < 57 ? [Math.max(row, 0), 0] : [57 + ((row - 57) % 8), ((row - 57) >> 3) + 1];
}

export class Magnitudes {
  /** @param {object} tables frequencies, scores, information and centroids as integer arrays */
  constructor({ frequencies, scores, information, centroids }) {
    this.frequencies = frequencies;
    this.starts = cumulative(frequencies);
    this.scores = scores;
    this.information = information;
    this.centroids = centroids;
  }

  /** Decode a magnitude; 2^15 or more where the stream is none of ours. */
  magnitude(code, row, quantiser, shift) {
    const symbol = code.symbol(this.starts, (SYMBOLS + 1) * (2 * row + quantiser));
    let magnitude = symbol;
    if (symbol === ESCAPE) {
      const bits = code.bits(4);
      magnitude += 2 ** bits + code.bits(bits) - 1;
    }
    return shift > 0 ? magnitude * 2 ** shift + code.bits(shift) : magnitude;
  }

  /** Decode the sign of a magnitude above 0: the value that both stand for, in 1/256 of the step. */
  value(code, magnitude, row, quantiser, shift) {
    const at = SYMBOLS * (2 * row + quantiser) + Math.min(magnitude, ESCAPE);
    const centroid = shift === 0 ? this.centroids[at] : 0;
    return ((2 * magnitude - quantiser) * 256 + centroid) * (code.bits(1) ? -1 : 1);
  }

  /** How a magnitude moves the estimate of the spread. */
  score(magnitude, row, quantiser, shift) {
    return this.scores[SYMBOLS * (2 * row + quantiser) + Math.min(magnitude >> shift, ESCAPE)];
  }

  /** Whether a magnitude is one that streams of ours hold. */
  static holds(magnitude) {
    return magnitude < LIMIT;
  }
}

/** Cumulative frequencies of each row and quantiser, 21 numbers each. */
function cumulative(frequencies) {
  const starts = new Uint16Array((frequencies.length / SYMBOLS) * (SYMBOLS + 1));
  for (let table = 0; table < frequencies.length / SYMBOLS; table++) {
    for (let s = 0; s < SYMBOLS; s++) {
      const at = (SYMBOLS + 1) * table + s;
      starts[at + 1] = starts[at] + frequencies[SYMBOLS * table + s];
    }
  }
  return starts;
}
