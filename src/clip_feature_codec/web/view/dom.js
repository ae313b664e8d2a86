// What every part of the page needs of the document.

/** @param {string} id @returns {HTMLElement} */
export const $ = (id) => document.getElementById(id);

/**
 * A new element.
 *
 * @param {string} name
 * @param {string} [text]
 * @param {string} [className]
 */
export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

/** The number in a field, brought into its range; what is no number becomes what the page began with. */
export function numberIn(field) {
  const found = field.value === "" ? Number.NaN : Math.round(Number(field.value));
  const value = Number.isNaN(found) ? Number(field.defaultValue) : found;
  field.value = String(Math.min(Math.max(value, Number(field.min)), Number(field.max)));
  return Number(field.value);
}

/** Say in a line how it stands, and to screen readers, too. */
export function say(text) {
  show(text);
  $("spoken").textContent = text;
}

/** Show in a line how it stands: what changes too often to be read out. */
export function show(text) {
  for (const place of document.querySelectorAll(".status")) {
    place.textContent = text;
  }
}

/** Say what is wrong, in one line; nothing takes it back. */
export function complain(text = "") {
  $("error").textContent = text;
  $("error").hidden = text === "";
}
