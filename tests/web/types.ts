// What a program may write against index.d.ts; tsc checks it.

import {
  ClpError,
  decodeLayout,
  decodeVector,
  Encoder,
  MINI,
  MissingLayerError,
  Painter,
  parse,
  type CodecFile,
  type Picture,
  type Progress,
} from "clip-feature-codec";

const bytes = new Uint8Array(7);
const codec: CodecFile = { ...MINI, semantic: {} };
const shown: Picture = decodeLayout(bytes, { size: 64, square: true, codec });
const drawn: ImageData = new ImageData(shown.data, shown.width, shown.height);
const vector: Float32Array = decodeVector(bytes, { codec });
const layout: Uint8Array | null = parse(bytes).layout;
const error: ClpError = new MissingLayerError("there is none");
const painter = new Painter({ base: "/static/", device: "wasm", onProgress: ({ done }: Progress) => done });
const painted: Promise<Picture> = painter.paint(bytes, { fidelity: 0.5, signal: new AbortController().signal });
const stream: Promise<Uint8Array> = new Encoder().encode(drawn, { maxBytes: 140 });
// @ts-expect-error there is no such layer to be missed
painter.paint(bytes, { sharpness: 1 });
export { error, layout, painted, stream, vector };
