// Encoding in a page: the work is done in a worker.

import { Remote } from "./remote.js";

const MAX_BYTES = 65536;

/** See index.d.ts. */
export class Encoder {
  #remote;

  constructor({ base = new URL("../", import.meta.url), device, onProgress } = {}) {
    const worker = new Worker(new URL("./encoding/worker.js", import.meta.url), { type: "module" });
    this.#remote = new Remote(worker, { base: new URL(base, location.href).href, device }, onProgress);
  }

  load({ signal } = {}) {
    return this.#remote.call("load", null, signal);
  }

  embed(image, { signal } = {}) {
    return this.#remote.call("embed", checked(image), signal);
  }

  async encode(image, { maxBytes = 140, signal } = {}) {
    if (!Number.isInteger(maxBytes) || maxBytes < 1) {
      throw new RangeError(`maxBytes is ${maxBytes}; it must be a whole number of bytes`);
    }
    const given = { image: checked(image), maxBytes: Math.min(maxBytes, MAX_BYTES) };
    return this.#remote.call("encode", given, signal);
  }

  close() {
    this.#remote.close();
  }
}

/** A picture as it can be sent to a worker. */
function checked(image) {
  if (image instanceof ImageBitmap) return image;
  const { width, height, data } = image;
  if (!(width > 0 && height > 0 && data?.length === 4 * width * height)) {
    throw new TypeError("a picture must be an ImageBitmap, or width, height and data of 4 × width × height levels");
  }
  return { width, height, data };
}
