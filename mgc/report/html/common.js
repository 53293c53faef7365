"use strict";

// Colours, numbers and the tooltip: shared by the schedule and the floor plan.

function mixed(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  const part = (k) => parseInt(stops[low].slice(k, k + 2), 16) * (1 - at + low) + parseInt(stops[low + 1].slice(k, k + 2), 16) * (at - low);
  return `#${[1, 3, 5].map((k) => Math.round(part(k)).toString(16).padStart(2, "0")).join("")}`;
}

function stageColour(report, phase, kind) {
  const hues = report.palette.stages;
  if (!report.trains.has(phase)) return report.phases.length === 1 ? report.palette.stages[0].backward : hues[hues.length - 1][kind];
  return hues[[...report.trains].indexOf(phase) % (hues.length - 1)][kind];
}

function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b < 140 ? "#ffffff" : "#000000";
}

/** The theme's colours for what is drawn on a canvas. */
function inks() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const dark = document.documentElement.dataset.theme === "dark";
  return {
    page: value("--page"),
    panel: value("--panel"),
    line: value("--line"),
    ink: value("--ink"),
    soft: value("--soft"),
    area: dark ? "#4d7ea8" : "#9db8d2",
    before: dark ? "#f5b041" : "#b35900",
    after: dark ? "#6cb6f5" : "#0b62a4",
  };
}

/** Three significant digits and a prefix, as the text reports have it. */
function seconds(value) {
  if (value === 0) return "0 s";
  const powers = [["s", 1], ["ms", 1e-3], ["µs", 1e-6], ["ns", 1e-9], ["ps", 1e-12]];
  const [unit, size] = powers.find(([, s]) => Math.abs(value) >= s * 0.9995) || powers[4];
  return `${Number((value / size).toPrecision(3))} ${unit}`;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let k = 0;
  while (value >= 1024 && k < 3) {
    value /= 1024;
    k++;
  }
  return `${k ? value.toFixed(1) : value} ${units[k]}`;
}

/** The least of 1, 2, 5, 10, 20 ... that is not below the value. */
function niceStep(value) {
  const power = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(value, 1))));
  return [1, 2, 5, 10].map((m) => m * power).find((m) => m >= value);
}

const widths = new Map();

/** The text, or its head and tail with a mark between, so that it fits. */
function fitted(c, text, room) {
  if (!widths.has(text)) widths.set(text, c.measureText(text).width);
  const width = widths.get(text);
  if (width <= room) return text;
  for (let keep = Math.floor((text.length * room) / width) - 1; keep > 1; keep--) {
    const cut = `${text.slice(0, Math.ceil(keep / 2))}…${text.slice(text.length - Math.floor(keep / 2))}`;
    if (c.measureText(cut).width <= room) return cut;
  }
  return "";
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** A box beside the pointer. */
class Tip {
  constructor(box) {
    this.box = box;
  }

  show({ title, sub, facts }, x, y) {
    const list = element("dl");
    for (const [name, value] of facts) list.append(element("dt", { text: name }), element("dd", { text: value }));
    this.box.replaceChildren(element("b", { text: title }), element("span", { text: sub || "" }), list);
    this.box.hidden = false;
    const { width, height } = this.box.getBoundingClientRect();
    const left = x + 16 + width > window.innerWidth ? Math.max(4, x - width - 16) : x + 16;
    const top = y + 18 + height > window.innerHeight ? Math.max(4, y - height - 12) : y + 18;
    this.box.style.left = `${left}px`;
    this.box.style.top = `${top}px`;
  }

  hide() {
    this.box.hidden = true;
  }
}
