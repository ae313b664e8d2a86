// The noise that Python paints with: the Mersenne Twister (Matsumoto & Nishimura 1998), made normal as torch does it.

import { sha256 } from "../sha256.js";

const SIZE = 624;
const MIDDLE = 397;
const BLOCK = 16;

/** Uniform 32-bit numbers. */
class Twister {
  constructor(seed) {
    this.state = new Uint32Array(SIZE);
    this.at = SIZE;
    this.state[0] = seed;
    for (let i = 1; i < SIZE; i++) {
      const last = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(last, 1812433253) + i;
    }
  }

  next() {
    if (this.at === SIZE) this.#twist();
    let word = this.state[this.at++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  #twist() {
    const { state } = this;
    for (let i = 0; i < SIZE; i++) {
      const word = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
      state[i] = state[(i + MIDDLE) % SIZE] ^ (word >>> 1) ^ (word & 1 ? 0x9908b0df : 0);
    }
    this.at = 0;
  }
}

/**
 * The seed of a picture's noise: from SHA-256 of the seed that a person chose and the picture's stream.
 *
 * @param {number | bigint} seed a whole number of at least 0
 * @param {Uint8Array} stream
 */
export function noiseSeed(seed, stream) {
  const told = new TextEncoder().encode(`${seed}:`);
  const key = new Uint8Array(told.length + stream.length);
  key.set(told);
  key.set(stream, told.length);
  return new DataView(sha256(key).buffer).getUint32(0, true);
}

/**
 * Standard normal numbers, by the transform of Box and Muller (1958): eight uniform numbers are radii, and the eight
 * behind them angles.
 *
 * @param {number} seed of 32 bits
 * @param {number} count a multiple of 16
 */
export function normalNoise(seed, count) {
  const twister = new Twister(seed);
  const noise = Float32Array.from({ length: count }, () => (twister.next() & 0xffffff) * 2 ** -24);
  for (let block = 0; block < count; block += BLOCK) {
    for (let i = block; i < block + BLOCK / 2; i++) {
      const radius = Math.sqrt(Math.fround(-2 * Math.fround(Math.log(Math.fround(1 - noise[i])))));
      const angle = Math.fround(Math.fround(2 * Math.PI) * noise[i + BLOCK / 2]);
      noise[i] = Math.fround(radius) * Math.fround(Math.cos(angle));
      noise[i + BLOCK / 2] = Math.fround(radius) * Math.fround(Math.sin(angle));
    }
  }
  return noise;
}
