// The steps of DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) for a noise schedule, as numbers. ᾱ, a, s and λ are those
// of diffusion/plans.py.

const MOST_BETA = 0.999;
const FIRST_LAMBDA = -2.5;
const LAST_LAMBDA = 3;

/**
 * ᾱ of each timestep, from almost clean to almost noise.
 *
 * @param {{timesteps: number, schedule: "cosine" | "linear", zero_terminal_snr: boolean}} scheduler
 */
export function alphaBars({ timesteps, schedule, zero_terminal_snr: zeroTerminal }) {
  const bars = [];
  let bar = 1;
  for (let t = 0; t < timesteps; t++) bars.push((bar *= 1 - beta(t, timesteps, schedule)));
  if (!zeroTerminal) return bars;
  const roots = bars.map(Math.sqrt);
  const [first, last] = [roots[0], roots[timesteps - 1]];
  return roots.map((root) => ((root - last) * (first / (first - last))) ** 2);
}

/** Nichol & Dhariwal 2021, eq. 17; or Ho et al. 2020, for any number of timesteps. */
function beta(t, timesteps, schedule) {
  if (schedule === "linear") {
    const scale = 1000 / timesteps;
    const share = timesteps > 1 ? t / (timesteps - 1) : 0;
    return Math.min(scale * (1e-4 + (0.02 - 1e-4) * share), MOST_BETA);
  }
  const left = (time) => Math.cos(((time / timesteps + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
  return Math.min(1 - left(t + 1) / left(t), MOST_BETA);
}

/**
 * Plan the steps.
 *
 * @param {object} scheduler see alphaBars, and `prediction`: "v" or "epsilon"
 * @param {number} steps evaluations of the network; fewer may be enough
 * @returns {{t: number, x0FromX: number, x0FromOutput: number, xFromX0: number, xFromX: number, xFromLast: number}[]}
 * @throws {RangeError} there are no such steps
 */
export function samplingPlan(scheduler, steps) {
  const { timesteps, prediction } = scheduler;
  if (!Number.isInteger(steps) || steps < 1 || steps > timesteps) {
    throw new RangeError(`${steps} sampling steps; this decoder takes 1 to ${timesteps}`);
  }
  const bars = alphaBars(scheduler);
  const lambdas = bars.map((bar) => (bar > 0 ? 0.5 * Math.log(bar / (1 - bar)) : -Infinity));
  const grid = lambdaGrid(lambdas, steps);
  return grid.map((t, i) => {
    const [a, s] = [Math.sqrt(bars[t]), Math.sqrt(1 - bars[t])];
    const next = i + 1 < grid.length ? bars[grid[i + 1]] : 1;
    const xFromX = Math.sqrt(1 - next) / s;
    const [x0FromX, x0FromOutput] = prediction === "v" ? [a, -s] : [1 / a, -s / a];
    const step = { t, x0FromX, x0FromOutput, xFromX0: Math.sqrt(next) - xFromX * a, xFromX, xFromLast: 0 };
    return i === 0 || i + 1 === grid.length ? step : straightened(step, ...[1, 0, -1].map((k) => lambdas[grid[i + k]]));
  });
}

/** The step with x0 on a straight line through this one and the last; a limit where the last λ is infinite. */
function straightened(step, next, here, last) {
  const beyond = (next - here) / (2 * (here - last));
  return { ...step, xFromX0: step.xFromX0 * (1 + beyond), xFromLast: -step.xFromX0 * beyond };
}

/** The noisiest timestep, and then those as even in λ as whole ones can be; each is visited once. */
function lambdaGrid(lambdas, steps) {
  const found = new Set([lambdas.length - 1]);
  for (let i = 0; i < steps - 1; i++) {
    const wanted = FIRST_LAMBDA + ((LAST_LAMBDA - FIRST_LAMBDA) * i) / Math.max(1, steps - 2);
    let nearest = 0;
    lambdas.forEach((lambda, t) => {
      if (Math.abs(lambda - wanted) < Math.abs(lambdas[nearest] - wanted)) nearest = t;
    });
    found.add(nearest);
  }
  return [...found].sort((a, b) => b - a);
}
