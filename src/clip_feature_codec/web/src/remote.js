// Both ends of a worker: calls with one result, progress in between, and a way to stop them.

import { ClpError, MissingLayerError } from "./errors.js";

const ERRORS = { ClpError, MissingLayerError, RangeError, TypeError };

/** The page's end. */
export class Remote {
  /**
   * @param {Worker} worker runs `answer`
   * @param {object} opening what its `open` is told at the first call
   * @param {(progress: object) => void} onProgress
   */
  constructor(worker, opening, onProgress) {
    this.worker = worker;
    this.calls = new Map();
    this.count = 0;
    worker.postMessage({ opening });
    worker.onmessage = ({ data: { id, progress, result, error } }) => {
      if (progress) return id === undefined || this.calls.has(id) ? onProgress?.(progress) : undefined;
      const call = this.calls.get(id);
      this.calls.delete(id);
      return error ? call?.reject(revived(error)) : call?.resolve(result);
    };
    worker.onerror = ({ message }) => this.#fail(new Error(`worker: ${message ?? "it cannot be loaded"}`));
  }

  /** Call a method of what was opened. */
  call(method, argument, signal) {
    signal?.throwIfAborted();
    const id = this.count++;
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.calls.delete(id);
        this.worker.postMessage({ stop: id });
        reject(signal.reason);
      };
      const settled = (settle) => (value) => {
        signal?.removeEventListener("abort", stop);
        settle(value);
      };
      signal?.addEventListener("abort", stop, { once: true });
      this.calls.set(id, { resolve: settled(resolve), reject: settled(reject) });
      this.worker.postMessage({ id, method, argument });
    });
  }

  /** End the worker; what it was doing fails. */
  close() {
    this.worker.terminate();
    this.#fail(new DOMException("it was closed", "AbortError"));
  }

  #fail(error) {
    for (const { reject } of this.calls.values()) reject(error);
    this.calls.clear();
  }
}

function revived({ name, message }) {
  return Object.assign(new (ERRORS[name] ?? Error)(message), { name });
}

/**
 * The worker's end: one call after the other.
 *
 * @param {(opening: object, tell: (stage: string, done: number, total: number) => void) => Promise<object>} open
 *   gives what has the methods, each called with an argument, what tells of its progress, and what waits and throws
 *   where it has been stopped; asked once, and again where it failed
 */
export function answer(open) {
  const stopped = new Set();
  let opening;
  let opened;
  let last = Promise.resolve();
  const teller = (id) => (stage, done, total) => postMessage({ id, progress: { stage, done, total } });
  const work = async ({ id, method, argument }) => {
    const check = async () => {
      await new Promise((resolve) => setTimeout(resolve)); // lets a message in that stops this
      if (stopped.delete(id)) throw new DOMException("it was stopped", "AbortError");
    };
    try {
      await check();
      opened ??= open(opening, teller()).catch((error) => {
        opened = undefined;
        throw error;
      });
      postMessage({ id, result: await (await opened)[method](argument, teller(id), check) });
    } catch ({ name, message }) {
      postMessage({ id, error: { name, message } });
    }
  };
  self.onmessage = ({ data }) => {
    if (data.opening) opening = data.opening;
    else if (data.stop !== undefined) stopped.add(data.stop);
    else last = last.then(() => work(data));
  };
}
