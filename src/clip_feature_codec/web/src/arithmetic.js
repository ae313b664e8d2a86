// The arithmetic decoder (docs/clp-format.md). Numbers stay below 2^53, so that doubles hold them exactly.

const ONE = 2 ** 48;
const BYTE = 2 ** 40;
const TOTAL = 32768;

export class ArithmeticDecoder {
  /** @param {Uint8Array} stream followed by zero bytes without end */
  constructor(stream) {
    this.stream = stream;
    this.range = ONE;
    this.at = 6;
    this.damaged = false;
    this.number = 0;
    for (let i = 0; i < 6; i++) this.number = this.number * 256 + (stream[i] ?? 0);
  }

  /**
   * Decode one symbol.
   *
   * @param {Uint16Array} starts cumulative frequencies, from 0 to 2^15
   * @param {number} first where those of the symbol's table begin
   */
  symbol(starts, first) {
    const slot = this.#slot();
    let symbol = first;
    while (starts[symbol + 1] <= slot) symbol++;
    this.#narrow(starts[symbol], starts[symbol + 1] - starts[symbol]);
    return symbol - first;
  }

  /** Decode n equally likely bits, 0 to 15 of them. */
  bits(n) {
    const width = TOTAL >> n;
    const value = Math.floor(this.#slot() / width);
    this.#narrow(value * width, width);
    return value;
  }

  /** Whether the stream is the shortest one of the symbols read: nothing more, less or other. */
  complete() {
    const { stream } = this;
    const size = stream.length;
    if (this.damaged || (size > 0 && stream[size - 1] === 0)) return false;
    const settled = this.at - 6;
    if (size <= settled) return true;
    if (size > settled + 1) return false;
    const low = stream[settled] * BYTE - this.number;
    return low > 0 && this.number < BYTE && low + this.range <= ONE;
  }

  #slot() {
    const share = Math.floor(this.range / TOTAL);
    const slot = Math.floor(this.number / share);
    if (slot < TOTAL) return slot;
    this.number = share * TOTAL - 1;
    this.damaged = true;
    return TOTAL - 1;
  }

  #narrow(start, frequency) {
    const share = Math.floor(this.range / TOTAL);
    this.number -= share * start;
    this.range = share * frequency;
    while (this.range < BYTE) {
      this.number = this.number * 256 + (this.stream[this.at] ?? 0);
      this.range *= 256;
      this.at += 1;
    }
  }
}
