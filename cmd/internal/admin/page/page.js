"use strict";

// What comes from outside, peers' words included, is only ever put into the page as text:
// by textContent, and by attributes that take numbers or a path that is checked.

const byId = (id) => document.getElementById(id);
const svgNamespace = "http://www.w3.org/2000/svg";

let state = null; // the last that came
let paused = false;

// --- words for numbers

const sizeUnits = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function size(bytes) {
  let unit = 0;
  while (Math.abs(bytes) >= 1024 && unit < sizeUnits.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return (unit === 0 ? Math.round(bytes) : bytes.toFixed(bytes < 10 ? 2 : 1)) + " " + sizeUnits[unit];
}

function duration(seconds) {
  if (seconds < 0.9995) return Math.round(seconds * 1000) + " ms";
  if (seconds < 60) return seconds.toFixed(1) + " s";
  const s = Math.floor(seconds);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const words = [];
  let left = s;
  for (const [length, name] of parts) {
    if (words.length < 2 && (left >= length || words.length === 1)) {
      words.push(Math.floor(left / length) + " " + name);
      left %= length;
    }
  }
  return words.join(" ");
}

function limit(l) {
  if (l.value === 0) return "none";
  switch (l.unit) {
    case "bytes": return size(l.value);
    case "bytes/second": return size(l.value) + "/s";
    case "seconds": return duration(l.value);
  }
  return l.value.toLocaleString("en");
}

// --- the page

// setText changes the page only where something has changed, so that neither a
// selection nor a screen reader is disturbed.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function cell(row, name, className) {
  const element = document.createElement(name);
  if (name === "th") element.scope = "row";
  if (className) element.className = className;
  row.append(element);
  return element;
}

// sync has the rows of a table's body be those of items, in their order. Rows that stay are
// kept, with the focus that may be in them.
function sync(body, items, keyOf, make, update) {
  const rows = new Map(Array.from(body.rows, (row) => [row.dataset.key, row]));
  const wanted = new Set(items.map(keyOf));
  for (const [key, row] of rows) {
    if (!wanted.has(key)) {
      if (row.contains(document.activeElement)) heir(row, wanted).focus();
      row.remove();
    }
  }
  let at = body.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let row = rows.get(key);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = key;
      make(row);
    }
    if (row === at) at = at.nextElementSibling;
    else body.insertBefore(row, at);
    update(row, item);
  }
}

// heir is what gets the focus of a row that goes: the link of the next that has one, or
// the heading.
function heir(row, wanted) {
  for (let next = row.nextElementSibling; next; next = next.nextElementSibling) {
    const link = next.querySelector("a:not([hidden])");
    if (link && wanted.has(next.dataset.key)) return link;
  }
  return byId("in-flight");
}

function plot() {
  const svg = document.createElementNS(svgNamespace, "svg");
  svg.setAttribute("class", "plot");
  svg.setAttribute("viewBox", "0 0 60 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true"); // the rate beside it says it in words
  svg.append(document.createElementNS(svgNamespace, "polyline"));
  return svg;
}

// draw draws the rates of up to a minute; now is at the right.
function draw(line, history) {
  const most = Math.max(...history, 1);
  const points = history.map((rate, i) => (60 - history.length + i + 1) + "," + (19 - 18 * rate / most).toFixed(1));
  line.setAttribute("points", points.join(" "));
}

function makeConnection(row) {
  row.parts = {
    number: cell(row, "th"), peer: cell(row, "td"), stage: cell(row, "td"),
    bytes: cell(row, "td", "number"), rate: cell(row, "td", "number"),
    plot: cell(row, "td"), age: cell(row, "td", "number"), follow: cell(row, "td"),
  };
  row.parts.plot.append(plot());
  row.parts.link = document.createElement("a");
  row.parts.link.textContent = "Follow";
  row.parts.link.hidden = true;
  row.parts.follow.append(row.parts.link);
}

function updateConnection(row, c) {
  const p = row.parts;
  setText(p.number, String(c.number));
  setText(p.peer, c.peer);
  setText(p.stage, c.stage);
  setText(p.bytes, size(c.bytes));
  setText(p.rate, c.rate === null ? "–" : size(c.rate) + "/s");
  setText(p.age, duration(c.age));
  draw(p.plot.querySelector("polyline"), c.history || []);
  const follows = /^\/follow\/\d+$/.test(c.follow || "");
  if (!follows && p.link === document.activeElement) byId("in-flight").focus();
  p.link.hidden = !follows;
  if (follows && !p.link.hasAttribute("href")) {
    p.link.href = c.follow;
    p.link.setAttribute("aria-label", "Follow upload " + c.number + " while it arrives");
  }
}

function makeEnded(row) {
  row.parts = {
    number: cell(row, "th"), peer: cell(row, "td"), outcome: cell(row, "td"),
    bytes: cell(row, "td", "number"), took: cell(row, "td", "number"),
    ended: cell(row, "td"), cause: cell(row, "td", "cause"),
  };
}

function updateEnded(row, e) {
  const p = row.parts;
  setText(p.number, String(e.number));
  setText(p.peer, e.peer);
  setText(p.outcome, e.outcome);
  p.outcome.className = e.ok ? "ok" : "failed";
  setText(p.bytes, size(e.bytes));
  setText(p.took, duration(e.duration));
  setText(p.ended, new Date(e.ended).toLocaleTimeString("en-GB"));
  setText(p.cause, e.cause || "");
}

function makePair(row) {
  row.parts = { name: cell(row, "th"), value: cell(row, "td", "number") };
}

function show(s) {
  setText(byId("program"), s.program);
  document.title = s.in_flight + " in flight – Accio " + s.program;
  const status = byId("status");
  status.className = s.ready ? "ready" : "unready";
  setText(status, paused ? "Paused" : s.ready ? "Ready" : "Not ready: " + s.unready);

  const outcomes = Object.entries(s.totals.outcomes);
  const fine = s.totals.outcomes.received + s.totals.outcomes.empty;
  setText(byId("figure-in-flight"), s.in_flight.toLocaleString("en"));
  setText(byId("figure-slots"), s.slots === 0 ? "no limit" : s.slots_free.toLocaleString("en") + " of " + s.slots.toLocaleString("en"));
  setText(byId("figure-rate"), size(rate(s)) + "/s");
  setText(byId("figure-bytes"), size(s.totals.bytes));
  setText(byId("figure-ended"), s.totals.connections.toLocaleString("en"));
  setText(byId("figure-failed"), (s.totals.connections - fine).toLocaleString("en"));
  setText(byId("figure-accept-errors"), s.totals.accept_errors.toLocaleString("en"));
  setText(byId("figure-disk"), !s.disk ? "–" : s.disk.free === null ? "unknown" : size(s.disk.free));
  setText(byId("figure-uptime"), duration((new Date(s.time) - new Date(s.started)) / 1000));

  sync(byId("connections").tBodies[0], s.connections, (c) => String(c.number), makeConnection, updateConnection);
  byId("none").hidden = s.connections.length > 0;
  byId("more").hidden = !s.more;
  setText(byId("more"), "The newest " + s.connections.length + " of " + s.in_flight.toLocaleString("en") + " are shown.");
  sync(byId("recent").tBodies[0], s.recent, (e) => e.number + " " + e.ended, makeEnded, updateEnded);
  sync(byId("outcomes").tBodies[0], outcomes.filter(([name, n]) => n > 0 || name === "received"), ([name]) => name, makePair,
    (row, [name, n]) => { setText(row.parts.name, name); setText(row.parts.value, n.toLocaleString("en")); });
  sync(byId("limits").tBodies[0], s.limits, (l) => l.name, makePair,
    (row, l) => { setText(row.parts.name, "--" + l.name); setText(row.parts.value, limit(l)); });
}

// rate is what all connections bring in a second, since the state before.
let before = null;
function rate(s) {
  const at = new Date(s.time) / 1000;
  if (before && before.started === s.started && at > before.at) {
    before.rate = (s.totals.bytes - before.bytes) / (at - before.at);
  }
  before = { started: s.started, at: at, bytes: s.totals.bytes, rate: before ? before.rate : 0 };
  return before.rate;
}

// --- news for who listens to the page: one sentence for all that has ended, and not more
// often than every ten seconds

const newsPeriod = 10000;
let told = null; // totals that have been told
let nextNews = 0;

function news(s) {
  if (told === null || told.started !== s.started) {
    told = { started: s.started, outcomes: s.totals.outcomes };
    return;
  }
  if (Date.now() < nextNews) return;
  const words = [];
  for (const [name, n] of Object.entries(s.totals.outcomes)) {
    const more = n - (told.outcomes[name] || 0);
    if (more > 0) words.push(more.toLocaleString("en") + " " + name);
  }
  if (words.length === 0) return;
  told = { started: s.started, outcomes: s.totals.outcomes };
  nextNews = Date.now() + newsPeriod;
  setText(byId("news"), "Ended: " + words.join(", "));
}

// --- what comes

const source = new EventSource("/api/events");
source.onmessage = (event) => {
  state = JSON.parse(event.data);
  if (paused) return;
  show(state);
  news(state);
};
source.onerror = () => {
  const status = byId("status");
  status.className = "unready";
  setText(status, "The server does not answer; what is shown is old.");
  // A source that has been refused does not try again by itself.
  if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
};

byId("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  if (state) show(state);
});
