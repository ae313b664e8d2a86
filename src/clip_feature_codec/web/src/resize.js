// Pillow's bicubic filter for pictures of 8 bits, antialiased where it makes them smaller: the same levels, or the next
// ones where Pillow begins with the other side.

const PRECISION = 22; // bits behind the point of a weight
const SUPPORT = 2;
const A = -0.5;

/**
 * Resize a picture.
 *
 * @param {{width: number, height: number, data: Uint8ClampedArray}} picture RGBA; opaque
 * @returns the same of another size
 */
export function resize({ width, height, data }, newWidth, newHeight) {
  let pixels = data;
  if (newWidth !== width) pixels = alongLines(pixels, width, height, newWidth, [1, width, 1, newWidth]);
  if (newHeight !== height) {
    pixels = alongLines(pixels, height, newWidth, newHeight, [newWidth, 1, newWidth, 1]);
  }
  return { width: newWidth, height: newHeight, data: pixels };
}

/** Resize `count` lines; strides are those of pixels and of lines, before and after. */
function alongLines(pixels, size, count, newSize, [step, line, newStep, newLine]) {
  const found = new Uint8ClampedArray(4 * newSize * count);
  weights(size, newSize).forEach(({ first, factors }, x) => {
    for (let y = 0; y < count; y++) {
      const from = 4 * (first * step + y * line);
      const to = 4 * (x * newStep + y * newLine);
      let [red, green, blue] = [2 ** (PRECISION - 1), 2 ** (PRECISION - 1), 2 ** (PRECISION - 1)];
      for (let k = 0; k < factors.length; k++) {
        const at = from + 4 * k * step;
        red += pixels[at] * factors[k];
        green += pixels[at + 1] * factors[k];
        blue += pixels[at + 2] * factors[k];
      }
      found[to] = red >> PRECISION;
      found[to + 1] = green >> PRECISION;
      found[to + 2] = blue >> PRECISION;
      found[to + 3] = 255;
    }
  });
  return found;
}

/** Of each new pixel, the first old one that counts, and how much it and those behind it do. */
function weights(size, newSize) {
  const scale = Math.max(size / newSize, 1);
  return Array.from({ length: newSize }, (_, x) => {
    const centre = (x + 0.5) * (size / newSize);
    const first = Math.max(Math.trunc(centre - SUPPORT * scale + 0.5), 0);
    const end = Math.min(Math.trunc(centre + SUPPORT * scale + 0.5), size);
    const exact = Array.from({ length: end - first }, (_, k) => cubic((k + first - centre + 0.5) * (1 / scale)));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    const factors = exact.map((weight) => {
      const whole = (sum === 0 ? weight : weight / sum) * 2 ** PRECISION;
      return Math.trunc(whole < 0 ? whole - 0.5 : whole + 0.5);
    });
    return { first, factors };
  });
}

function cubic(distance) {
  const d = Math.abs(distance);
  if (d < 1) return ((A + 2) * d - (A + 3)) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * A : 0;
}
