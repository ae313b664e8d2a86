// What a picture can be taken along in: its link, a QR code, files.

import { correction, generate } from "../vendor/lean-qr.js";
import { $, say } from "./dom.js";
import { seen } from "./stage.js";

/** Offer a stream; its link is the address of the page. */
export function offer(bytes) {
  $("link").value = location.href;
  URL.revokeObjectURL($("download").href);
  $("download").href = URL.createObjectURL(new Blob([bytes], { type: "image/x-clp" }));
  drawCode();
}

export function listen() {
  $("link").addEventListener("focus", () => $("link").select());
  $("copy").addEventListener("click", copy);
  $("save").addEventListener("click", save);
  $("qr").addEventListener("toggle", drawCode);
  $("share").hidden = !navigator.share;
  $("share").addEventListener("click", () => navigator.share({ url: location.href }).catch(() => {}));
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("link").value);
    say("The link is copied");
  } catch {
    $("link").focus(); // selected, for the keyboard
    say("Copy the link from its field: this browser does not let a page do it");
  }
}

function save() {
  const canvas = seen();
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${canvas.id}.png`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

function drawCode() {
  if (!$("qr").open) {
    return;
  }
  $("no-code").hidden = true;
  $("code").hidden = false;
  try {
    const code = generate($("link").value, { minCorrectionLevel: correction.L });
    // Dark on light in the dark, too: many readers know no other
    code.toCanvas($("code"), { on: [0, 0, 0], off: [255, 255, 255] });
  } catch {
    $("code").hidden = true;
    $("no-code").hidden = false;
    $("no-code").textContent = `The link has ${$("link").value.length} characters; a QR code holds 2,953.`;
  }
}
