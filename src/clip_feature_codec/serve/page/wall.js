// A wall of any number of pictures, of which only those are in the page that can be seen.

import { show } from "./previews.js";
import { justify, shape } from "./rows.js";

const GAP = 6;
const HEADING = 44;
const PIXELS = 240; // longer side of a preview
const USUAL_SHAPE = 1.3;
const AHEAD = 1; // screens, above and below

export class Wall {
  #root;
  #list = document.createElement("ol");
  #headings = document.createElement("div");
  #blocks = [];
  #tiles = new Map(); // index -> element
  #spare = [];
  #current = 0;
  #asked = false;
  #width = 0;
  #previews = null;
  #usual = USUAL_SHAPE;

  /**
   * @param {HTMLElement} root what it stands in; the document scrolls
   * @param {{onOpen: (picture: object, index: number) => void, onError: (error: Error) => void}} told
   */
  constructor(root, told) {
    this.#root = root;
    this.told = told;
    this.#list.tabIndex = -1;
    root.append(this.#headings, this.#list);
    root.addEventListener("click", (event) => this.#click(event));
    root.addEventListener("keydown", (event) => this.#key(event));
    addEventListener("scroll", () => this.#later(), { passive: true });
    new ResizeObserver(() => this.#resize()).observe(root);
  }

  /** Show other blocks. @param {{keep?: boolean}} [options] keep: the same ones, more of them */
  show(blocks, previews, { keep = false } = {}) {
    this.#previews = previews;
    const known = new Map(this.#blocks.map((block) => [block.block, block]));
    this.#blocks = blocks.map((block) => known.get(block) ?? { block, places: null, height: 0 });
    if (!keep) {
      this.#current = 0;
      for (const index of [...this.#tiles.keys()]) this.#remove(index);
      scrollTo(0, 0);
    }
    this.#layOut();
    this.#render();
  }

  get length() {
    return this.#blocks.reduce((sum, { block }) => sum + block.count, 0);
  }

  /** The picture at an index, loaded if need be; null beyond the ends. */
  async picture(index) {
    const found = this.#find(index);
    if (!found) return null;
    if (!found.block.pictures) await found.block.load();
    return found.block.pictures[index - found.first] ?? null;
  }

  /** Where a picture is, as far as that is loaded; -1: it is not. */
  indexOf(id) {
    let first = 0;
    for (const { block } of this.#blocks) {
      const at = block.pictures?.findIndex((picture) => picture.id === id) ?? -1;
      if (at >= 0) return first + at;
      first += block.count;
    }
    return -1;
  }

  /** Bring the keyboard to a picture. */
  focus(index) {
    this.#goTo(index);
  }

  #find(index) {
    let first = 0;
    for (const one of this.#blocks) {
      if (index >= 0 && index < first + one.block.count) return { ...one, first };
      first += one.block.count;
    }
    return null;
  }

  #space() {
    return { width: this.#width, wished: this.#width < 640 ? 118 : 184, gap: GAP };
  }

  /** Give every block its place; those that are not loaded have about their height. */
  #layOut() {
    this.#width = this.#root.clientWidth;
    const space = this.#space();
    let top = 0;
    let first = 0;
    for (const one of this.#blocks) {
      const { block } = one;
      if (block.pictures && one.width !== space.width) {
        const shapes = block.pictures.map(shape);
        const { places, height } = justify(shapes, space);
        Object.assign(one, { places, height, width: space.width });
        this.#usual = shapes.reduce((sum, value) => sum + value, 0) / shapes.length || this.#usual;
      }
      if (!block.pictures) {
        const rows = Math.max(1, Math.round((block.count * this.#usual * space.wished) / space.width));
        one.height = rows * (space.wished + GAP);
      }
      one.top = top + (block.heading ? HEADING : 0);
      one.first = first;
      top = one.top + one.height;
      first += block.count;
    }
    this.#root.style.height = `${top}px`;
    this.#list.ariaLabel = `${first} pictures`;
  }

  #resize() {
    if (this.#root.clientWidth === this.#width) return;
    const anchor = this.#firstSeen();
    this.#layOut();
    for (const [index, tile] of this.#tiles) this.#place(tile, index);
    if (anchor !== null && scrollY > this.#root.offsetTop) this.#scrollTo(anchor, "start");
    this.#render();
  }

  #later() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#render();
    });
  }

  #render() {
    const seen = innerHeight;
    const top = scrollY - this.#root.offsetTop - AHEAD * seen;
    const bottom = top + (1 + 2 * AHEAD) * seen;
    const wanted = new Set();
    for (const one of this.#blocks) {
      if (one.top + one.height < top || one.top > bottom) continue;
      if (!one.block.pictures) this.#load(one);
      else if (one.places) for (const index of within(one, top, bottom)) wanted.add(index);
    }
    if (!wanted.has(this.#current)) {
      if (this.#tiles.get(this.#current)?.contains(document.activeElement)) wanted.add(this.#current);
      else if (wanted.size) this.#setCurrent(this.#firstSeen() ?? wanted.values().next().value);
    }
    for (const index of [...this.#tiles.keys()]) if (!wanted.has(index)) this.#remove(index);
    for (const index of wanted) if (!this.#tiles.has(index)) this.#add(index);
    this.#tellHeadings(top, bottom);
  }

  #load(one) {
    one.loading ??= one.block.load().then(
      () => {
        // What is above the screen must not push down what is on it.
        const above = one.top + one.height < scrollY - this.#root.offsetTop;
        const before = one.height;
        this.#layOut();
        if (above) scrollBy(0, one.height - before);
        this.#render();
      },
      (error) => {
        this.told.onError(error);
        setTimeout(() => (one.loading = null), 2000);
      },
    );
  }

  /** The first picture that is wholly on the screen, or begins there. */
  #firstSeen() {
    const top = scrollY - this.#root.offsetTop;
    const one = this.#blocks.find((block) => block.places && block.top + block.height > top);
    if (!one) return null;
    const at = one.places.findIndex((place) => one.top + place.y >= top);
    return one.first + Math.max(at, 0);
  }

  #add(index) {
    const tile = this.#spare.pop() ?? makeTile();
    const { block, first } = this.#find(index);
    const picture = block.pictures[index - first];
    const [button] = tile.children;
    const [canvas, name] = button.children;
    tile.dataset.index = index;
    tile.ariaPosInSet = index + 1;
    tile.ariaSetSize = this.length;
    button.ariaLabel = nameOf(picture, block);
    button.tabIndex = index === this.#current ? 0 : -1;
    name.textContent = picture.name.split("/").at(-1);
    canvas.hidden = true;
    tile.dataset.bare = "false";
    this.#place(tile, index);
    this.#tiles.set(index, tile);
    this.#list.insertBefore(tile, this.#after(index));
    this.#draw(tile, index, picture, canvas);
  }

  /** The tile in the page that comes after a picture: for those who read it in order. */
  #after(index) {
    const last = this.#list.lastElementChild;
    if (!last || Number(last.dataset.index) < index) return null;
    return this.#tiles.get(index + 1) ?? [...this.#list.children].find(({ dataset }) => Number(dataset.index) > index);
  }

  async #draw(tile, index, picture, canvas) {
    const wanted = () => this.#tiles.get(index) === tile && tile.dataset.index === String(index);
    const preview = picture.bytes.length ? await this.#previews.decode(picture.bytes, PIXELS, wanted) : null;
    if (!wanted()) return;
    tile.dataset.bare = String(!preview);
    if (!preview) return;
    show(canvas, preview);
    canvas.hidden = false;
    if (!this.#root.dataset.shown) {
      this.#root.dataset.shown = "true";
      performance.mark("first picture");
    }
  }

  #remove(index) {
    const tile = this.#tiles.get(index);
    this.#tiles.delete(index);
    tile.remove();
    if (this.#spare.length < 200) this.#spare.push(tile);
  }

  #place(tile, index) {
    const { places, top, first } = this.#find(index);
    const place = places?.[index - first];
    if (!place) return;
    const { style } = tile;
    style.transform = `translate(${place.x}px, ${top + place.y}px)`;
    style.width = `${place.width}px`;
    style.height = `${place.height}px`;
  }

  #tellHeadings(top, bottom) {
    const shown = this.#blocks.filter(({ block, ...one }) => block.heading && one.top > top && one.top < bottom);
    const key = shown.map((one) => one.first).join();
    if (this.#headings.dataset.key === key) return;
    this.#headings.dataset.key = key;
    this.#headings.replaceChildren(
      ...shown.map((one) => {
        const heading = document.createElement("h2");
        heading.textContent = one.block.heading;
        heading.style.transform = `translateY(${one.top - HEADING}px)`;
        return heading;
      }),
    );
  }

  #setCurrent(index) {
    const turn = (at, value) => {
      const button = this.#tiles.get(at)?.firstChild;
      if (button) button.tabIndex = value;
    };
    turn(this.#current, -1);
    this.#current = index;
    turn(index, 0);
  }

  #click(event) {
    const tile = event.target.closest?.("li");
    if (tile) this.#open(Number(tile.dataset.index));
  }

  async #open(index) {
    this.#setCurrent(index);
    const picture = await this.picture(index);
    if (picture) this.told.onOpen(picture, index);
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const here = this.#current;
    const target = {
      ArrowLeft: () => here - 1,
      ArrowRight: () => here + 1,
      ArrowUp: () => this.#across(-1),
      ArrowDown: () => this.#across(1),
      Home: () => 0,
      End: () => this.length - 1,
    }[event.key]?.();
    if (target === undefined) return;
    event.preventDefault();
    this.#goTo(target);
  }

  /** The picture in the row above or below that is nearest to the one at hand. */
  #across(step) {
    const one = this.#find(this.#current);
    const place = one?.places?.[this.#current - one.first];
    if (!place) return this.#current;
    const middle = place.x + place.width / 2;
    let best = this.#current;
    let row = null;
    let least = Infinity;
    for (let index = this.#current + step; ; index += step) {
      const other = this.#find(index);
      const there = other?.places?.[index - other.first];
      if (!there) return best;
      const y = other.top + there.y;
      if (Math.abs(y - (one.top + place.y)) < 1) continue;
      row ??= y;
      if (Math.abs(y - row) > 1) return best;
      const distance = Math.abs(there.x + there.width / 2 - middle);
      if (distance < least) [best, least] = [index, distance];
    }
  }

  async #goTo(index) {
    const target = Math.min(Math.max(index, 0), this.length - 1);
    if (!(await this.picture(target))) return;
    this.#layOut();
    this.#setCurrent(target);
    this.#scrollTo(target, "nearest");
    this.#render();
    if (!this.#tiles.has(target)) this.#add(target);
    this.#tiles.get(target).firstChild.focus({ preventScroll: true });
  }

  #scrollTo(index, how) {
    const { places, top, first } = this.#find(index);
    const place = places?.[index - first];
    if (!place) return;
    const bar = document.querySelector(".bar").offsetHeight + GAP;
    const y = this.#root.offsetTop + top + place.y;
    if (how === "start" || y < scrollY + bar) scrollTo(0, y - bar);
    else if (y + place.height > scrollY + innerHeight) scrollTo(0, y + place.height + GAP - innerHeight);
  }
}

/** The indices of a block's pictures between two heights. */
function* within({ places, top, first }, from, to) {
  for (let i = 0; i < places.length; i++) {
    const y = top + places[i].y;
    if (y > to) return;
    if (y + places[i].height >= from) yield first + i;
  }
}

function nameOf(picture, block) {
  const near = picture.cosine === undefined ? "" : `, cosine ${picture.cosine.toFixed(3)}`;
  return `${block.heading ? `${block.heading}: ` : ""}${picture.name}${near}`;
}

function makeTile() {
  const tile = document.createElement("li");
  const button = document.createElement("button");
  const name = document.createElement("span");
  button.type = "button";
  button.setAttribute("aria-haspopup", "dialog");
  name.ariaHidden = "true";
  button.append(document.createElement("canvas"), name);
  tile.append(button);
  return tile;
}
