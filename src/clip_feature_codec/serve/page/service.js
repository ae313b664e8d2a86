// The server: its interface is described at /openapi.json.

const TRIES = 4;

let token = "";

/** Take the token out of the address, where it would be shown and shared. */
export function takeToken() {
  const asked = new URLSearchParams(location.hash.slice(1));
  token = asked.get("token") ?? sessionStorage.getItem("token") ?? "";
  if (!asked.has("token")) return;
  sessionStorage.setItem("token", token);
  asked.delete("token");
  history.replaceState(null, "", asked.size ? `#${asked}` : location.pathname);
}

/** What the server says when it refuses. */
export class Refused extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

/**
 * Ask for something; again, a little later, where there is too much to do.
 *
 * @param {string} path below /api/
 * @param {{query?: object, body?: Blob, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>}
 */
export async function ask(path, { query = {}, body, signal } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const address = `/api/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body) headers["Content-Type"] = body.type || "application/octet-stream";
  for (let left = TRIES - 1; ; left--) {
    const answer = await fetch(address, { method: body ? "POST" : "GET", headers, body, signal });
    if (answer.ok) return answer;
    if (answer.status !== 429 || !left) throw new Refused(answer.status, await reason(answer));
    await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("Retry-After") ?? 1)));
  }
}

export async function askJson(path, options) {
  return (await ask(path, options)).json();
}

async function reason(answer) {
  if (answer.status === 401) return "This server asks for a token: open the link that it printed.";
  try {
    return (await answer.json()).error;
  } catch {
    return `The server said ${answer.status}.`;
  }
}

/** The streams in one answer, each behind its length. */
export function unpackStreams(buffer) {
  const view = new DataView(buffer);
  const found = [];
  for (let at = 0; at < buffer.byteLength; ) {
    const length = view.getUint32(at, true);
    found.push(new Uint8Array(buffer, at + 4, length));
    at += 4 + length;
  }
  return found;
}

export function fromBase64url(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}
