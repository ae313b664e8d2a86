// The decoder of `mini`: what it is told of a stream, and how it paints. See decoders/painting.py.

import { MissingLayerError } from "../errors.js";
import { decodeLayout, decodeVector, parse } from "../index.js";
import { openNetworks } from "../ort.js";
import { resize } from "../resize.js";
import { outputSize } from "../shapes.js";
import { noiseSeed, normalNoise } from "./noise.js";
import { samplingPlan } from "./plan.js";
import { bicubic, clip, pictureOf, planesOf } from "./planes.js";
import { guided, sample } from "./sampler.js";

const ENLARGED = 4; // by the upsampler
const { fround } = Math;

export class Decoder {
  /** Fetch what is in `base`; see Painter. */
  static async open(base, downloads, device) {
    const folder = new URL("mini/decoder/", base);
    const [codec, config, opened] = await Promise.all([
      downloads.json(new URL("mini/codec.json", base)),
      downloads.json(new URL("config.json", folder)),
      openNetworks(base, folder, ["unet.onnx", "upsampler.onnx"], downloads, device),
    ]);
    return new Decoder(codec, config, opened);
  }

  constructor(codec, config, { device, networks: [unet, upsampler] }) {
    Object.assign(this, { codec, device, unet, upsampler });
    this.side = config.image_size;
    this.scheduler = config.scheduler;
    this.layoutSide = config.unet.layout;
    this.gain = config.unet.residual_gain;
  }

  /**
   * Paint a picture.
   *
   * @param {Uint8Array} bytes a stream
   * @param {object} options see Painter.paint
   * @param {(done: number, total: number) => Promise<void>} onStep waits behind each evaluation
   */
  async paint(bytes, { fidelity, steps, seed, guidance, size, square }, onStep) {
    const { aspect } = parse(bytes, { codec: this.codec });
    const conditions = this.#conditions(bytes);
    const noise = normalNoise(noiseSeed(seed, bytes), 3 * this.side ** 2);
    const plans = [fidelity > 0 && samplingPlan(this.scheduler, 1), fidelity < 1 && samplingPlan(this.scheduler, steps)];
    const total = plans.reduce((sum, plan) => sum + (plan ? plan.length : 0), 0);
    let done = 0;
    const predictor = (strength) => async (x, t) => {
      const output = await this.#predict(x, t, conditions, strength);
      await onStep(++done, total);
      return output;
    };
    const mean = plans[0] && (await sample(predictor(1), plans[0], noise, conditions.residual));
    let canvas = mean;
    let side = this.side;
    if (plans[1]) {
      const small = await sample(predictor(guidance), plans[1], noise, conditions.residual);
      canvas = clip(await this.#enlarged(small, conditions.vector));
      side *= ENLARGED;
      if (mean) blend(canvas, bicubic(mean, this.side, side), fidelity);
    }
    return resize(pictureOf(canvas, side), ...outputSize(square ? 1 : aspect, size));
  }

  /** What the network is told: a vector and a layout, of which one may be all zeros. */
  #conditions(bytes) {
    const { codec, layoutSide, side } = this;
    const there = { vector: optional(() => decodeVector(bytes, { codec })) };
    there.layout = optional(() => decodeLayout(bytes, { size: layoutSide, square: true, codec }));
    const vector = there.vector ?? new Float32Array(codec.space.dim);
    const layout = new Float32Array(4 * layoutSide ** 2);
    const residual = { base: new Float32Array(3 * side ** 2), gain: 1 };
    if (there.layout !== null) {
      const colours = planesOf(there.layout, (level) => fround(level / 127.5) - 1);
      layout.set(colours);
      layout.fill(1, colours.length); // tells grey from nothing
      if (this.gain) Object.assign(residual, { base: clip(bicubic(colours, layoutSide, side)), gain: this.gain });
    }
    return { vector, layout, residual };
  }

  /** The network's output, guided: without the vector, it is told the layout alone. */
  async #predict(x, t, { vector, layout }, guidance) {
    const rows = guidance === 1 ? 1 : 2;
    const output = await this.unet.run(
      [repeated(x, rows), [rows, 3, this.side, this.side]],
      [joined(vector, new Float32Array(vector.length), rows), [rows, vector.length]],
      [new BigInt64Array(rows).fill(BigInt(t)), [rows]],
      [repeated(layout, rows), [rows, 4, this.layoutSide, this.layoutSide]],
    );
    return rows === 1 ? output : guided(output, guidance);
  }

  async #enlarged(canvas, vector) {
    const { side } = this;
    const detail = await this.upsampler.run([canvas, [1, 3, side, side]], [vector, [1, vector.length]]);
    return bicubic(canvas, side, ENLARGED * side).map((value, i) => value + detail[i]);
  }
}

/** What a layer decodes to; null where there is none. */
function optional(decode) {
  try {
    return decode();
  } catch (error) {
    if (error instanceof MissingLayerError) return null;
    throw error;
  }
}

function repeated(values, rows) {
  return joined(values, values, rows);
}

function joined(first, second, rows) {
  const found = new Float32Array(rows * first.length);
  found.set(first);
  if (rows === 2) found.set(second, first.length);
  return found;
}

/** Towards the mean of all pictures that a stream allows (Freirich et al. 2021, theorem 3). */
function blend(canvas, mean, fidelity) {
  const share = fround(fidelity);
  for (let i = 0; i < canvas.length; i++) canvas[i] += fround(fround(mean[i] - canvas[i]) * share);
}
