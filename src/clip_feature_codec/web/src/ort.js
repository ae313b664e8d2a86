// ONNX Runtime Web, and networks whose weights lie in a file beside them.

import { sha256 } from "./sha256.js";

const RUNTIMES = { webgpu: "ort-wasm-simd-threaded.asyncify", wasm: "ort-wasm-simd-threaded" };

/** What the networks run on where nobody says it: a graphics processor, if there is a real one. */
async function usualDevice() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter && !adapter.info?.isFallbackAdapter ? "webgpu" : "wasm";
}

/**
 * Load the runtime and the networks of a folder, whose `graphs.json` says what belongs together.
 *
 * @param {URL} base with `ort/` in it
 * @param {URL} folder
 * @param {string[]} names of the graphs
 * @param {Downloads} downloads
 * @param {string | undefined} device "webgpu" or "wasm"
 * @returns {Promise<{device: string, networks: Network[]}>}
 */
export async function openNetworks(base, folder, names, downloads, device) {
  const files = networkFiles(folder, names, downloads);
  const open = async (chosen) => {
    const [ort, { weights, models }] = await Promise.all([runtime(new URL("ort/", base), downloads, chosen), files]);
    const options = { executionProviders: [chosen], externalData: [weights], logSeverityLevel: 3 };
    const networks = [];
    for (const model of models) networks.push(new Network(ort, await ort.InferenceSession.create(model, options)));
    return { device: chosen, networks };
  };
  const chosen = device ?? (await usualDevice());
  return open(chosen).catch((error) => {
    if (device || chosen === "wasm") throw error;
    return open("wasm"); // a processor that is there, and lacks something
  });
}

/** The bytes of graphs and of their weights, where they are those that were made together. */
async function networkFiles(folder, names, downloads) {
  const { weights: path, sha256: digests } = await downloads.json(new URL("graphs.json", folder));
  const [data, ...models] = await Promise.all(
    [path, ...names].map(async (name) => {
      const bytes = await downloads.bytes(new URL(name, folder));
      if (hex(await digest(bytes)) !== digests[name]) {
        throw new Error(`${name}: found a file that graphs.json beside it was not made with; reload the page`);
      }
      return bytes;
    }),
  );
  return { weights: { path, data }, models };
}

/** SHA-256; the browser's own, where the page is of a secure origin. */
async function digest(bytes) {
  return crypto.subtle ? new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)) : sha256(bytes);
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function runtime(folder, downloads, device) {
  const [ort, wasmBinary] = await Promise.all([
    import(new URL(`ort.${device}.min.mjs`, folder).href),
    downloads.bytes(new URL(`${RUNTIMES[device]}.wasm`, folder)),
  ]);
  Object.assign(ort.env.wasm, { wasmPaths: folder.href, wasmBinary });
  if (!self.crossOriginIsolated) ort.env.wasm.numThreads = 1;
  return ort;
}

/** One network, loaded. */
class Network {
  constructor(ort, session) {
    this.ort = ort;
    this.session = session;
  }

  /**
   * Run it.
   *
   * @param {...[Float32Array | BigInt64Array, number[]]} inputs in the network's own order, each with its shape
   * @returns {Promise<Float32Array>} its only output
   */
  async run(...inputs) {
    const { Tensor } = this.ort;
    const tensor = ([data, shape]) => new Tensor(data instanceof BigInt64Array ? "int64" : "float32", data, shape);
    const feeds = Object.fromEntries(this.session.inputNames.map((name, i) => [name, tensor(inputs[i])]));
    const found = await this.session.run(feeds);
    return found[this.session.outputNames[0]].data;
  }
}

/** Files that are fetched side by side, with what there is of them so far. */
export class Downloads {
  /** @param {(done: number, total: number) => void} onProgress bytes, and all that are known to come */
  constructor(onProgress) {
    this.onProgress = onProgress;
    this.done = 0;
    this.total = 0;
  }

  async bytes(url) {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url}: found status ${response.status}, expected a file`);
    const length = Number(response.headers.get("Content-Length"));
    this.total += length;
    const parts = [];
    for (const reader = response.body.getReader(); ; ) {
      const { value, done } = await reader.read();
      if (done) break;
      parts.push(value);
      this.done += value.length;
      this.total = Math.max(this.total, this.done); // lengths of compressed files are others
      this.onProgress(this.done, this.total);
    }
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  }

  async json(url) {
    return JSON.parse(new TextDecoder().decode(await this.bytes(url)));
  }
}
