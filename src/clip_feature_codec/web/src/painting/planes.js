// Planes of float32 numbers, (channels, height, width), as networks take and give them.

const A = -0.75; // of the cubic kernel, as torch has it

/**
 * Enlarge square planes by cubic convolution (Keys 1981); pixels beyond the border are those at the border.
 *
 * @param {Float32Array} planes (channels, old, old)
 * @returns {Float32Array} (channels, size, size)
 */
export function bicubic(planes, old, size) {
  const channels = planes.length / (old * old);
  const weights = cubicWeights(old, size);
  const lines = new Float32Array(channels * size * old);
  const found = new Float32Array(channels * size * size);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < old; x++) {
        let sum = 0;
        for (const [at, weight] of weights[y]) sum += weight * planes[(c * old + at) * old + x];
        lines[(c * size + y) * old + x] = sum;
      }
      for (let x = 0; x < size; x++) {
        let sum = 0;
        for (const [at, weight] of weights[x]) sum += weight * lines[(c * size + y) * old + at];
        found[(c * size + y) * size + x] = sum;
      }
    }
  }
  return found;
}

/** Which of the old samples count how much in each of the new ones. */
function cubicWeights(old, size) {
  return Array.from({ length: size }, (_, i) => {
    const place = ((i + 0.5) * old) / size - 0.5;
    const first = Math.floor(place) - 1;
    return [0, 1, 2, 3].map((k) => {
      const d = Math.abs(place - first - k);
      const weight = d <= 1 ? (A + 2) * d ** 3 - (A + 3) * d ** 2 + 1 : A * (d ** 3 - 5 * d ** 2 + 8 * d - 4);
      return [Math.min(Math.max(first + k, 0), old - 1), weight];
    });
  });
}

/** Colours of a picture's pixels as planes (3, height, width): level / divisor - shift. */
export function planesOf({ width, height, data }, level) {
  const planes = new Float32Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) planes[c * width * height + i] = level(data[4 * i + c]);
  }
  return planes;
}

/** A picture of square planes (3, size, size) in [-1, 1]; values between two levels are rounded, half to even. */
export function pictureOf(planes, size) {
  const data = new Uint8ClampedArray(4 * size * size).fill(255); // rounds so by itself
  for (let i = 0; i < size * size; i++) {
    for (let c = 0; c < 3; c++) data[4 * i + c] = Math.fround(Math.fround(planes[c * size * size + i] + 1) * 127.5);
  }
  return { width: size, height: size, data };
}

/** Each number between -1 and 1. */
export function clip(planes) {
  return planes.map((value) => Math.min(Math.max(value, -1), 1));
}
