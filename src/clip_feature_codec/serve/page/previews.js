// Streams to pixels, in workers: what was asked for last comes first, and what nobody waits for is left out.

const WORKERS = Math.min(2, Math.max(1, (navigator.hardwareConcurrency ?? 2) - 1));
const AT_ONCE = 4;

export class Previews {
  #codec;
  #waiting = [];
  #underway = new Map();
  #workers = [];
  #number = 0;

  /** @param {object} codec the `codec` of the store */
  constructor(codec) {
    this.#codec = codec;
    for (let i = 0; i < WORKERS; i++) {
      const worker = new Worker("/page/preview-worker.js", { type: "module" });
      const one = { worker, busy: 0 };
      worker.onmessage = ({ data }) => this.#done(one, data);
      this.#workers.push(one);
    }
  }

  /**
   * Decode the layout layer of a stream.
   *
   * @param {Uint8Array} bytes the stream
   * @param {number} size longer side in pixels
   * @param {() => boolean} [wanted] whether somebody still waits
   * @returns {Promise<ImageBitmap | null>} null: nobody waits, or there is nothing to show
   */
  decode(bytes, size, wanted = () => true) {
    return new Promise((settle) => {
      this.#waiting.push({ bytes, size, wanted, settle });
      this.#next();
    });
  }

  #next() {
    for (const one of this.#workers) {
      while (one.busy < AT_ONCE && this.#waiting.length) {
        const { bytes, size, wanted, settle } = this.#waiting.pop();
        if (!wanted()) {
          settle(null);
          continue;
        }
        this.#underway.set(++this.#number, settle);
        one.busy++;
        one.worker.postMessage({ number: this.#number, bytes: bytes.slice(), size, codec: this.#codec });
      }
    }
  }

  #done(one, { number, picture }) {
    one.busy--;
    this.#underway.get(number)(picture ?? null);
    this.#underway.delete(number);
    this.#next();
  }
}

/** Put a picture on a canvas, and let go of it. */
export function show(canvas, picture) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(picture);
}
