// Keeps an open page up to date. Without it, a page lacks only the plots and the workload's output.
"use strict";

const body = document.body;
const byId = (id) => document.getElementById(id);
const job = document.querySelector("[data-job]")?.dataset.job;
const isLive = document.querySelector("[data-live]") !== null;
const MIN_RELOAD_MS = 1000;
const MAX_CONSOLE = 400000;
let source = null;
let reloadedAt = 0;
let reloading = null;
let consoleEpoch = null;

// ---- the summary of a refresh: counts at once, the rest of the page as the server draws it ----

function showConnection(state, text) {
  byId("live").className = `live ${state}`;
  if (byId("live-text").textContent !== text) byId("live-text").textContent = text;
}

function count(name, value) {
  for (const place of document.querySelectorAll(`[data-count="${name}"]`)) {
    if (place.textContent !== String(value)) place.textContent = String(value);
  }
}

function onSummary(summary) {
  showConnection("on", "live");
  for (const [state, value] of Object.entries(summary.counts)) count(state, value);
  for (const name of ["total", "stale", "unknown"]) count(name, summary[name]);
  for (const name of ["stale", "unknown"]) byId(`${name}-line`)?.toggleAttribute("hidden", !summary[name]);
  byId("problem").textContent = summary.problem ?? "";
  byId("problem").hidden = !summary.problem;
  const affected = summary.changed === null || (job ? summary.changed.includes(job) : summary.changed.length > 0);
  if (affected || Date.now() - reloadedAt > 10000) reloadSoon();
}

function reloadSoon() {
  if (!isLive || reloading) return;
  reloading = setTimeout(reload, Math.max(0, reloadedAt + MIN_RELOAD_MS - Date.now()));
}

async function reload() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    await draw();
  } catch {
    // the next summary tries again
  } finally {
    reloadedAt = Date.now();
    reloading = null;
  }
}

function swap(fresh) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    if (!next || next.innerHTML === old.innerHTML || old.contains(getSelection()?.anchorNode) && !getSelection().isCollapsed) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const name = focused?.getAttribute("href");
    const label = focused?.getAttribute("aria-label");
    const open = [...old.querySelectorAll("details")].map((one) => one.open);
    const scrolls = [...old.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
    old.replaceChildren(...next.childNodes);
    [...old.querySelectorAll("details")].forEach((one, at) => { one.open = open[at] ?? false; });
    [...old.querySelectorAll(".scroll")].forEach((one, at) => { [one.scrollLeft, one.scrollTop] = scrolls[at] ?? [0, 0]; });
    if (!focused) continue;
    const places = [...old.querySelectorAll("a, [tabindex]")];
    places.find((one) => (name ? one.getAttribute("href") === name : one.getAttribute("aria-label") === label) && one.getClientRects().length)?.focus({ preventScroll: true });
  }
}

// ---- the workload's output ----

function onConsole(part) {
  const box = byId("console");
  if (!box) return;
  const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  if (part.epoch !== consoleEpoch) {
    const before = box.textContent && !box.textContent.endsWith("\n") ? "\n" : "";
    box.append(`${before}--- attempt ${part.epoch} ---\n`);
    consoleEpoch = part.epoch;
  }
  box.append(part.text);
  if (box.textContent.length > MAX_CONSOLE) box.textContent = box.textContent.slice(-MAX_CONSOLE / 2);
  if (follows) box.scrollTop = box.scrollHeight;
}

// ---- plots ----

const plots = {};
const seen = new Map();  // progress at each look: finer than the checkpoints
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

function size(bytes) {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) { bytes /= 1024; unit += 1; }
  return `${Number(bytes.toPrecision(3))} ${UNITS[unit]}`;
}

function moment(tick, ticks) {  // UTC, as everywhere on the page
  const text = new Date(tick * 1000).toISOString();
  const span = ticks.at(-1) - ticks[0];
  return span < 3600 ? text.slice(11, 19) : span < 86400 ? text.slice(11, 16) : `${text.slice(5, 10)} ${text.slice(11, 16)}`;
}

async function draw() {
  const box = byId("plot-progress");
  if (!box) return;
  const answer = await fetch(box.dataset.src, { cache: "no-store" });
  if (!answer.ok) return;
  const data = await answer.json();
  const [times = [], done = [], rates = []] = data.progress;
  if (times.length) seen.set(times.at(-1), [done.at(-1), rates.at(-1)]);
  const all = new Map([...seen, ...times.map((at, number) => [at, [done[number], rates[number]]])]);
  const sorted = [...all].sort((a, b) => a[0] - b[0]);
  plot(box, [sorted.map((one) => one[0]), sorted.map((one) => one[1][0]), sorted.map((one) => one[1][1])],
    [["steps", "--plot-1", "y", (v) => v], ["steps/s", "--plot-2", "rate", (v) => Number(v.toPrecision(4))]],
    "The workload does not report its progress.");
  plot(byId("plot-checkpoints"), data.checkpoints, [["size", "--plot-1", "y", size], ["sent", "--plot-2", "y", size]], "No checkpoint yet.");
}

function plot(box, data, lines, none) {
  if (!data.length || !data[0].length) {
    if (!plots[box.id]) box.textContent = none;
    return;
  }
  if (plots[box.id]) { plots[box.id].setData(data); return; }
  box.textContent = "";
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const axes = [{ ...axis, space: 80, values: (_, ticks) => ticks.map((tick) => moment(tick, ticks)) }];
  for (const [name, , scale, format] of lines) {
    if (axes.some((one) => one.scale === scale)) continue;
    axes.push({ ...axis, scale, size: 70, label: scale === "y" && lines.every((one) => one[2] === "y") ? undefined : name, labelSize: 18, side: scale === "y" ? 3 : 1, grid: { ...axis.grid, show: scale === "y" }, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : format(tick))) });
  }
  const floor = (_, least, most) => [0, most > 0 ? most * 1.08 : 1];
  const scales = Object.fromEntries(lines.map((one) => [one[2], { range: floor }]));
  const series = [{ label: "at", value: (_, at) => (at === null ? "–" : new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ")) }, ...lines.map(([label, name, scale, format]) => ({ label, scale, stroke: colour(name), width: 2, points: { show: data[0].length < 80, size: 6 }, value: (_, value) => (value === null ? "–" : String(format(value))) }))];
  plots[box.id] = new uPlot({ width: box.clientWidth - 26, height: 230, axes, scales, series, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC") }, data, box);
}

function redraw() {
  for (const name of Object.keys(plots)) { plots[name].destroy(); delete plots[name]; }
  draw();
}

// ---- the event stream: only for a visible page, because browsers limit connections per server ----

function listen() {
  if (source || document.hidden) return;
  source = new EventSource(address());
  source.addEventListener("summary", (event) => onSummary(JSON.parse(event.data)));
  source.addEventListener("console", (event) => { lastId = event.lastEventId; onConsole(JSON.parse(event.data)); });
  source.onerror = () => showConnection("off", "not connected: trying again");
}

let lastId = "";
function address() {
  const from = lastId ? `&after=${encodeURIComponent(lastId)}` : "";
  return body.dataset.events + from;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { source?.close(); source = null; } else { listen(); }
});
window.addEventListener("pagehide", () => { source?.close(); source = null; });
window.addEventListener("pageshow", listen);
window.addEventListener("resize", () => {
  for (const name of Object.keys(plots)) plots[name].setSize({ width: byId(name).clientWidth - 26, height: 230 });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
listen();
draw();
