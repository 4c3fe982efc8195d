"use strict";
// Everything that comes from logs is put on the page as text, never as markup.

const every = 1000; // ms between two looks
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const two = (n) => String(n).padStart(2, "0");
const clock = (ms) => { const d = new Date(ms); return two(d.getUTCHours()) + ":" + two(d.getUTCMinutes()); };
const day = (ms) => new Date(ms).toISOString().slice(0, 10);

const el = (name, text, cls) => {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (cls) e.className = cls;
  return e;
};
const draw = (name, attrs, text) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
};

// niceTop is the round number at or above max that four grid lines divide well.
const niceTop = (max) => {
  const unit = 10 ** Math.floor(Math.log10(Math.max(max, 4)));
  return [1, 2, 4, 6, 8, 10].map((f) => f * unit).find((v) => v >= max && v >= 4);
};

const space = { left: 46, right: 12, top: 8, bottom: 22 };
const charts = {};

function chart(id, points) {
  const svg = $(id), w = svg.clientWidth, h = svg.clientHeight;
  svg.setAttribute("class", id);
  svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
  const parts = [];
  if (points.length < 2) {
    parts.push(draw("text", { x: w / 2, y: h / 2, "text-anchor": "middle", class: "none" }, "waiting for the first minutes"));
    svg.replaceChildren(...parts);
    return;
  }
  const t0 = points[0].t, t1 = points[points.length - 1].t, top = niceTop(Math.max(...points.map((p) => p.v)));
  const x = (t) => space.left + (t - t0) / (t1 - t0) * (w - space.left - space.right);
  const y = (v) => h - space.bottom - v / top * (h - space.top - space.bottom);
  for (let i = 0; i <= 4; i++) {
    const v = top * i / 4;
    parts.push(draw("line", { x1: space.left, x2: w - space.right, y1: y(v), y2: y(v), class: "grid" }));
    if (Number.isInteger(v)) parts.push(draw("text", { x: space.left - 8, y: y(v) + 4, "text-anchor": "end", class: "axis" }, number.format(v)));
  }
  const minutes = (t1 - t0) / 60000, step = [1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440].find((s) => minutes / s <= 9) || 1440 * 7;
  for (let t = Math.ceil(t0 / 60000 / step) * step * 60000; t <= t1; t += step * 60000) {
    parts.push(draw("text", { x: x(t), y: h - 6, "text-anchor": "middle", class: "axis" }, clock(t)));
  }
  const runs = [[]]; // a minute without any view is a gap, not a line
  points.forEach((p, i) => {
    if (i > 0 && p.t - points[i - 1].t > 10 * 60000) runs.push([]);
    runs[runs.length - 1].push(p);
  });
  for (const run of runs) {
    const line = run.map((p) => `${x(p.t).toFixed(1)},${y(p.v).toFixed(1)}`).join("L");
    const a = x(run[0].t).toFixed(1), b = x(run[run.length - 1].t).toFixed(1);
    parts.push(draw("path", { d: `M${a},${y(0)}L${line}L${b},${y(0)}Z`, class: "area" }), draw("path", { d: `M${line}`, class: "curve" }));
  }
  const end = points[points.length - 1];
  parts.push(draw("circle", { cx: x(end.t), cy: y(end.v), r: 3.2, class: "spot" }));
  const cross = draw("line", { y1: space.top, y2: h - space.bottom, x1: 0, x2: 0, class: "cross", visibility: "hidden" });
  parts.push(cross);
  svg.replaceChildren(...parts);
  charts[id] = { points, x, cross };
}

function hover(id, unit) {
  const svg = $(id), tip = $("tip");
  svg.addEventListener("mousemove", (ev) => {
    const c = charts[id];
    if (!c) return;
    const at = ev.clientX - svg.getBoundingClientRect().left;
    const p = c.points.reduce((a, b) => Math.abs(c.x(b.t) - at) < Math.abs(c.x(a.t) - at) ? b : a);
    c.cross.setAttribute("x1", c.x(p.t));
    c.cross.setAttribute("x2", c.x(p.t));
    c.cross.setAttribute("visibility", "visible");
    tip.textContent = `${day(p.t)} ${clock(p.t)} · ${number.format(p.v)} ${unit}`;
    tip.hidden = false;
    tip.style.left = Math.min(ev.clientX + 12, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = ev.clientY - 34 + "px";
  });
  svg.addEventListener("mouseleave", () => {
    tip.hidden = true;
    if (charts[id]) charts[id].cross.setAttribute("visibility", "hidden");
  });
}

function pages(list, minutes) {
  $("pages-span").textContent = minutes ? `views in ${minutes} minutes` : "";
  const most = list.length ? list[0].pv : 1;
  $("pages").replaceChildren(...list.map((p) => {
    const li = el("li"), bar = el("i"), name = el("span", p.page === "" ? "(empty)" : p.page);
    bar.style.width = 100 * p.pv / most + "%";
    name.title = p.page;
    li.append(bar, name, el("b", number.format(p.pv)));
    return li;
  }));
}

const ago = (seconds) => seconds < 1.5 ? "just now" : seconds < 120 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;

function job(j) {
  const facts = [
    ["phase", j.phase], ["parallelism", j.parallelism], ["restarts", number.format(j.restarts)], ["up for", ago(j.up).replace(" ago", "")],
    ["checkpoints", number.format(j.epochs) + (j.failed ? `, ${j.failed} failed` : "")], ["last one took", j.epoch ? `${j.took.toFixed(1)} ms` : "–"],
    ["its state", j.epoch ? size(j.bytes) : "–"], ["late views", number.format(j.late)],
  ];
  const list = facts.map(([k, v]) => fact(k, v));
  if (j.error) list.push(fact("last error", j.error, "wide"));
  $("job").replaceChildren(...list);
}

function fact(name, value, cls) {
  const d = el("div", undefined, cls);
  d.append(el("dt", name), el("dd", value));
  return d;
}

const size = (n) => n < 1e4 ? `${number.format(n)} B` : n < 1e7 ? `${number.format(Math.round(n / 1e3))} kB` : `${number.format(Math.round(n / 1e6))} MB`;

function inputs(list) {
  $("inputs").replaceChildren(...list.map((i) => {
    const row = el("tr"), bad = i.missing + i.doubled > 0;
    const next = i.next < 0 ? "" : number.format(i.next) + (bad ? ` (${i.missing} missing, ${i.doubled} doubled)` : "");
    row.append(el("td", i.from), el("td", number.format(i.lines)), el("td", next, bad ? "bad" : ""), el("td", number.format(i.skipped)));
    return row;
  }));
}

function show(s) {
  const j = s.job, end = s.minutes[s.minutes.length - 1];
  $("dot").className = "dot " + (j.phase === "running" ? "good" : j.phase === "restarting" ? "bad" : "warn");
  $("phase").textContent = j.phase;
  $("rate").textContent = number.format(Math.round(s.rate));
  if (end) {
    $("now-pv").textContent = number.format(end.pv);
    $("now-uv").textContent = number.format(end.uv);
  }
  if (j.watermark) {
    $("watermark").textContent = new Date(j.watermark).toISOString().slice(11, 19);
    $("watermark-day").textContent = "watermark, " + day(j.watermark) + " UTC";
  }
  if (j.epoch) {
    $("epoch").textContent = "#" + j.epoch;
    $("epoch-age").textContent = ago((s.now - j.epochAt) / 1000);
  }
  chart("pv", s.minutes.map((m) => ({ t: m.t, v: m.pv })));
  chart("uv", s.minutes.map((m) => ({ t: m.t, v: m.uv })));
  pages(s.pages, s.pageMinutes);
  job(j);
  inputs(s.inputs);
  $("footer").textContent = "All times are UTC." + (s.speed !== 1 ? ` The traffic is made up, and its time runs ${s.speed} times as fast as the clock.` : "");
}

async function look() {
  try {
    const r = await fetch("api/state", { cache: "no-store" });
    if (!r.ok) throw new Error(`the server answers ${r.status}`);
    show(await r.json());
  } catch (e) {
    $("dot").className = "dot bad";
    $("phase").textContent = "no answer: " + e.message;
  }
  setTimeout(look, every);
}

hover("pv", "views");
hover("uv", "visitors");
look();
