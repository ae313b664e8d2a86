// What the modules make of streams, for the tests: in node, and imported by a page.

import { decodeLayout, decodeVector, parse } from "../../src/clip_feature_codec/web/src/index.js";
import { decodeCoefficients } from "../../src/clip_feature_codec/web/src/layout.js";

import * as whole from "../../src/clip_feature_codec/web/src/index.js";

export const exported = () => Object.keys(whole);

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const textOf = ({ buffer }) =>
  btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(""));

function attempt(work) {
  try {
    return work();
  } catch (error) {
    return { error: error.name, message: error.message };
  }
}

function layoutOf(bytes, layout, codec, size) {
  const { width, height, data } = decodeLayout(bytes, { size, codec });
  return { width, height, pixels: textOf(data), coefficients: textOf(decodeCoefficients(layout)) };
}

/** For a codec.json, base64 of streams, and the size of previews: what each of them is found to be. */
export function outcomes({ codec, blobs, size }) {
  return blobs.map((blob) => {
    const bytes = bytesOf(blob);
    return attempt(() => {
      const { profile, semantic, layout, aspect, header } = parse(bytes, { codec });
      return {
        profile,
        aspect,
        header,
        lengths: [semantic?.length ?? null, layout?.length ?? null],
        layout: attempt(() => layoutOf(bytes, layout, codec, size)),
        vector: attempt(() => textOf(decodeVector(bytes, { codec }))),
      };
    });
  });
}
