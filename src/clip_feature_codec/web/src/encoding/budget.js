// How good a layer can be within so many bytes, and how a budget is split: see codec/budget.py.

const MAX_LAYOUT = 255;
const SPARE = 4; // bytes left over that are worth coding a layout again
const ROOM_FOR_BOTH = 40;
const ENOUGH_STEP = 117; // the step byte of quality 40: beside such a vector the layout has more use for a byte

/**
 * The best payload of at most so many bytes: the finest step that fits; and at finer ones, the least weight.
 *
 * @param {LayoutCoder | VectorCoder} coder
 * @param {(step: number, weight: number) => {payload: Uint8Array, error: number}} code from the coder's `of`
 * @returns {Uint8Array}
 */
function within(coder, code, limit) {
  let best = { payload: Uint8Array.of(coder.steps - 1), error: Infinity };
  const tried = (step, weight) => {
    const found = code(step, weight);
    const fits = found.payload.length <= limit;
    if (fits && found.error < best.error) best = found;
    return fits;
  };
  const finest = leastThat((step) => tried(step, coder.weight), coder.steps);
  for (const [finer, weights] of coder.weights) {
    if (finest >= finer) leastThat((at) => tried(finest - finer, weights[at]), weights.length);
  }
  return best.payload;
}

/** The least number below `end` that does, where all above it do, too; or `end`. */
function leastThat(does, end) {
  let [low, high] = [0, end];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (does(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Code a vector and a layout so that they take no more than `room` bytes behind the header, the split byte included.
 *
 * @returns {{semantic: Uint8Array, layout: ?Uint8Array}}
 */
export function codeToBudget(vectors, vector, layouts, layout, room) {
  const [codeVector, codeLayout] = [vectors.of(vector), layouts.of(layout)];
  const layoutWithin = (limit, least) =>
    limit >= least ? within(layouts, codeLayout, Math.min(limit, MAX_LAYOUT)) : null;
  const enough = codeVector(ENOUGH_STEP, vectors.weight).payload.length;
  const half = Math.max(Math.min((room - 1) >> 1, enough), vectors.smallest);
  const first = room < ROOM_FOR_BOTH ? null : layoutWithin(room - 1 - half, layouts.smallest);
  const semantic = within(vectors, codeVector, room - (first === null ? 0 : 1 + first.length));
  // What the vector has no use for is the layout's.
  const left = Math.min(room - 1 - semantic.length, MAX_LAYOUT);
  const second = layoutWithin(left, Math.max(layouts.smallest, (first?.length ?? 0) + SPARE));
  return { semantic, layout: second ?? first };
}
