// Sizes of pictures, rounded as Python rounds.

const LONGEST = 128;

/**
 * The width and height whose longer side is `size` and whose ratio is nearest to `aspect`. The longest shape
 * that a stream can say stands for lines of pixels, too, and is drawn at half its width.
 */
export function outputSize(aspect, size) {
  const share = Math.min(aspect, 1 / aspect);
  const shorter = Math.max(1, roundHalfEven((size * share) / (share === 1 / LONGEST ? 2 : 1)));
  return aspect >= 1 ? [size, shorter] : [shorter, size];
}

/** The nearest whole number, of two the even one. */
export function roundHalfEven(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest === 0.5 ? whole + Math.abs(whole % 2) : Math.round(value);
}
