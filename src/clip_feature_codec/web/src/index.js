// `.clp` files in the browser: what is in them, shown, painted, and made of pictures.

import { parse as parseWith } from "./container.js";
import { draw } from "./draw.js";
import { ClpError, MissingLayerError } from "./errors.js";
import { decodeCoefficients } from "./layout.js";
import { outputSize } from "./shapes.js";
import { TABLES } from "./tables.js";
import { vectorDecoder } from "./vector.js";

export { Encoder } from "./encoder.js";
export { Painter } from "./painter.js";
export { ClpError, MissingLayerError };

const MAX_SIZE = 8192;

/** See index.d.ts. */
export const MINI = Object.freeze({ tables_sha256: TABLES.sha256, profile: TABLES.profile });

/** See index.d.ts. */
export function parse(bytes, { codec = MINI } = {}) {
  if (!(bytes instanceof Uint8Array)) throw new TypeError("a stream must be a Uint8Array");
  return parseWith(bytes, codec);
}

/** See index.d.ts. */
export function decodeLayout(bytes, { size = 256, square = false, codec = MINI } = {}) {
  if (!Number.isInteger(size) || size < 1 || size > MAX_SIZE) {
    throw new RangeError(`size is ${size}; it must be 1 to ${MAX_SIZE} pixels`);
  }
  const stream = parse(bytes, { codec });
  if (stream.layout === null) {
    throw new MissingLayerError("layout layer: found none in the stream, expected one");
  }
  const [width, height] = outputSize(square ? 1 : stream.aspect, size);
  return { width, height, data: draw(decodeCoefficients(stream.layout), width, height) };
}

/** See index.d.ts. */
export function decodeVector(bytes, { codec }) {
  const { semantic } = parse(bytes, { codec });
  if (semantic === null) {
    throw new MissingLayerError("semantic layer: found none in the stream, expected one");
  }
  return vectorDecoder(codec).decode(semantic);
}
