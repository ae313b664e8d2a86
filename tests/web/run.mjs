// Reads a list of {blob: base64, codec, size} from standard input; writes what the decoder makes of each.

import { readFileSync } from "node:fs";
import { decodeLayout, parse } from "../../src/clip_feature_codec/web/src/index.js";
import { decodeCoefficients } from "../../src/clip_feature_codec/web/src/layout.js";

function outcome({ blob, codec, size }) {
  const bytes = new Uint8Array(Buffer.from(blob, "base64"));
  try {
    const { profile, semantic, layout, aspect, header } = parse(bytes, { codec });
    const found = { profile, aspect, header, semantic: semantic?.length ?? null, layout: layout?.length ?? null };
    if (layout === null) return found;
    const picture = decodeLayout(bytes, { size, codec });
    const pixels = Buffer.from(picture.data.buffer).toString("base64");
    const coefficients = Buffer.from(decodeCoefficients(layout).buffer).toString("base64");
    return { ...found, width: picture.width, height: picture.height, pixels, coefficients };
  } catch (error) {
    return { error: error.name, message: error.message };
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(outcome)));
