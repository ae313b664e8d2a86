// Painting, where the page has what paints: a worker that is told how, and can be stopped.

import * as codec from "../src/index.js";
import { $, numberIn, say } from "./dom.js";
import { choose, has, put } from "./stage.js";

let painter = null;
let bytes = null;
let running = null;

/** Paint a stream as soon as it is opened, unless the person saves on data. */
export function begin(stream) {
  stop();
  bytes = stream;
  if (available() && !navigator.connection?.saveData) {
    paint();
  }
}

/** Have what is being painted end. */
export function stop() {
  running?.abort();
}

export function listen() {
  if (!available()) {
    unable("This page shows layouts alone: its files have no painter.");
    return;
  }
  $("fidelity").addEventListener("input", () => ($("fidelity-value").value = $("fidelity").value));
  for (const id of ["fidelity", "steps", "seed"]) {
    $(id).addEventListener("change", paint);
  }
  $("other-seed").addEventListener("click", () => {
    $("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
    paint();
  });
  $("paint").addEventListener("click", () => (running ? stop() : paint()));
}

function available() {
  return "Painter" in codec && $("cannot-paint").hidden;
}

async function paint() {
  stop();
  const mine = new AbortController();
  running = mine;
  painter ??= new codec.Painter({ onProgress: tell });
  const options = {
    fidelity: Number($("fidelity").value),
    steps: numberIn($("steps")),
    seed: numberIn($("seed")),
    size: 512,
    signal: mine.signal,
  };
  busy(true);
  const began = performance.now();
  try {
    const picture = await painter.paint(bytes, options);
    if (running === mine) {
      put("painted", picture);
      choose("painted");
      say(`Painted in ${((performance.now() - began) / 1000).toFixed(1)} s`);
    }
  } catch (error) {
    if (running === mine) {
      failed(error);
    }
  } finally {
    if (running === mine) {
      running = null;
      busy(false);
    }
  }
}

function failed(error) {
  if (error.name === "AbortError") {
    say("Stopped");
  } else if (error instanceof codec.ClpError) {
    say(error.message);
  } else {
    unable(`This page cannot paint: ${error.message}`);
  }
}

/** Say why there is no painting, in the place of its controls. */
function unable(why) {
  $("painting").hidden = true;
  $("cannot-paint").hidden = false;
  $("cannot-paint").textContent = why;
  if (!has("layout") && bytes) {
    say("There is no layout in this stream: nothing can be shown");
  }
}

function busy(state) {
  $("paint").textContent = state ? "Stop" : "Paint";
  $("progress").hidden = !state;
  $("progress").removeAttribute("value");
  if (state) {
    say("Painting");
  }
}

function tell({ stage, done, total }) {
  const bar = $("progress");
  bar.max = total || 1;
  bar.value = done;
  const megabytes = (count) => (count / 1e6).toFixed(1);
  $("status").textContent =
    stage === "loading"
      ? `Loading the painter: ${megabytes(done)} of ${megabytes(total)} MB`
      : `Painting: ${done} of ${total} steps`;
}
