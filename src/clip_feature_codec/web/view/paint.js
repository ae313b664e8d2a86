// Painting, where the server has what paints: in a worker that is told how, and can be stopped.

import { Painter } from "../src/index.js";
import { $, numberIn, say, show } from "./dom.js";
import { choose, put } from "./stage.js";

const SIZE = 256; // what mini paints; the browser scales it

let painter = null;
let bytes = null;
let running = null;

/** Paint a stream as soon as it is opened, unless the person saves on data. */
export function begin(stream) {
  stop();
  bytes = stream;
  if (!navigator.connection?.saveData) {
    paint();
  }
}

/** Have what is being painted end. */
export function stop() {
  running?.abort();
}

export function listen() {
  $("fidelity").addEventListener("input", () => ($("fidelity-value").value = $("fidelity").value));
  for (const id of ["fidelity", "steps", "seed"]) {
    $(id).addEventListener("change", paint);
  }
  $("other-seed").addEventListener("click", () => {
    $("seed").value = String(crypto.getRandomValues(new Uint16Array(1))[0]);
    paint();
  });
  $("paint").addEventListener("click", () => (running ? stop() : paint()));
}

async function paint() {
  stop();
  const mine = new AbortController();
  running = mine;
  painter ??= new Painter({ onProgress: tell });
  const options = {
    fidelity: Number($("fidelity").value),
    steps: numberIn($("steps")),
    seed: numberIn($("seed")),
    size: SIZE,
    signal: mine.signal,
  };
  busy(true);
  excuse();
  try {
    const picture = await painter.paint(bytes, options);
    if (running === mine) {
      put("painted", picture);
      choose("painted");
      say(`Painted: fidelity ${options.fidelity}, ${options.steps} steps, seed ${options.seed}`);
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
  } else {
    say("Not painted");
    excuse(`It cannot be painted: ${error.message}`);
  }
}

/** Say why there is no painting, beside its controls; nothing takes it back. */
function excuse(why = "") {
  $("cannot-paint").textContent = why;
  $("cannot-paint").hidden = why === "";
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
  if (!running) {
    return; // of what was stopped
  }
  $("progress").max = total || 1;
  $("progress").value = done;
  const megabytes = (count) => (count / 1e6).toFixed(1);
  if (stage === "painting") {
    show(`Painting: ${done} of ${total} steps`);
  } else if (done < total) {
    show(`Loading the painter: ${megabytes(done)} of ${megabytes(total)} MB`);
  } else {
    show("Starting the painter");
    $("progress").removeAttribute("value"); // nobody knows how long
  }
}
