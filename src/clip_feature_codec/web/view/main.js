// The viewer page: opens what is behind the #, a .clp file or a photo, and has the other parts show it.

import { parse } from "../src/index.js";
import { showBytes } from "./bytes.js";
import { $, complain, say } from "./dom.js";
import { encode } from "./encode.js";
import { fromLink, toFragment } from "./link.js";
import * as painting from "./paint.js";
import * as sharing from "./share.js";
import * as stage from "./stage.js";

const MAGIC = 0xc7;
const MOST = 65536;

let photo = null; // that the stream was made from, if it was made here

/** Show a stream; the address becomes its link. */
function open(bytes, from = null) {
  const stream = parse(bytes);
  photo = from;
  $("encoding").hidden = !photo;
  $("empty").hidden = true;
  $("looking").hidden = $("another").hidden = false;
  stage.show(bytes, stream);
  if (photo) {
    stage.put("original", photo);
  }
  const fragment = `#${toFragment(bytes)}`;
  if (fragment !== location.hash) {
    history.pushState(null, "", fragment);
  }
  document.title = $("title").textContent = `A picture in ${bytes.length} bytes`;
  showBytes(bytes, stream);
  sharing.offer(bytes);
  say(`Layout: ${stream.layout?.length ?? 0} bytes`);
  painting.begin(bytes);
}

/** Back to the beginning. */
function close() {
  painting.stop();
  $("empty").hidden = false;
  $("looking").hidden = $("another").hidden = true;
  document.title = $("title").textContent = "A picture in a link";
}

/** What is behind the #: at the beginning, and when somebody goes back or changes it. */
function openAddress() {
  attempt(() => (location.hash.length > 1 ? open(fromLink(location.hash)) : close()), close);
}

/** Show what the work opens, or say in one line why not. */
async function attempt(work, otherwise = () => {}) {
  complain();
  try {
    await work();
  } catch (error) {
    otherwise();
    complain(`Cannot be opened. ${error.message}`);
  }
}

async function openFile(file) {
  const bytes = new Uint8Array(await file.slice(0, MOST + 1).arrayBuffer());
  if (bytes[0] === MAGIC || file.name.toLowerCase().endsWith(".clp")) {
    open(bytes);
    return;
  }
  await openPhoto(await pictureIn(file));
}

async function openPhoto(picture) {
  say("Encoding");
  open(await encode(picture), picture);
}

async function pictureIn(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name || "picture"}: this browser finds no picture in it`);
  }
}

function listen() {
  addEventListener("hashchange", openAddress);
  for (const button of document.querySelectorAll(".choose")) {
    button.addEventListener("click", () => $("file").click());
  }
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    $("file").value = ""; // so that the same one can be chosen again
    attempt(() => openFile(file));
  });
  $("max-bytes").addEventListener("change", () => attempt(() => openPhoto(photo)));
  document.addEventListener("paste", paste);
  listenToDrops();
  stage.listen();
  sharing.listen();
  painting.listen();
}

function paste(event) {
  const [file] = event.clipboardData.files;
  const text = event.clipboardData.getData("text");
  if (file) {
    attempt(() => openFile(file));
  } else if (text.includes("#")) {
    attempt(() => open(fromLink(text)));
  }
}

function listenToDrops() {
  const dropping = (state) => document.body.classList.toggle("dropping", state);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    dropping(true);
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) {
      dropping(false);
    }
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false);
    const [file] = event.dataTransfer.files;
    if (file) {
      attempt(() => openFile(file));
    }
  });
}

listen();
openAddress();
