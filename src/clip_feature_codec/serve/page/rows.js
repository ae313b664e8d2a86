// Where pictures of different shapes stand on a wall: in full rows of about one height.

const NARROWEST = 0.5;
const WIDEST = 3;
const TALLEST = 1.3; // times what is wished for

/** The shape that a picture has on the wall: strips are cut, so that they are to be seen at all. */
export function shape({ width, height }) {
  return Math.min(Math.max(width / height, NARROWEST), WIDEST);
}

/**
 * Break pictures into rows that all fill the width, the last one, too: each takes an equal share of the shapes.
 * What fills no row keeps the height that is wished for.
 *
 * @param {number[]} shapes width / height of each
 * @param {{width: number, wished: number, gap: number}} space pixels: of a row, of its height, between two
 * @returns {{places: {x: number, y: number, width: number, height: number}[], height: number}}
 */
export function justify(shapes, { width, wished, gap }) {
  const sum = shapes.reduce((total, one) => total + one, 0);
  const count = Math.max(1, Math.round((sum * wished) / width));
  const places = [];
  let y = 0;
  let first = 0;
  let passed = 0;
  for (let row = 1; row <= count && first < shapes.length; row++) {
    let last = first;
    let share = 0;
    while (last < shapes.length && (row === count || last === first || passed + shapes[last] / 2 < (sum * row) / count)) {
      share += shapes[last];
      passed += shapes[last];
      last++;
    }
    const full = (width - gap * (last - first - 1)) / share;
    const height = Math.min(full, wished * TALLEST);
    let x = 0;
    for (let i = first; i < last; i++) {
      places.push({ x, y, width: shapes[i] * height, height });
      x += shapes[i] * height + gap;
    }
    y += height + gap;
    first = last;
  }
  return { places, height: y };
}
