"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (selector) => document.querySelector(selector);
const all = (selector, within) => [...(within || document).querySelectorAll(selector)];
const SVG = "http://www.w3.org/2000/svg";
document.documentElement.classList.add("on");

// Names only ever enter the page through textContent and attributes: none can become markup.
function make(tag, attributes, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "circle"].includes(tag);
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value !== null) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
function written(value, digits) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
}
function swatch(series) {
  return make("span", { class: `swatch s${series}${data.series[series].dashed ? " dashed" : ""}` });
}

// One choice of budget and of ours holds for the whole page.
const state = { budget: data.middle, ours: 0, view: "values", metric: 0, hidden: new Set(), chosen: 0, left: null, right: null };
const OURS = data.series.map((_, i) => i).filter((i) => data.series[i].ours);

function choose(key, value) {
  state[key] = value;
  for (const button of all(`button[data-set="${key}"]`))
    button.setAttribute("aria-pressed", String(button.dataset.value === String(value)));
  if (key === "view") document.body.classList.toggle("differences", value === "differences");
  for (const panel of all("[data-panel]")) {
    const { budget, ours } = panel.dataset;
    panel.hidden = (budget !== undefined && +budget !== state.budget) || (ours !== undefined && +ours !== state.ours);
  }
  if (key === "budget" && data.chosen.length) showPicture();
}
for (const button of all("button[data-set]"))
  button.addEventListener("click", () => choose(button.dataset.set, button.dataset.set === "view" ? button.dataset.value : +button.dataset.value));

// Curves
const curves = data.series.map((_, series) => data.points.filter((point) => point[0] === series).sort((a, b) => a[4] - b[4]));

function pointsOf(metric) {
  return curves.flatMap((curve, series) => curve.filter((point) => point[5][metric]).map((point) => {
    const [mean, low, high, count] = point[5][metric];
    return { series, budget: point[1], fits: point[2], of: point[3], bytes: point[4], mean, low, high, count };
  }));
}
function niceTicks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) ticks.push(tick);
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0)) };
}
function extent(points, withBars) {
  const values = points.flatMap((p) => withBars ? [p.mean, p.low ?? p.mean, p.high ?? p.mean] : [p.mean]);
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}
const MARKERS = {
  circle: (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  square: (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  triangle: (r) => `M0 ${-1.2 * r}L${1.15 * r} ${0.9 * r}H${-1.15 * r}z`,
  diamond: (r) => `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0z`,
  cross: (r) => `M${-r} ${-0.4 * r}H${-0.4 * r}V${-r}H${0.4 * r}V${-0.4 * r}H${r}V${0.4 * r}H${0.4 * r}V${r}H${-0.4 * r}V${0.4 * r}H${-r}z`,
};
function drawn(points, x, y, series, mini) {
  const look = data.series[series];
  const group = make("g", { class: `s${series}${look.ours ? " ours" : ""}${look.dashed ? " dashed" : ""}`, "data-series": series });
  const line = points.map((p, i) => `${i ? "L" : "M"}${x(p.bytes).toFixed(1)} ${y(p.mean).toFixed(1)}`).join("");
  group.append(make("path", { class: "curve", d: line }));
  if (mini) return group;
  for (const p of points) if (p.low !== null && p.high !== null)
    group.append(make("line", { class: "ci", x1: x(p.bytes), x2: x(p.bytes), y1: y(p.low), y2: y(p.high) }));
  for (const p of points)
    group.append(make("path", {
      class: `pt${p.fits < p.of ? " hollow" : ""}`, d: MARKERS[look.marker](look.ours ? 5 : 4.2),
      transform: `translate(${x(p.bytes).toFixed(1)} ${y(p.mean).toFixed(1)})`,
    }));
  return group;
}
// Ours is drawn last, on top of the others.
const ORDER = data.series.map((_, i) => i).sort((a, b) => data.series[a].ours - data.series[b].ours);

function drawMinis() {
  data.metrics.forEach((metric, index) => {
    const points = pointsOf(index);
    if (!points.length) return;
    const [low, high] = extent(points, false), sizes = points.map((p) => Math.log(p.bytes));
    const least = Math.min(...sizes), most = Math.max(...sizes);
    const svg = make("svg", { viewBox: "0 0 120 46", preserveAspectRatio: "none", "aria-hidden": "true" });
    const x = (bytes) => 3 + 114 * (Math.log(bytes) - least) / (most - least || 1), y = (v) => 43 - 40 * (v - low) / (high - low);
    for (const series of ORDER) svg.append(drawn(points.filter((p) => p.series === series), x, y, series, true));
    const button = make("button", { type: "button", class: "mini", "aria-pressed": "false", "data-metric": index },
      make("span", {}, `${metric.title} ${metric.better === "higher" ? "↑" : "↓"}`), svg);
    button.addEventListener("click", () => { state.metric = index; drawChart(); });
    $("#minis").append(button);
  });
}
let focused = null;
function drawChart() {
  const box = $("#chart"), metric = data.metrics[state.metric];
  for (const mini of all(".mini")) mini.setAttribute("aria-pressed", String(+mini.dataset.metric === state.metric));
  const width = Math.max(260, box.clientWidth - 12), narrow = width < 560, height = narrow ? 320 : 420;
  const points = pointsOf(state.metric).filter((p) => !state.hidden.has(p.series));
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: "0", role: "img",
    "aria-label": `${metric.title} against bytes for ${new Set(points.map((p) => p.series)).size} codecs. Arrow keys read the values.` });
  box.replaceChildren(svg);
  if (!points.length) { svg.append(make("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "All codecs are hidden.")); return; }
  const [low, high] = extent(points, true), { ticks, digits } = niceTicks(low, high, narrow ? 5 : 7);
  const sizes = points.map((p) => p.bytes), ends = [Math.log(Math.min(...sizes)), Math.log(Math.max(...sizes))];
  const left = 16 + 7.4 * Math.max(...ticks.map((tick) => written(tick, digits).length)), right = 18, top = 34, bottom = 46;
  const x = (bytes) => left + 14 + (width - left - right - 28) * (ends[1] > ends[0] ? (Math.log(bytes) - ends[0]) / (ends[1] - ends[0]) : 0.5);
  const y = (value) => height - bottom - (height - top - bottom) * (value - low) / (high - low);
  for (const tick of ticks) {
    svg.append(make("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    svg.append(make("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, written(tick, digits)));
  }
  for (const tick of data.ticks.filter((one) => x(one) >= left && x(one) <= width - right))
    svg.append(make("line", { class: "grid", x1: x(tick), x2: x(tick), y1: height - bottom, y2: height - bottom + 5 }),
      make("text", { x: x(tick), y: height - bottom + 20, "text-anchor": "middle" }, written(tick, 0)));
  svg.append(make("text", { class: "name", x: 10, y: 18 }, `${metric.title}, ${metric.better} is better`));
  svg.append(make("text", { x: width - right, y: height - 8, "text-anchor": "end" }, "bytes, log scale"));
  for (const series of ORDER) {
    const own = points.filter((p) => p.series === series);
    if (own.length) svg.append(drawn(own, x, y, series, false));
  }
  const halo = make("circle", { class: "halo", r: 10, visibility: "hidden" }), tip = make("div", { id: "tip", role: "status", hidden: "" });
  svg.append(halo); box.append(tip);
  const scale = () => svg.getBoundingClientRect().width / width;
  function show(p) {
    focused = p;
    tip.hidden = !p;
    halo.setAttribute("visibility", p ? "visible" : "hidden");
    for (const group of all("[data-series]", svg)) group.classList.toggle("faded", !!p && +group.dataset.series !== p.series);
    if (!p) return;
    halo.setAttribute("class", `halo s${p.series}`);
    halo.setAttribute("cx", x(p.bytes)); halo.setAttribute("cy", y(p.mean));
    const d = metric.digits, kind = metric.over === "set" ? "one deviation: " : "95 %: ";
    tip.replaceChildren(make("b", {}, swatch(p.series), data.series[p.series].title),
      make("span", { class: "big" }, `${written(p.mean, d)}`),
      make("span", { class: "quiet" }, ` at ${written(p.bytes, 0)} bytes`), make("br"),
      ...(p.low === null ? [] : [`${kind}${written(p.low, d)} to ${written(p.high, d)}`, make("br")]),
      make("span", { class: "quiet" }, `${p.count} picture${p.count === 1 ? "" : "s"}` + (p.fits < p.of ? ` (fits ${p.fits} of ${p.of})` : "")));
    const px = x(p.bytes) * scale(), py = y(p.mean) * scale();
    tip.style.left = `${Math.min(Math.max(4, px < box.clientWidth / 2 ? px + 22 : px - tip.offsetWidth - 14), box.clientWidth - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.max(4, Math.min(py - tip.offsetHeight / 2, box.clientHeight - tip.offsetHeight - 4))}px`;
  }
  function nearest(event) {
    const box = svg.getBoundingClientRect(), px = (event.clientX - box.left) / scale(), py = (event.clientY - box.top) / scale();
    const far = points.map((p) => Math.hypot(x(p.bytes) - px, y(p.mean) - py)), least = Math.min(...far);
    show(least < 48 ? points[far.indexOf(least)] : null);
  }
  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("pointerleave", () => show(null));
  svg.addEventListener("blur", () => show(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Escape") show(null);
    if (!step) return;
    event.preventDefault();
    if (!points.includes(focused)) return show(points[0]);
    const ids = [...new Set(points.map((p) => p.series))];
    const series = ids[(ids.indexOf(focused.series) + step[0] + ids.length) % ids.length], own = points.filter((p) => p.series === series);
    if (step[0]) return show(own.reduce((a, b) => Math.abs(Math.log(b.bytes / focused.bytes)) < Math.abs(Math.log(a.bytes / focused.bytes)) ? b : a));
    show(own[Math.min(own.length - 1, Math.max(0, own.indexOf(focused) + step[1]))]);
  });
}
function drawLegend() {
  curves.forEach((curve, series) => {
    if (!curve.length) return;
    const button = make("button", { type: "button", "aria-pressed": "true" }, swatch(series), data.series[series].title);
    button.addEventListener("click", () => {
      if (!state.hidden.delete(series)) state.hidden.add(series);
      button.setAttribute("aria-pressed", String(!state.hidden.has(series)));
      drawChart();
    });
    $("#legend").append(button);
  });
}
if ($("#chart")) {
  drawMinis(); drawLegend(); drawChart();
  let last = $("#chart").clientWidth;
  new ResizeObserver(() => { if ($("#chart").clientWidth !== last) { last = $("#chart").clientWidth; drawChart(); } }).observe($("#chart"));
}

// Pictures
const rows = data.rows, count = rows.image.length;
const urls = new Map(all("img[data-key]").map((image) => [image.dataset.key, image.getAttribute("src")]));
const firstRow = new Map();  // of each file the row with the lowest seed, whose picture is shown
for (let i = 0; i < count; i++) {
  const key = `${rows.image[i]}|${rows.series[i]}|${rows.budget[i]}`, other = firstRow.get(key);
  if (other === undefined || (rows.seed[i] ?? 0) < (rows.seed[other] ?? 0)) firstRow.set(key, i);
}
function keyOf(series) {
  const image = data.chosen[state.chosen].image;
  return series === "o" ? `${image}|o` : `${image}|${series}|${state.budget}`;
}
function urlOf(series) {
  const key = keyOf(series);
  return urls.get(key) ?? (data.pictures[key] ? `data:image/webp;base64,${data.pictures[key]}` : null);
}
const pairMetrics = data.metrics.filter((metric) => metric.over === "pair");
const filed = data.series.map((_, i) => i).filter((i) => data.series[i].counts === "file");
const nameOf = (series) => series === "o" ? "Original" : data.series[series].title;

function setSide(image, tag, series) {
  const url = urlOf(series), row = series === "o" ? undefined : firstRow.get(keyOf(series));
  if (url) image.src = url; else image.removeAttribute("src");
  image.alt = `${data.images[data.chosen[state.chosen].image]}, ${nameOf(series)}`;
  tag.textContent = nameOf(series) + (row !== undefined ? ` · ${written(rows.bytes[row], 0)} bytes` : series === "o" ? "" : " · no file");
}
function showFigures() {
  const found = [state.left, state.right].map((series) => series === "o" ? undefined : firstRow.get(keyOf(series)));
  const body = make("tbody");
  const line = (title, cells, winner) => body.append(make("tr", {}, make("th", { scope: "row" }, title),
    ...cells.map((text, i) => make("td", winner === i ? { class: "win" } : {}, text))));
  line("Bytes", found.map((row) => row === undefined ? "–" : written(rows.bytes[row], 0)), -1);
  for (const metric of pairMetrics) {
    const values = found.map((row) => row === undefined ? null : rows.metrics[metric.name][row]);
    const sign = metric.better === "higher" ? 1 : -1, whole = values.every((value) => value !== null) && values[0] !== values[1];
    line(metric.title, values.map((value) => written(value, metric.digits)), whole ? (sign * (values[0] - values[1]) > 0 ? 0 : 1) : -1);
  }
  const head = make("tr", {}, make("th", {}), ...[state.left, state.right].map((series) => make("th", { scope: "col" }, nameOf(series))));
  $("#figures").replaceChildren(make("table", {}, make("thead", {}, head), body));
}
function card(series) {
  const row = firstRow.get(keyOf(series)), url = urlOf(series);
  const shot = make("span", { class: "shot" }, url ? make("img", { src: url, alt: "" }) : make("span", { class: "none" }, row === undefined && series !== "o" ? "no file" : "not shown"));
  const button = make("button", { type: "button", class: "card", "aria-pressed": String(series === state.right), "aria-label": `${nameOf(series)} to the right side` }, shot,
    make("span", { class: "nm" }, ...(series === "o" ? [] : [swatch(series)]), nameOf(series)));
  if (row !== undefined) {
    const list = make("dl");
    for (const metric of pairMetrics) list.append(make("dt", { title: metric.title }, metric.title), make("dd", {}, written(rows.metrics[metric.name][row], metric.digits)));
    const setting = rows.settings[rows.setting[row]];
    button.append(make("span", { class: "set" }, `${written(rows.bytes[row], 0)} bytes${setting ? ` · ${setting}` : ""}`), list);
  }
  if (!url) button.disabled = true;
  button.addEventListener("click", () => { state.right = series; showPicture(); });
  return button;
}
function showPicture() {
  const { image, why, ratio } = data.chosen[state.chosen];
  $("#name").textContent = data.images[image];
  $("#why").textContent = `${state.chosen + 1} of ${data.chosen.length}` + (why === "spread" ? "" : ` · one of the ${why} of ours`);
  $("#compare").style.setProperty("--ratio", ratio);
  setSide($("#over"), $("#tag-left"), state.left);
  setSide($("#under"), $("#tag-right"), state.right);
  $("#left").value = state.left; $("#right").value = state.right;
  showFigures();
  $("#all-budget").textContent = data.budgets.length > 1 ? `at ${data.budgets[state.budget]}` : "";
  const again = document.activeElement?.classList.contains("card") ? $("#cards").querySelectorAll(".card").length : 0;
  const place = again ? all(".card").indexOf(document.activeElement) : -1;
  $("#cards").replaceChildren(...["o", ...filed].map(card));
  if (place >= 0) all(".card")[place]?.focus({ preventScroll: true });
  for (const pair of all(".pair")) pair.setAttribute("aria-pressed", String(+pair.dataset.chosen === state.chosen));
}
function startPictures() {
  state.left = "o";
  state.right = OURS[0] ?? filed[0] ?? "o";
  for (const id of ["left", "right"]) {
    const select = $(`#${id}`);
    for (const series of ["o", ...filed]) select.append(make("option", { value: series }, nameOf(series)));
    select.addEventListener("change", () => { state[id] = select.value === "o" ? "o" : +select.value; showPicture(); });
  }
  $("#slide").addEventListener("input", (event) => $("#compare").style.setProperty("--at", `${event.target.value}%`));
  const go = (index) => { state.chosen = (index + data.chosen.length) % data.chosen.length; showPicture(); };
  $("#before").addEventListener("click", () => go(state.chosen - 1));
  $("#after").addEventListener("click", () => go(state.chosen + 1));
  for (const pair of all(".pair")) pair.addEventListener("click", () => { go(+pair.dataset.chosen); $("#pictures").scrollIntoView(); });
  showPicture();
}
if (data.chosen.length) startPictures();

// Every file
const PAGE = 200;
const seeded = new Set(rows.seed).size > 1;
const column = (title, of, digits) => ({ title, of, digits });
const columns = [
  column("Picture", (i) => data.images[rows.image[i]]),
  column("Codec", (i) => data.series[rows.series[i]].title),
  ...(data.budgets.length > 1 ? [column("Budget", (i) => rows.budget[i], "budget")] : []),
  ...(seeded ? [column("Seed", (i) => rows.seed[i], 0)] : []),
  column("Bytes", (i) => rows.bytes[i], 0),
  column("Payload", (i) => rows.payload[i], 0),
  ...pairMetrics.map((metric) => column(metric.title, (i) => rows.metrics[metric.name][i], metric.digits)),
  column("Settings", (i) => rows.settings[rows.setting[i]]),
];
const table = { sort: -1, down: false, shown: PAGE };
const textual = (one) => one.digits === undefined;
const order = new Intl.Collator("en", { numeric: true });

function listed() {
  const series = $("#row-series").value, budget = $("#row-budget")?.value ?? "", part = $("#row-name").value.toLowerCase();
  const found = [];
  for (let i = 0; i < count; i++)
    if ((!series || rows.series[i] === +series) && (!budget || rows.budget[i] === +budget) && (!part || data.images[rows.image[i]].toLowerCase().includes(part))) found.push(i);
  if (table.sort < 0) return found;
  const { of } = columns[table.sort], text = textual(columns[table.sort]), sign = table.down ? -1 : 1;
  return found.sort((a, b) => {
    const x = of(a), y = of(b);
    if (x === null || y === null) return (x === null) - (y === null);  // what has no value stands last either way
    return sign * (text ? order.compare(x, y) : x - y) || a - b;
  });
}
function showRows() {
  const found = listed(), body = $("#row-table tbody");
  body.replaceChildren(...found.slice(0, table.shown).map((i) => make("tr", {}, ...columns.map((one, place) => {
    const value = one.of(i);
    const text = textual(one) ? value : one.digits === "budget" ? data.budgets[value] : written(value, one.digits);
    return place === 0 ? make("th", { scope: "row", title: text }, text) : make("td", textual(one) ? { class: "text" } : {}, text);
  }))));
  $("#row-count").textContent = found.length > table.shown ? `${written(table.shown, 0)} of ${written(found.length, 0)} files` : `${written(found.length, 0)} file${found.length === 1 ? "" : "s"}`;
  $("#more").hidden = found.length <= table.shown;
}
function startRows() {
  const head = make("tr");
  columns.forEach((one, place) => {
    const button = make("button", { type: "button" }, one.title);
    const cell = make("th", { scope: "col", class: textual(one) ? "text" : null }, button);
    button.addEventListener("click", () => {
      table.down = table.sort === place && !table.down;
      table.sort = place;
      table.shown = PAGE;
      for (const other of all("th", head)) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", table.down ? "descending" : "ascending");
      showRows();
    });
    head.append(cell);
  });
  $("#row-table thead").append(head);
  const fill = (select, title, names, at) => {
    select.append(make("option", { value: "" }, title), ...names.map((name, i) => make("option", { value: i }, name)));
    select.value = at;
  };
  fill($("#row-series"), "all", data.series.map((series) => series.title), OURS[0] ?? "");
  if ($("#row-budget")) fill($("#row-budget"), "all", data.budgets, data.middle);
  const again = () => { table.shown = PAGE; showRows(); };
  for (const id of ["#row-series", "#row-budget", "#row-name"]) $(id)?.addEventListener("input", again);
  $("#more").addEventListener("click", () => { table.shown += PAGE; showRows(); });
  showRows();
}
startRows();
})();
