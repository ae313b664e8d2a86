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
  data: ImageData["data"];
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

/** How far the work is: bytes that are fetched, or evaluations of the network. */
export interface Progress {
  stage: "loading" | "painting";
  done: number;
  total: number;
}

export interface WorkerOptions {
  /**
   * The folder with `mini/`, the built-in pack, and `ort/`, ONNX Runtime Web; a URL that ends in `/`. Default: the
   * folder that `src/` is in.
   */
  base?: string | URL;
  /** What the network runs on. Default: WebGPU where there is a graphics processor for it, else WebAssembly. */
  device?: "webgpu" | "wasm";
  onProgress?: (progress: Progress) => void;
}

export interface CallOptions {
  /** Stops the call, which throws the signal's reason (an `AbortError`). */
  signal?: AbortSignal;
}

/** What `load` has found out. */
export interface Loaded {
  device: "webgpu" | "wasm";
}

export interface PaintOptions extends CallOptions {
  /** 0 (a sharp sample, invented where the stream says nothing) to 1 (the mean of all that it allows). Default: 0. */
  fidelity?: number;
  /** Evaluations of the network, 1 to 1000. Default: 2. */
  steps?: number;
  /** A whole number of at least 0: the noise follows from it and from the stream. Default: 0. */
  seed?: number;
  /** Classifier-free guidance; 1 is none, more follows the vector more closely. Default: 2. */
  guidance?: number;
  /** Longer side of the result in pixels, 1 to 8192. Default: 256. */
  size?: number;
  /** Give out the square canvas instead of the picture's own shape. Default: false. */
  square?: boolean;
}

/** Paints pictures of the built-in codec's streams, in a worker, one after the other. */
export class Painter {
  constructor(options?: WorkerOptions);

  /** Fetch the network; `paint` does it where it has not been done. */
  load(options?: CallOptions): Promise<Loaded>;

  /**
   * Paint a picture: that of `clip-codec reconstruct-diffusion` with the same options, but for single levels.
   *
   * @throws ClpError the stream is damaged or was written with other tables
   * @throws RangeError an option is out of range
   */
  paint(bytes: Uint8Array, options?: PaintOptions): Promise<Picture>;

  /** End the worker; what waits throws an `AbortError`. */
  close(): void;
}

export interface EncodeOptions extends CallOptions {
  /** Size that the file does not exceed, header included; 8 are enough for every picture. Default: 140. */
  maxBytes?: number;
}

/** What can be encoded; it is upright and sRGB, and what can be seen through is laid over white. */
export type Image = ImageBitmap | { width: number; height: number; data: Uint8ClampedArray | Uint8Array };

/** Makes streams of pictures with the built-in codec, in a worker, one after the other. */
export class Encoder {
  constructor(options?: WorkerOptions);

  /** Fetch the network; the others do it where it has not been done. */
  load(options?: CallOptions): Promise<Loaded>;

  /**
   * Encode a picture: a `.clp` file as good as those of `clip-codec encode --max-bytes`.
   *
   * @throws RangeError `maxBytes` is out of range
   */
  encode(image: Image, options?: EncodeOptions): Promise<Uint8Array>;

  /** The CLIP vector of a picture, float32 (D), of unit length. */
  embed(image: Image, options?: CallOptions): Promise<Float32Array>;

  /** End the worker; what waits throws an `AbortError`. */
  close(): void;
}
