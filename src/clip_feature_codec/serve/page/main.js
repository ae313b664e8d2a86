// The page of a store. What is shown is in the address: #text=…, #like=…, #duplicates, and &picture=… on top.

import { Detail } from "./detail.js";
import { foundBlock, grown, wholeStore } from "./lists.js";
import { Previews, show } from "./previews.js";
import { ask, askJson, fromBase64url, takeToken } from "./service.js";
import { Wall } from "./wall.js";

const LOOK_AGAIN = 5000;
const QUERY_PIXELS = 64;

const $ = (id) => document.getElementById(id);
const wall = new Wall($("wall"), { onOpen: openPicture, onError: tellError });

let store = null;
let previews = null;
let detail = null;
let blocks = []; // of the whole store
let shown = null; // what of the address the wall shows
let photo = null; // what was searched with last, from this machine
let turn = 0; // counts the places that were gone to
let at = -1; // the index of the picture that is open

takeToken();
start();

async function start() {
  try {
    store = await askJson("store");
  } catch (error) {
    tellError(error);
    return;
  }
  document.title = $("home").textContent = store.name;
  previews = new Previews(store.codec);
  detail = new Detail(store, previews, { onStep: step, onLike: (picture) => go({ like: picture.id }), onClose: closed });
  blocks = wholeStore(store);
  addEventListener("popstate", follow);
  setInterval(lookAgain, LOOK_AGAIN);
  await follow();
}

/** Go to another place: the wall's, without a picture on top. */
function go(place) {
  history.pushState(null, "", addressOf(place));
  follow();
}

function placeNow() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

function addressOf(place) {
  const text = String(new URLSearchParams(place)).replace(/=(?=&|$)/g, "");
  return text ? `#${text}` : location.pathname;
}

/** Show what the address says; of several places that were gone to quickly, the last. */
async function follow() {
  const { picture, ...rest } = placeNow();
  const wanted = addressOf(rest);
  const mine = ++turn;
  try {
    if (wanted !== shown) {
      const found = await find(rest);
      if (mine !== turn) return;
      showWall(rest, found);
      shown = wanted;
    }
    if (!picture) detail.close();
    else if (detail.picture?.id !== picture) {
      if (at < 0) at = wall.indexOf(picture);
      await detail.open({ id: picture });
    }
  } catch (error) {
    if (mine === turn) tellError(error);
  }
}

/** What is to be shown at a place: blocks, a line about them, and what was searched with. */
async function find(place) {
  if (Object.keys(place).length && !store.semantic_bytes) throw new Error("The streams here have no vectors to search by.");
  if (place.text) return found(await search({ text: place.text }), `nearest to “${place.text}”`);
  if (place.like) {
    const results = await search({ picture: place.like });
    const asked = results.find(({ id }) => id === place.like);
    const query = asked && (await previews.decode(fromBase64url(asked.stream), QUERY_PIXELS));
    return { ...found(results, "nearest to this picture"), query };
  }
  if ("photo" in place && photo) {
    tell("Searching…");
    const { results } = await (await ask("search", { body: photo })).json();
    return { ...found(results, `nearest to ${photo.name || "your photo"}`), query: await thumbnail(photo) };
  }
  if ("duplicates" in place) return findDuplicates();
  return { blocks, line: aboutStore() };
}

async function search(query) {
  tell("Searching…");
  return (await askJson("search", { query })).results;
}

function found(results, what) {
  return { blocks: [foundBlock(results)], line: `${count(results.length, "picture")} ${what}` };
}

async function findDuplicates() {
  tell("Looking for pictures that are there more than once…");
  const { total, groups } = await askJson("duplicates");
  const line = total ? `${count(total, "group")} of pictures that are nearly the same` : "No picture is there more than once";
  const headed = groups.map((group, i) => foundBlock(group, `Group ${i + 1}: ${count(group.length, "picture")}`));
  return { blocks: headed, line };
}

/** A photo in small; nothing where the server reads its format, and the browser does not. */
async function thumbnail(file) {
  try {
    return await createImageBitmap(file, { resizeHeight: QUERY_PIXELS, resizeQuality: "high" });
  } catch {
    return null;
  }
}

function showWall(place, { blocks: chosen, line, query }) {
  tell(line);
  $("words").value = place.text ?? "";
  $("duplicates").ariaPressed = String("duplicates" in place);
  $("clear").hidden = Object.keys(place).length === 0;
  $("query").hidden = !query;
  if (query) show($("query"), query);
  wall.show(chosen, previews);
  at = -1;
}

/** A picture of the wall was chosen. */
function openPicture(picture, index) {
  at = index;
  const address = addressOf({ ...placeNow(), picture: picture.id });
  if (detail.picture) history.replaceState(null, "", address);
  else history.pushState({ ours: true }, "", address);
  follow();
}

async function step(by) {
  const index = at + by;
  const picture = at < 0 ? null : await wall.picture(index);
  if (picture) openPicture(picture, index);
}

/** The dialog is closed: by its button or by the way back. */
function closed() {
  const { picture, ...place } = placeNow();
  if (picture && history.state?.ours) history.back();
  else if (picture) history.replaceState(null, "", addressOf(place));
  if (at >= 0) wall.focus(at);
}

/** Follow a store that is being written to. */
async function lookAgain() {
  if (document.hidden) return;
  let now;
  try {
    now = await askJson("store");
  } catch {
    return; // it may be there again the next time
  }
  if (now.revision === store.revision) return;
  blocks = now.pictures > store.pictures ? grown(blocks, now) : wholeStore(now);
  store = now;
  if (shown === location.pathname) {
    tell(aboutStore());
    wall.show(blocks, previews, { keep: true });
  }
}

function aboutStore() {
  const each = store.pictures ? Math.round(store.bytes / store.pictures) : 0;
  return `${count(store.pictures, "picture")}, ${size(store.bytes)}: ${each} bytes each`;
}

function count(number, what) {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}

function size(bytes) {
  if (bytes < 10_000) return `${bytes.toLocaleString("en")} bytes`;
  return bytes < 10_000_000 ? `${Math.round(bytes / 1000)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function tell(line) {
  $("status").textContent = line;
  $("status").classList.remove("error");
}

function tellError(error) {
  if (error.name === "AbortError") return;
  tell(error.message);
  $("status").classList.add("error");
}

// What people do beside choosing pictures.

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("words").value.trim();
  $("words").blur();
  go(text ? { text } : {});
});
$("words").addEventListener("search", () => {
  if (!$("words").value && location.hash) go({});
});
$("home").addEventListener("click", (event) => {
  event.preventDefault();
  go({});
});
$("clear").addEventListener("click", () => go({}));
$("duplicates").addEventListener("click", () => go($("duplicates").ariaPressed === "true" ? {} : { duplicates: "" }));
$("photo").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files.length) searchWith($("file").files[0]);
  $("file").value = "";
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData?.files ?? [];
  if (file) searchWith(file);
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input") || detail?.picture) return;
  event.preventDefault();
  $("words").focus();
});

function searchWith(file) {
  if (store && file.size > store.max_upload) {
    tellError(new Error(`That file is too large: ${size(store.max_upload)} at most.`));
    return;
  }
  photo = file;
  shown = null;
  go({ photo: "" });
}

let inside = 0;
addEventListener("dragenter", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  inside++;
  $("drop").hidden = false;
});
addEventListener("dragleave", () => {
  inside = Math.max(0, inside - 1);
  $("drop").hidden = inside === 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  $("drop").hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) searchWith(file);
});
