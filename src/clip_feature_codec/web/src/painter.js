// Painting in a page: the work is done in a worker.

import { Remote } from "./remote.js";

const USUAL = { fidelity: 0, steps: 2, seed: 0, guidance: 2, size: 256, square: false };
const MAX_SIZE = 8192;

/** See index.d.ts. */
export class Painter {
  #remote;

  constructor({ base = new URL("../", import.meta.url), device, onProgress } = {}) {
    const worker = new Worker(new URL("./painting/worker.js", import.meta.url), { type: "module" });
    this.#remote = new Remote(worker, { base: new URL(base, location.href).href, device }, onProgress);
  }

  load({ signal } = {}) {
    return this.#remote.call("load", null, signal);
  }

  async paint(bytes, { signal, ...chosen } = {}) {
    if (!(bytes instanceof Uint8Array)) throw new TypeError("a stream must be a Uint8Array");
    const options = checked({ ...USUAL, ...chosen });
    return this.#remote.call("paint", { bytes, options }, signal);
  }

  close() {
    this.#remote.close();
  }
}

function checked(options) {
  const { fidelity, seed, guidance, size } = options;
  if (!(fidelity >= 0 && fidelity <= 1)) throw new RangeError(`fidelity is ${fidelity}; it must be 0 to 1`);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError(`seed is ${seed}; it must be a whole number from 0`);
  if (!Number.isFinite(guidance)) throw new RangeError(`guidance is ${guidance}; it must be a finite number`);
  if (!Number.isInteger(size) || size < 1 || size > MAX_SIZE) {
    throw new RangeError(`size is ${size}; it must be 1 to ${MAX_SIZE} pixels`);
  }
  return options;
}
