// Photos to streams, where the server has the image tower.

import { Encoder } from "../src/index.js";
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
  encoder ??= new Encoder({ onProgress: tell });
  try {
    return await encoder.encode(photo, { maxBytes: numberIn($("max-bytes")) });
  } catch (error) {
    throw new Error(`This page cannot encode the photo: ${error.message}`);
  }
}

function tell({ stage, done, total }) {
  if (stage === "loading") {
    show(`Loading the encoder: ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`);
  }
}
