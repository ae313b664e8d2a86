// A stream's bytes, layer by layer.

import { $, element } from "./dom.js";

const MOST = 512;

/**
 * @param {Uint8Array} bytes
 * @param {import("../index.js").Stream} stream what they are
 */
export function showBytes(bytes, stream) {
  const parts = [
    { name: "Header", kind: "header", size: stream.header, note: "codec, checksum, shape" },
    { name: "Layout", kind: "layout", size: stream.layout?.length ?? 0, note: "coarse colours" },
    { name: "Vector", kind: "vector", size: stream.semantic?.length ?? 0, note: "what it means, to CLIP" },
  ];
  $("bar").replaceChildren(...parts.filter(({ size }) => size).map(segment));
  $("layers").replaceChildren(...parts.map(row));
  $("hex").replaceChildren(...digits(bytes, parts));
}

function segment({ kind, size }) {
  const made = element("span", "", kind);
  made.style.flexGrow = String(size);
  return made;
}

function row({ name, kind, size, note }) {
  const made = element("div", "", kind);
  const term = element("dt", `${name} `);
  term.append(element("small", note));
  made.append(term, element("dd", size ? `${size} bytes` : "none"));
  return made;
}

/** Every byte in hex, over the colour of its layer. */
function digits(bytes, parts) {
  const kinds = parts.flatMap(({ kind, size }) => Array(size).fill(kind));
  const shown = Array.from(bytes.subarray(0, MOST), (byte, at) =>
    element("span", byte.toString(16).padStart(2, "0"), kinds[at]),
  );
  if (bytes.length > MOST) {
    shown.push(element("span", `and ${bytes.length - MOST} more`, "rest"));
  }
  return shown;
}
