// The viewer page: opens what is behind the #, a .clp file or a photo, and has the other parts show it.

import { decodeLayout, parse } from "../src/index.js";
import { showBytes } from "./bytes.js";
import { $, complain, say } from "./dom.js";
import { encode } from "./encode.js";
import { fromLink, toFragment } from "./link.js";
import * as painting from "./paint.js";
import * as sharing from "./share.js";
import * as stage from "./stage.js";

const MAGIC = 0xc7;
const MOST = 65536;
const SIZE = 512; // of a layout

let photo = null; // that the stream was made from, if it was made here
let opened = 0; // so many have been asked for

/**
 * Show a stream. The address is its link, or becomes it.
 *
 * @param {Uint8Array} bytes
 * @param {?ImageBitmap} from the photo that it was made from, if that is here
 */
function open(bytes, from = null) {
  const stream = parse(bytes);
  const layout = stream.layout && decodeLayout(bytes, { size: SIZE });
  // It is good: from here on the page changes
  opened += 1;
  photo = from;
  $("encoding").hidden = !photo;
  $("empty").hidden = true;
  $("looking").hidden = $("another").hidden = false;
  stage.begin(stream.aspect, layout);
  if (photo) {
    stage.put("original", photo);
  }
  const fragment = toFragment(bytes);
  if (fragment !== canonical(location.hash)) {
    history.pushState(null, "", `#${fragment}`);
  }
  document.title = $("title").textContent = `A picture in ${bytes.length} bytes`;
  showBytes(bytes, stream);
  sharing.offer(bytes);
  say(`Layout: ${stream.layout?.length ?? 0} bytes`);
  painting.begin(bytes);
}

/** What is behind the # in the form that we write: base64 has several of some bytes. */
function canonical(hash) {
  try {
    return toFragment(fromLink(hash));
  } catch {
    return "";
  }
}

/** Back to the beginning. */
function close() {
  painting.stop();
  say("");
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
    say("");
    complain(error.message);
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
  const mine = ++opened;
  const bytes = await encode(picture);
  if (mine === opened) {
    open(bytes, picture);
  }
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
