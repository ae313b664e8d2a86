// Painting and encoding in a page, for the tests.

import { Encoder, Painter } from "../src/index.js";

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const textOf = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const told = [];
const painters = new Map();
const encoder = new Encoder();

async function attempt(work) {
  try {
    return await work();
  } catch ({ name, message }) {
    return { error: name, message };
  }
}

function painterOn(device) {
  if (!painters.has(device)) {
    painters.set(device, new Painter({ device, onProgress: (progress) => told.push(progress) }));
  }
  return painters.get(device);
}

/** What is painted of a stream, where, and the progress that was told meanwhile. */
export const painted = ({ blob, options, device }) =>
  attempt(async () => {
    const painter = painterOn(device);
    const loaded = await painter.load();
    told.length = 0;
    const { width, height, data } = await painter.paint(bytesOf(blob), options);
    return { ...loaded, width, height, pixels: textOf(data), told };
  });

/** Painting that is stopped at its first evaluation; and what comes behind it. */
export async function stopped({ blob, options }) {
  const stopper = new AbortController();
  const first = attempt(() => painterOn().paint(bytesOf(blob), { ...options, signal: stopper.signal }));
  const second = painted({ blob, options: { fidelity: 1 } });
  setTimeout(() => stopper.abort());
  return [await first, await second];
}

/** The stream and the vector of a picture: of its file, or of its pixels. */
export const encoded = ({ file, pixels, maxBytes }) =>
  attempt(async () => {
    const image = file ? await createImageBitmap(new Blob([bytesOf(file)])) : { ...pixels, data: bytesOf(pixels.data) };
    return { stream: textOf(await encoder.encode(image, { maxBytes })), vector: [...(await encoder.embed(image))] };
  });
