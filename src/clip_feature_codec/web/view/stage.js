// The picture: its layout, what was painted of it and the photo it was made from, one over the other.

import { $ } from "./dom.js";

const KINDS = ["layout", "painted", "original"];

/**
 * Begin with another stream: its layout is shown, and all else is gone.
 *
 * @param {number} aspect width / height
 * @param {?{width: number, height: number, data: Uint8ClampedArray}} layout null where it has none
 */
export function begin(aspect, layout) {
  KINDS.forEach(forget);
  $("frame").style.setProperty("--aspect", String(shapeOf(aspect)));
  if (layout) {
    put("layout", layout);
  }
  choose(layout ? "layout" : "painted");
}

/**
 * Have a picture to be shown.
 *
 * @param {string} kind layout, painted or original
 * @param {{width: number, height: number, data: Uint8ClampedArray} | ImageBitmap} picture
 */
export function put(kind, picture) {
  const canvas = $(kind);
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d");
  if (picture.data) {
    context.putImageData(new ImageData(picture.data, picture.width, picture.height), 0, 0);
  } else {
    context.drawImage(picture, 0, 0);
  }
  const button = radio(kind);
  button.disabled = false;
  button.parentElement.hidden = false;
}

/** Show one of the pictures. */
export function choose(kind) {
  radio(kind).checked = true;
  $("frame").dataset.shown = kind;
}

/** The canvas that is seen. */
export function seen() {
  return $($("frame").dataset.shown);
}

export function listen() {
  $("shown").addEventListener("change", (event) => choose(event.target.value));
}

function forget(kind) {
  $(kind).width = $(kind).height = 1; // frees its pixels
  const button = radio(kind);
  button.disabled = true;
  button.parentElement.hidden = kind === "original";
}

function radio(kind) {
  return document.querySelector(`#shown [value=${kind}]`);
}

/** Width / height of the frame: a line of pixels is drawn thicker, so that it can be seen. */
function shapeOf(aspect) {
  return Math.min(Math.max(aspect, 1 / 64), 64);
}
