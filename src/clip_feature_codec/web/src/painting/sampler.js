// From noise to a canvas by a plan, with guidance, in float32 as Python's: see diffusion/samplers.py.

const { fround } = Math;

/**
 * What the network paints instead of the picture: gain (x - base), the picture's difference from its layout.
 *
 * @param {{base: Float32Array, gain: number}} residual planes of the layout, at the size of the canvas
 */
function clippedAround({ base, gain }, planes) {
  for (let i = 0; i < planes.length; i++) {
    const picture = fround(fround(planes[i] / gain) + base[i]);
    planes[i] = fround(fround(Math.min(Math.max(picture, -1), 1) - base[i]) * gain);
  }
}

/**
 * Sample a canvas.
 *
 * @param {(x: Float32Array, t: number) => Promise<Float32Array>} predict what the network gives, guided
 * @param {object[]} plan from samplingPlan
 * @param {Float32Array} noise planes (3, side, side)
 * @param {{base: Float32Array, gain: number}} residual
 * @returns {Promise<Float32Array>} planes in [-1, 1]
 */
export async function sample(predict, plan, noise, residual) {
  let x = noise;
  let last = noise; // has no weight in the first step
  for (const step of plan) {
    const x0 = weighted([await predict(x, step.t), step.x0FromOutput], [x, step.x0FromX]);
    clippedAround(residual, x0);
    const next = weighted([x0, step.xFromX0], [x, step.xFromX]);
    x = step.xFromLast === 0 ? next : weighted([next, 1], [last, step.xFromLast]);
    last = x0;
  }
  return x.map((value, i) => fround(value / residual.gain) + residual.base[i]);
}

/** Weighted sum of two arrays. */
function weighted([a, weightA], [b, weightB]) {
  const [first, second] = [fround(weightA), fround(weightB)];
  return a.map((value, i) => fround(value * first) + fround(b[i] * second));
}

/**
 * Classifier-free guidance: uncond + w (cond - uncond), from an output of both, one behind the other.
 *
 * @param {Float32Array} output with the conditions, then without the vector
 */
export function guided(output, guidance) {
  const half = output.length / 2;
  const factor = fround(guidance);
  const found = new Float32Array(half);
  for (let i = 0; i < half; i++) {
    const without = output[half + i];
    found[i] = without + fround(fround(output[i] - without) * factor);
  }
  return found;
}
