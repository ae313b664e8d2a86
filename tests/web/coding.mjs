// Coding vectors and pictures as the page does it, without its networks, for the tests.

import { readFileSync } from "node:fs";
import { aspectField, pack } from "../../src/clip_feature_codec/web/src/container.js";
import { codeToBudget } from "../../src/clip_feature_codec/web/src/encoding/budget.js";
import { analyse, LayoutCoder } from "../../src/clip_feature_codec/web/src/encoding/layout.js";
import { Loops } from "../../src/clip_feature_codec/web/src/encoding/loops.js";
import { VectorCoder } from "../../src/clip_feature_codec/web/src/encoding/vector.js";
import { TABLES } from "../../src/clip_feature_codec/web/src/tables.js";
import { GEOMETRY } from "../../src/clip_feature_codec/web/src/layout.js";

const program = new URL("../../src/clip_feature_codec/web/src/encoding/loops.wasm", import.meta.url);

async function coders(codec) {
  const loops = await Loops.open(readFileSync(program));
  return [new VectorCoder(loops, codec), new LayoutCoder(loops)];
}

/** Coefficients of pictures, their mean included. */
export const analysed = ({ pictures }) =>
  pictures.map((picture) => {
    const found = analyse(picture);
    GEOMETRY.means.forEach((at, k) => (found[at] += TABLES.mean[k]));
    return found;
  });

/** Payloads at steps and the usual weights: of vectors, and of pictures. */
export async function payloads({ codec, vectors, pictures, steps }) {
  const [semantic, layout] = await coders(codec);
  const at = (coder, code) => steps.map((step) => [...code(step, coder.weight).payload]);
  return {
    semantic: vectors.map((vector) => at(semantic, semantic.of(Float32Array.from(vector)))),
    layout: pictures.map((picture) => at(layout, layout.of(analyse(picture)))),
  };
}

/** Streams of at most so many bytes. */
export async function streams({ codec, vectors, pictures, limits }) {
  const [semantic, layout] = await coders(codec);
  return vectors.map((vector, i) => {
    const aspect = aspectField(pictures[i].width / pictures[i].height);
    const found = analyse(pictures[i]);
    return limits.map((limit) => {
      const room = limit - 6 - aspect.length;
      const coded = codeToBudget(semantic, Float32Array.from(vector), layout, found, room);
      return [...pack(codec, coded, aspect)];
    });
  });
}
