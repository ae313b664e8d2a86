// Photos to streams, where the page has the image tower.

import * as codec from "../src/index.js";
import { $, numberIn, show } from "./dom.js";

let encoder = null;

/**
 * Encode a photo to the bytes that the person allows.
 *
 * @param {ImageBitmap} photo
 * @returns {Promise<Uint8Array>}
 * @throws {Error} in one line
 */
export async function encode(photo) {
  if (!("Encoder" in codec)) {
    throw new Error("photo: this page has no encoder; type: clip-codec link PHOTO --max-bytes 140");
  }
  encoder ??= new codec.Encoder({ onProgress: tell });
  return encoder.encode(photo, { maxBytes: numberIn($("max-bytes")) });
}

function tell({ stage, done, total }) {
  if (stage === "loading") {
    show(`Loading the encoder: ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`);
  }
}
