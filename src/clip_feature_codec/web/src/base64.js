/** Little-endian integers from base64 text, as codec.json holds them. */
export function integers(Kind, text) {
  return new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}
