// A stream in a link: behind the #, in base64url (RFC 4648, section 5) without padding.

/**
 * @param {Uint8Array} bytes
 * @returns {string} without the #
 */
export function toFragment(bytes) {
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/**
 * @param {string} text a link, or what is behind its #
 * @returns {Uint8Array}
 * @throws {Error} it is no base64url
 */
export function fromLink(text) {
  const fragment = text.slice(text.indexOf("#") + 1).trim();
  const foreign = fragment.match(/[^A-Za-z0-9_-]/u);
  if (foreign) {
    throw new Error(`link: found ${JSON.stringify(foreign[0])} behind the #, expected base64url`);
  }
  try {
    const decoded = atob(fragment.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(decoded, (letter) => letter.charCodeAt(0));
  } catch {
    throw new Error(`link: found ${fragment.length} characters behind the #: it was cut short`);
  }
}
