// `.clp` files in the browser: what is in them, and the coarse colour picture of their layout layer.

import { parse as parseWith } from "./container.js";
import { draw } from "./draw.js";
import { ClpError, MissingLayerError } from "./errors.js";
import { decodeCoefficients } from "./layout.js";
import { TABLES } from "./tables.js";

export { ClpError, MissingLayerError };

const MAX_SIZE = 8192;
const LONGEST = 128;

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

/**
 * The width and height whose longer side is `size` and whose ratio is nearest to `aspect`. The longest shape
 * that a stream can say stands for lines of pixels, too, and is drawn at half its width.
 */
function outputSize(aspect, size) {
  const share = Math.min(aspect, 1 / aspect);
  const shorter = Math.max(1, roundHalfEven((size * share) / (share === 1 / LONGEST ? 2 : 1)));
  return aspect >= 1 ? [size, shorter] : [shorter, size];
}

function roundHalfEven(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest === 0.5 ? whole + (whole % 2) : Math.round(value);
}
