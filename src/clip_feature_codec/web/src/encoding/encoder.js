// From pictures to streams with the CLIP model of `mini`.

import { aspectField, pack } from "../container.js";
import { openNetworks } from "../ort.js";
import { planesOf } from "../painting/planes.js";
import { resize } from "../resize.js";
import { codeToBudget } from "./budget.js";
import { analyse, LayoutCoder } from "./layout.js";
import { Loops } from "./loops.js";
import { VectorCoder } from "./vector.js";

const { fround } = Math;

export class PictureEncoder {
  /** Fetch what is in `base`; see Encoder. */
  static async open(base, downloads, device) {
    const [codec, program, opened] = await Promise.all([
      downloads.json(new URL("mini/codec.json", base)),
      downloads.bytes(new URL("./loops.wasm", import.meta.url)),
      openNetworks(base, new URL("mini/clip/", base), ["image.onnx"], downloads, device),
    ]);
    return new PictureEncoder(codec, await Loops.open(program), opened);
  }

  constructor(codec, loops, { device, networks: [tower] }) {
    Object.assign(this, { codec, device, tower });
    this.vectors = new VectorCoder(loops, codec);
    this.layouts = new LayoutCoder(loops);
  }

  /** The CLIP vector of a picture, float32 (D), of unit length. */
  async embed(picture) {
    const { size: [height, width], mean, std } = this.codec.space.preprocessing;
    const small = resize(picture, width, height);
    const [shift, scale] = [fround(mean[0]), fround(std[0])]; // the same for all colours
    const pixels = planesOf(small, (level) => fround(fround(level / 255) - shift) / scale);
    const vector = await this.tower.run([pixels, [1, 3, height, width]]);
    const length = Math.hypot(...vector);
    return vector.map((value) => value / length);
  }

  /** A stream of at most `maxBytes`. */
  async encode(picture, maxBytes) {
    const aspect = aspectField(picture.width / picture.height);
    const room = maxBytes - 6 - aspect.length;
    if (room < this.vectors.smallest) {
      throw new RangeError(`maxBytes is ${maxBytes}; it must be at least ${7 + aspect.length} for this picture`);
    }
    const vector = await this.embed(picture);
    const coded = codeToBudget(this.vectors, vector, this.layouts, analyse(picture), room);
    return pack(this.codec, coded, aspect);
  }
}
