// One picture: what is in its bytes, what they are painted to, and what it was.

import { ask, askJson, fromBase64url } from "./service.js";
import { show } from "./previews.js";

const LAYOUT_PIXELS = 512;
const PAINTED_PIXELS = 512;
const ORIGINAL_PIXELS = 1024;
const PATIENCE = 150; // milliseconds after the last turn of a knob

const $ = (id) => document.getElementById(id);

export class Detail {
  #dialog = $("detail");
  #store;
  #previews;
  #painter = null;
  #picture = null;
  #asked = new AbortController();
  #painting = new AbortController();
  #timer = 0;
  #addresses = [];

  /**
   * @param {object} store what the server says of it
   * @param {Previews} previews
   * @param {{onStep: (by: number) => void, onLike: (picture: object) => void, onClose: () => void}} told
   */
  constructor(store, previews, told) {
    this.#store = store;
    this.#previews = previews;
    this.told = told;
    $("close").onclick = () => this.#dialog.close();
    $("before").onclick = () => told.onStep(-1);
    $("after").onclick = () => told.onStep(1);
    $("like").onclick = () => told.onLike(this.#picture);
    $("copy").onclick = () => this.#copy();
    $("another").onclick = () => {
      $("seed").value = Math.floor(Math.random() * 1e6);
      this.#paintSoon();
    };
    $("paint").oninput = () => this.#paintSoon();
    $("paint").onsubmit = (event) => event.preventDefault();
    this.#dialog.addEventListener("close", () => this.#closed());
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog) this.#dialog.close(); // beside it
    });
    this.#dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || event.target.matches("input") || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      told.onStep(step);
    });
  }

  get picture() {
    return this.#dialog.open ? this.#picture : null;
  }

  /** Show a picture of the store. */
  async open({ id }) {
    this.#forget();
    const { signal } = this.#asked;
    const picture = await askJson(`pictures/${id}`, { signal });
    this.#picture = picture;
    $("name").textContent = picture.name;
    this.#tellBytes(picture);
    this.#tellLink(picture);
    for (const name of ["layout", "painted", "original"]) $(name).hidden = true;
    this.#dialog.style.setProperty("--shape", picture.width / picture.height);
    $("painted-figure").hidden = $("paint").hidden = !this.#store.paints;
    $("original-figure").hidden = !this.#store.originals;
    $("layout-figure").hidden = !picture.layout_bytes;
    $("size").textContent = `${picture.width} × ${picture.height}`;
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.scrollTop = 0;
    await Promise.all([this.#showLayout(picture), this.#showOriginal(picture, signal), this.#preparePainting()]);
  }

  close() {
    this.#dialog.close();
  }

  async #showLayout(picture) {
    const preview = await this.#previews.decode(fromBase64url(picture.stream), LAYOUT_PIXELS);
    if (!preview || picture !== this.#picture) return;
    show($("layout"), preview);
    $("layout").ariaLabel = `Layout of ${picture.name}`;
    $("layout").hidden = false;
  }

  async #showOriginal(picture, signal) {
    if (!picture.original) {
      $("size").textContent = `${picture.width} × ${picture.height}, not there any more`;
      return;
    }
    try {
      const answer = await ask(`pictures/${picture.id}/original`, { query: { size: ORIGINAL_PIXELS }, signal });
      await this.#put("original", await answer.blob(), `Original of ${picture.name}`, picture);
    } catch (error) {
      if (error.name !== "AbortError") $("size").textContent = error.message;
    }
  }

  async #put(name, blob, alt, picture) {
    if (picture !== this.#picture) return;
    const address = URL.createObjectURL(blob);
    this.#addresses.push(address);
    const image = $(name);
    image.src = address;
    image.alt = alt;
    await image.decode();
    image.hidden = false;
  }

  #tellBytes({ bytes, semantic_bytes: vector, layout_bytes: layout, source_bytes: source }) {
    const header = bytes - vector - layout;
    $("bytes-title").textContent = `${bytes} bytes`;
    for (const [name, size] of Object.entries({ header, vector, layout })) {
      $(`${name}-bar`).style.flexGrow = size;
      $(`${name}-bar`).hidden = !size;
      $(`${name}-bytes`).textContent = `${size} bytes`;
    }
    const times = Math.round(source / bytes).toLocaleString("en");
    $("ratio").textContent = `The original's file has ${source.toLocaleString("en")} bytes, ${times} times as many.`;
  }

  #tellLink({ id, stream, name }) {
    $("view").href = `/view#${stream}`;
    $("view").hidden = $("copy").hidden = !this.#store.built_in; // the viewer page knows no other tables
    $("told").textContent = "";
    const file = new Blob([fromBase64url(stream)], { type: "application/octet-stream" });
    const address = URL.createObjectURL(file);
    this.#addresses.push(address);
    $("save").href = address;
    $("save").download = `${name.split("/").at(-1)}.clp`;
    this.#dialog.dataset.id = id;
  }

  async #copy() {
    const link = new URL($("view").getAttribute("href"), location.href).href;
    try {
      await navigator.clipboard.writeText(link);
      $("told").textContent = `Copied: a link of ${link.length} characters, with the picture in it.`;
    } catch {
      $("told").textContent = "This browser lets no page copy: open the picture as a link instead.";
    }
  }

  async #preparePainting() {
    if (!this.#store.paints) return;
    if (!this.#painter) {
      try {
        this.#painter = await askJson("painter");
      } catch (error) {
        $("painting").textContent = error.message;
        return;
      }
      $("steps").value = this.#painter.steps;
      $("fidelity").disabled = !this.#painter.fidelity;
    }
    await this.#paint();
  }

  #paintSoon() {
    this.#tellKnobs();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#paint(), PATIENCE);
  }

  #tellKnobs() {
    $("fidelity-value").value = Number($("fidelity").value).toFixed(2);
    $("steps-value").value = $("steps").value;
  }

  async #paint() {
    this.#tellKnobs();
    if (!$("seed").checkValidity() || $("seed").value === "") return;
    this.#painting.abort();
    this.#painting = new AbortController();
    const { signal } = this.#painting;
    const picture = this.#picture;
    const figure = $("painted-figure");
    figure.ariaBusy = "true";
    $("painting").textContent = "painting…";
    const began = performance.now();
    try {
      const query = { size: PAINTED_PIXELS, steps: $("steps").value, seed: $("seed").value };
      if (this.#painter.fidelity) query.fidelity = $("fidelity").value;
      const answer = await ask(`pictures/${picture.id}/painted`, { query, signal });
      await this.#put("painted", await answer.blob(), `Painted from the bytes of ${picture.name}`, picture);
      $("painting").textContent = `in ${((performance.now() - began) / 1000).toFixed(1)} s`;
      figure.ariaBusy = "false";
    } catch (error) {
      if (error.name === "AbortError") return;
      $("painting").textContent = error.message;
      figure.ariaBusy = "false";
    }
  }

  /** Let go of what was asked for and shown. */
  #forget() {
    this.#asked.abort();
    this.#asked = new AbortController();
    this.#painting.abort();
    clearTimeout(this.#timer);
    for (const address of this.#addresses.splice(0)) URL.revokeObjectURL(address);
  }

  #closed() {
    this.#forget();
    this.told.onClose();
  }
}
