// What a wall shows: blocks of pictures, each of which is loaded when it is about to be seen.

import { ask, askJson, fromBase64url, unpackStreams } from "./service.js";

const BLOCK = 200;

/**
 * Some pictures that stand on the wall together, in rows of their own.
 *
 * @typedef {object} Block
 * @property {number} count how many
 * @property {string} [heading] what stands above them
 * @property {object[] | null} pictures with `bytes`, the stream; null until they are loaded
 * @property {() => Promise<void>} load
 */

/** All pictures of a store as it is at one moment. */
export function wholeStore(store) {
  const blocks = [];
  for (let first = 0; first < store.pictures; first += BLOCK) {
    blocks.push(storeBlock(store, first, Math.min(BLOCK, store.pictures - first)));
  }
  return blocks;
}

/** The blocks of a store that has grown: those that are full are kept as they are. */
export function grown(blocks, store) {
  const kept = blocks.filter((block) => block.count === BLOCK && block.pictures);
  return wholeStore(store).map((block, i) => (blocks[i] && kept.includes(blocks[i]) ? blocks[i] : block));
}

function storeBlock(store, offset, limit) {
  const query = { offset, limit, revision: store.revision };
  const block = { count: limit, pictures: null };
  let loading = null;
  const load = async () => {
    const [page, streams] = await Promise.all([askJson("pictures", { query }), ask("streams", { query })]);
    const bytes = unpackStreams(await streams.arrayBuffer());
    block.pictures = page.pictures.map((picture, i) => ({ ...picture, bytes: bytes[i] }));
  };
  block.load = () => {
    loading ??= load().catch((error) => {
      loading = null;
      throw error;
    });
    return loading;
  };
  return block;
}

/** Pictures that a search has found. */
export function foundBlock(pictures, heading) {
  const loaded = pictures.map((picture) => ({ ...picture, bytes: fromBase64url(picture.stream) }));
  return { count: loaded.length, heading, pictures: loaded, load: async () => {} };
}
