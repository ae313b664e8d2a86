/** A stream that is truncated, damaged, or written with other tables; the message names the field. */
export class ClpError extends Error {}

/** A stream has no layer of the kind that is asked for. */
export class MissingLayerError extends ClpError {}

/** What tells a codec from others: two fields of its `codec.json`, which may be handed over as it is. */
export interface Codec {
  /** SHA-256 of its tables, in hex. */
  tables_sha256: string;
  /** How it codes the semantic layer. */
  profile: "int8" | "klt";
}

/** A whole `codec.json`, with the tables of vectors. It is trusted: whoever serves it decides what is decoded. */
export interface CodecFile extends Codec {
  semantic: object;
}

/** The built-in codec, that of the `mini` pack. */
export const MINI: Codec;

/** What a `.clp` file carries; at least one of the layers is there. */
export interface Stream {
  /** How the semantic layer is coded; null without that layer. */
  profile: "int8" | "klt" | null;
  /** Payload of the semantic layer, the coded CLIP vector; null where there is none. */
  semantic: Uint8Array | null;
  /** Payload of the layout layer, the coarse colour picture, 1 to 255 bytes; null where there is none. */
  layout: Uint8Array | null;
  /** Width / height of the picture, from 1/128 to 128; 1 for square. */
  aspect: number;
  /** Bytes of the file that belong to no layer. */
  header: number;
}

export interface ParseOptions {
  /** What the stream was written with. Default: `MINI`. */
  codec?: Codec;
}

export interface LayoutOptions extends ParseOptions {
  /** Longer side of the result in pixels, 1 to 8192. Default: 256. */
  size?: number;
  /** Give out the square canvas instead of the picture's own shape. Default: false. */
  square?: boolean;
}

/** Pixels as `ImageData` takes them: `new ImageData(picture.data, picture.width, picture.height)`. */
export interface Picture {
  width: number;
  height: number;
  /** RGBA, 4 × width × height levels, rows from the top. */
  data: Uint8ClampedArray;
}

/**
 * Check a stream and take it apart.
 *
 * @throws ClpError the stream is damaged or was written with other tables
 */
export function parse(bytes: Uint8Array, options?: ParseOptions): Stream;

/**
 * Show the layout layer alone: a coarse picture, without any network. The same as `clip-codec decode --preview`,
 * to one level of 255.
 *
 * @throws MissingLayerError the stream has no layout layer
 * @throws ClpError the stream is damaged or was written with other tables
 * @throws RangeError `size` is out of range
 */
export function decodeLayout(bytes: Uint8Array, options?: LayoutOptions): Picture;

/**
 * Decode the semantic layer: the CLIP vector, float32 (D), of unit length. As Python's to the bit with the profile
 * `klt`, to 1e-7 with `int8`.
 *
 * @throws MissingLayerError the stream has no semantic layer
 * @throws ClpError the stream is damaged or was written with other tables
 */
export function decodeVector(bytes: Uint8Array, options: { codec: CodecFile }): Float32Array;
