// The parts of painting, for the tests.

import { normalNoise, noiseSeed } from "../../src/clip_feature_codec/web/src/painting/noise.js";
import { alphaBars, samplingPlan } from "../../src/clip_feature_codec/web/src/painting/plan.js";
import { bicubic } from "../../src/clip_feature_codec/web/src/painting/planes.js";
import { resize } from "../../src/clip_feature_codec/web/src/resize.js";

export const noise = ({ seed, stream, count }) => {
  const found = noiseSeed(seed, Uint8Array.from(stream));
  return { seed: found, values: [...normalNoise(found, count)] };
};

export const plan = ({ scheduler, steps }) => ({ bars: alphaBars(scheduler), steps: samplingPlan(scheduler, steps) });

export const enlarged = ({ planes, old, size }) => [...bicubic(Float32Array.from(planes), old, size)];

export const resized = ({ picture, width, height }) => [...resize(picture, width, height).data];
