"use strict";

// The schedule on a canvas: units as rows, tasks as bars. Every frame draws each pixel of a row at most once, so that
// its cost depends on the screen and not on the number of tasks.

const GANTT = { label: 210, busy: 52, axis: 30, row: 18, band: 22, counter: 46 };

class Gantt {
  constructor(host, report, schedule, onSelect) {
    this.report = report;
    this.schedule = schedule;
    this.onSelect = onSelect;
    this.canvas = host.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.view = { from: 0, to: schedule.makespan };
    this.scroll = 0;
    this.hover = -1;
    this.selected = -1;
    this.showCritical = false;
    this.whole = false; // whether all rows are shown at once, as on paper
    this.colourBy = "";
    this.matches = null;
    this.critical = new Set(schedule.critical);
    this.next = successors(schedule);
    this.lines = this.layOut();
    this.listen();
    this.resize();
    new ResizeObserver(() => this.resize()).observe(host);
  }

  // -- geometry ------------------------------------------------------------------------------------------------------

  /** Lines from top to bottom: a band above each kind of unit, then its units; `top` in pixels of the whole. */
  layOut() {
    const { schedule, report } = this;
    const byUnit = new Map(schedule.rows.map((row, k) => [row.unit, k]));
    const tasks = schedule.rows.map(() => []);
    schedule.instruction.forEach((i, t) => tasks[byUnit.get(report.instructions[i].unit)].push(t));
    const lines = [];
    let top = 0;
    let kind = null;
    schedule.rows.forEach((row, k) => {
      const unit = report.units[row.unit];
      if (unit.kind !== kind) {
        kind = unit.kind;
        lines.push({ band: report.kinds[kind] || kind, top, height: GANTT.band });
        top += GANTT.band;
      }
      tasks[k].sort((a, b) => schedule.start[a] - schedule.start[b] || schedule.end[a] - schedule.end[b]);
      lines.push({ name: unit.name, unit: row.unit, busy: row.busy, tasks: tasks[k], top, height: GANTT.row });
      top += GANTT.row;
    });
    this.total = top;
    this.lineOf = new Map(lines.filter((l) => l.tasks).map((l) => [l.unit, l]));
    return lines;
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.width = this.canvas.parentElement.clientWidth;
    this.label = Math.min(GANTT.label, Math.round(this.width * 0.3));
    this.counters = this.schedule.counters.length * GANTT.counter;
    const room = this.whole ? this.total : Math.max(360, window.innerHeight - 300 - this.counters); // on one screen
    this.shown = Math.min(this.total, room);
    this.height = GANTT.axis + this.shown + this.counters + 4;
    this.canvas.style.height = `${this.height}px`;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.setScroll(this.scroll);
  }

  get plotWidth() {
    return Math.max(1, this.width - this.label - GANTT.busy);
  }

  get scale() {
    return this.plotWidth / (this.view.to - this.view.from);
  }

  x(cycle) {
    return this.label + (cycle - this.view.from) * this.scale;
  }

  cycle(x) {
    return this.view.from + (x - this.label) / this.scale;
  }

  setScroll(value) {
    this.scroll = Math.max(0, Math.min(value, this.total - this.shown));
    this.draw();
  }

  /** Shows cycles `from` to `to`, at least a few of them and never beyond the ends. */
  setView(from, to) {
    const whole = this.schedule.makespan;
    const span = Math.min(whole, Math.max(to - from, Math.min(whole, 8)));
    const start = Math.max(0, Math.min(from, whole - span));
    this.view = { from: start, to: start + span };
    this.draw();
  }

  zoom(factor, at = (this.view.from + this.view.to) / 2) {
    this.setView(at - (at - this.view.from) * factor, at + (this.view.to - at) * factor);
  }

  pan(share) {
    const shift = share * (this.view.to - this.view.from);
    const from = Math.max(0, Math.min(this.view.from + shift, this.schedule.makespan - (this.view.to - this.view.from)));
    this.setView(from, from + this.view.to - this.view.from);
  }

  reset() {
    this.setView(0, this.schedule.makespan);
  }

  // -- what is where -------------------------------------------------------------------------------------------------

  lineAt(y) {
    const inner = y - GANTT.axis + this.scroll;
    if (y < GANTT.axis || y > GANTT.axis + this.shown) return null;
    return this.lines.find((l) => inner >= l.top && inner < l.top + l.height) || null;
  }

  /** The task under a point, or the nearest within two pixels; -1 if there is none. */
  taskAt(x, y) {
    const line = this.lineAt(y);
    if (!line || !line.tasks || x < this.label || x > this.label + this.plotWidth) return -1;
    const { start, end } = this.schedule;
    const cycle = this.cycle(x);
    const k = firstAfter(line.tasks, (t) => end[t] > cycle);
    let best = -1;
    let distance = 2.5;
    for (const t of [line.tasks[k - 1], line.tasks[k]]) {
      if (t === undefined) continue;
      const off = Math.max(this.x(start[t]) - x, x - this.x(end[t]), 0);
      if (off < distance) {
        best = t;
        distance = off;
      }
    }
    return best;
  }

  dependencies(task) {
    return this.schedule.deps.slice(this.schedule.offsets[task], this.schedule.offsets[task + 1]);
  }

  // -- colours -------------------------------------------------------------------------------------------------------

  colourOf(task) {
    const { report, schedule } = this;
    const instruction = report.instructions[schedule.instruction[task]];
    if (this.colourBy === "micro-batch") {
      return mixed(report.palette.ordered, schedule.micro_batch[task] / Math.max(1, schedule.micro_batches - 1));
    }
    if (this.colourBy === "instruction") return report.palette.ops[instruction.op] || "#868e96";
    return stageColour(report, instruction.phase, instruction.kind);
  }

  recolour(by) {
    this.colourBy = by;
    this.colours = this.schedule.start.map((_, t) => this.colourOf(t));
    this.draw();
  }

  // -- drawing -------------------------------------------------------------------------------------------------------

  draw() {
    if (this.pending || !this.colours) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.drawNow();
    });
  }

  drawNow() {
    const c = this.context;
    const ink = inks();
    c.clearRect(0, 0, this.width, this.height);
    c.font = "11px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, 'DejaVu Sans', sans-serif";
    c.textBaseline = "middle";
    this.drawAxis(c, ink);
    c.save();
    c.beginPath();
    c.rect(0, GANTT.axis, this.width, this.shown);
    c.clip();
    for (const line of this.lines) {
      const y = GANTT.axis + line.top - this.scroll;
      if (y + line.height < GANTT.axis || y > GANTT.axis + this.shown) continue;
      if (line.tasks) this.drawRow(c, ink, line, y);
      else this.drawBand(c, ink, line, y);
    }
    const focus = this.hover >= 0 ? this.hover : this.selected;
    if (focus >= 0) this.drawFocus(c, ink, focus);
    c.restore();
    this.schedule.counters.forEach((counter, k) => this.drawCounter(c, ink, counter, k));
    this.drawScrollbar(c, ink);
  }

  drawAxis(c, ink) {
    const step = niceStep((this.view.to - this.view.from) / Math.max(2, this.plotWidth / 120));
    c.textAlign = "center";
    for (let at = Math.ceil(this.view.from / step) * step; at <= this.view.to; at += step) {
      const x = this.x(at);
      c.fillStyle = ink.line;
      c.fillRect(Math.round(x), GANTT.axis, 1, this.height - GANTT.axis);
      c.fillStyle = ink.soft;
      if (x < this.label + this.plotWidth - 20) {
        c.fillText(at.toLocaleString("en"), x, 9);
        c.fillText(seconds(at * this.report.clock_ns * 1e-9), x, 22);
      }
    }
    c.fillStyle = ink.soft;
    c.textAlign = "left";
    c.fillText("cycles", 12, 9);
    c.fillText("time", 12, 22);
    c.textAlign = "right";
    c.fillText("busy", this.width - 10, 22);
  }

  drawBand(c, ink, line, y) {
    c.fillStyle = ink.panel;
    c.fillRect(0, y, this.width, line.height);
    c.fillStyle = ink.soft;
    c.textAlign = "left";
    c.fillText(line.band, 12, y + line.height / 2);
  }

  drawRow(c, ink, line, y) {
    const { start, end } = this.schedule;
    const middle = y + line.height / 2;
    c.fillStyle = ink.ink;
    c.textAlign = "right";
    c.fillText(fitted(c, line.name, this.label - 24), this.label - 10, middle);
    c.fillStyle = ink.soft;
    c.fillText(`${(100 * line.busy).toFixed(line.busy < 0.0995 ? 1 : 0)} %`, this.width - 10, middle);
    const right = this.label + this.plotWidth;
    let drawn = this.label;
    const first = firstAfter(line.tasks, (t) => end[t] > this.view.from);
    for (let k = first; k < line.tasks.length; k++) {
      const t = line.tasks[k];
      const x0 = Math.max(this.label, this.x(start[t]));
      if (x0 >= right) break;
      const x1 = Math.min(right, Math.max(this.x(end[t]), x0 + 1));
      if (x1 <= drawn) continue;
      const width = x1 - x0;
      c.globalAlpha = this.matches && !this.matches[t] ? 0.13 : 1;
      c.fillStyle = this.colours[t];
      c.fillRect(Math.max(x0, drawn), y + 2, Math.max(width - (width > 4 ? 0.7 : 0), 1), line.height - 4);
      if (this.showCritical && this.critical.has(t)) {
        c.fillStyle = ink.ink;
        c.fillRect(Math.max(x0, drawn), y + line.height - 3.5, Math.max(width, 1), 2.5);
      }
      if (width > 58) this.drawLabel(c, t, x0, width, middle);
      c.globalAlpha = 1;
      drawn = Math.max(drawn, x1 - (width > 1 ? 0 : 0.01));
    }
  }

  drawLabel(c, t, x, width, middle) {
    const { label } = this.report.instructions[this.schedule.instruction[t]];
    c.textAlign = "left";
    c.fillStyle = inkOn(this.colours[t]);
    c.fillText(fitted(c, label, width - 8), x + 4, middle);
  }

  /** The task in focus with what it waits for and what waits for it. */
  drawFocus(c, ink, task) {
    const from = this.place(task);
    const limit = 400;
    for (const d of this.dependencies(task).slice(0, limit)) this.drawArrow(c, ink.before, this.place(d), from);
    for (const t of (this.next[task] || []).slice(0, limit)) this.drawArrow(c, ink.after, from, this.place(t));
    c.lineWidth = 2;
    c.strokeStyle = ink.ink;
    c.strokeRect(from.x0, from.y0, from.x1 - from.x0, from.y1 - from.y0);
  }

  place(task) {
    const { start, end, instruction } = this.schedule;
    const line = this.lineOf.get(this.report.instructions[instruction[task]].unit);
    const y = GANTT.axis + line.top - this.scroll;
    const x0 = this.x(start[task]);
    return { x0, x1: Math.max(this.x(end[task]), x0 + 2), y0: y + 1.5, y1: y + line.height - 1.5 };
  }

  drawArrow(c, colour, from, to) {
    c.strokeStyle = c.fillStyle = colour;
    c.lineWidth = 1.2;
    const [xa, ya] = [from.x1, (from.y0 + from.y1) / 2];
    const [xb, yb] = [to.x0, (to.y0 + to.y1) / 2];
    const bend = Math.max(12, Math.abs(xb - xa) / 3);
    c.beginPath();
    c.moveTo(xa, ya);
    c.bezierCurveTo(xa + bend, ya, xb - bend, yb, xb - 3, yb);
    c.stroke();
    c.beginPath();
    c.moveTo(xb, yb);
    c.lineTo(xb - 6, yb - 3.2);
    c.lineTo(xb - 6, yb + 3.2);
    c.fill();
  }

  /** A counter as an area below the rows, on the same time. */
  drawCounter(c, ink, counter, k) {
    const top = GANTT.axis + this.shown + k * GANTT.counter;
    const bottom = top + GANTT.counter - 6;
    const most = counter.most || (counter.most = Math.max(1, ...counter.steps.map((s) => s[1])));
    c.fillStyle = ink.panel;
    c.fillRect(0, top, this.width, 1);
    c.fillStyle = ink.soft;
    c.textAlign = "right";
    c.fillText(fitted(c, counter.name, this.label - 24), this.label - 10, bottom - 20);
    c.fillText(`most ${counter.unit ? bytes(most) : most.toLocaleString("en")}`, this.label - 10, bottom - 6);
    c.fillStyle = ink.area;
    const height = bottom - top - 6;
    const right = this.label + this.plotWidth;
    const first = Math.max(0, firstAfter(counter.steps, (s) => s[0] > this.view.from) - 1);
    let column = -1;
    let peak = 0;
    for (let s = first; s < counter.steps.length; s++) {
      const [cycle, value] = counter.steps[s];
      const x0 = Math.max(this.label, this.x(cycle));
      if (x0 >= right) break;
      const x1 = s + 1 < counter.steps.length ? Math.min(right, this.x(counter.steps[s + 1][0])) : right;
      peak = Math.floor(x0) === column ? Math.max(peak, value) : value; // several in one pixel: the highest
      column = Math.floor(x0);
      const tall = (height * (x1 - x0 < 1 ? peak : value)) / most;
      c.fillRect(Math.floor(x0), bottom - tall, Math.max(1, Math.ceil(x1) - Math.floor(x0)), tall); // no seams
    }
  }

  drawScrollbar(c, ink) {
    if (this.shown >= this.total) return;
    c.fillStyle = ink.soft;
    c.globalAlpha = 0.45;
    const size = (this.shown * this.shown) / this.total;
    c.fillRect(this.width - 5, GANTT.axis + (this.scroll * this.shown) / this.total, 4, size);
    c.globalAlpha = 1;
  }

  // -- interaction ---------------------------------------------------------------------------------------------------

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("wheel", (e) => this.onWheel(e), { passive: false });
    canvas.addEventListener("pointerdown", (e) => this.onDown(e));
    canvas.addEventListener("pointermove", (e) => this.onMove(e));
    canvas.addEventListener("pointerup", (e) => this.onUp(e));
    canvas.addEventListener("pointerleave", () => this.setHover(-1));
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("keydown", (e) => this.onKey(e));
  }

  /** Over the plot the wheel zooms, sideways (or with Shift) it pans; over the names it scrolls. What can go no
   *  further is left to the page.
   */
  onWheel(event) {
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    const whole = this.view.to - this.view.from >= this.schedule.makespan;
    if (event.offsetX < this.label) {
      const before = this.scroll;
      this.setScroll(this.scroll + event.deltaY);
      if (this.scroll === before) return;
    } else if (whole && event.deltaY > 0) {
      return;
    } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      this.pan(sideways / 800);
    } else {
      const notches = Math.max(-3, Math.min(3, event.deltaY / 100));
      this.zoom(1.25 ** notches, this.cycle(event.offsetX));
    }
    event.preventDefault();
  }

  onDown(event) {
    this.drag = { x: event.offsetX, y: event.offsetY, view: this.view, scroll: this.scroll, moved: false };
    this.canvas.setPointerCapture(event.pointerId);
  }

  onMove(event) {
    if (!this.drag) {
      this.setHover(this.taskAt(event.offsetX, event.offsetY), event.clientX, event.clientY);
      return;
    }
    const [dx, dy] = [event.offsetX - this.drag.x, event.offsetY - this.drag.y];
    if (!this.drag.moved && Math.hypot(dx, dy) < 4) return;
    this.drag.moved = true;
    this.canvas.classList.add("dragging");
    const shift = (-dx * (this.drag.view.to - this.drag.view.from)) / this.plotWidth;
    this.scroll = Math.max(0, Math.min(this.drag.scroll - dy, this.total - this.shown));
    this.setView(this.drag.view.from + shift, this.drag.view.to + shift);
  }

  onUp(event) {
    if (this.drag && !this.drag.moved) this.select(this.taskAt(event.offsetX, event.offsetY));
    this.drag = null;
    this.canvas.classList.remove("dragging");
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      "+": () => this.zoom(0.7),
      "=": () => this.zoom(0.7),
      "-": () => this.zoom(1 / 0.7),
      "0": () => this.reset(),
      Home: () => this.reset(),
      ArrowLeft: () => this.pan(-0.15),
      ArrowRight: () => this.pan(0.15),
      ArrowUp: () => this.setScroll(this.scroll - GANTT.row),
      ArrowDown: () => this.setScroll(this.scroll + GANTT.row),
      n: () => this.step(1),
      p: () => this.step(-1),
      d: () => this.follow(this.dependencies(Math.max(0, this.selected))),
      s: () => this.follow(this.next[this.selected]),
      Escape: () => this.select(-1),
    }[event.key];
    if (!act) return;
    act();
    event.preventDefault();
  }

  /** Selects the next (or previous) task in order of start, among those that the filter leaves. */
  step(by) {
    const order = this.order || (this.order = [...this.schedule.start.keys()].sort(
      (a, b) => this.schedule.start[a] - this.schedule.start[b] || a - b));
    const kept = this.matches ? order.filter((t) => this.matches[t]) : order;
    if (!kept.length) return;
    const at = kept.indexOf(this.selected);
    this.select(kept[at < 0 ? (by > 0 ? 0 : kept.length - 1) : (at + by + kept.length) % kept.length]);
    this.reveal(this.selected);
  }

  follow(tasks) {
    if (this.selected < 0 || !tasks || !tasks.length) return;
    this.select(tasks[0]);
    this.reveal(tasks[0]);
  }

  /** Brings a task into view without changing the zoom, unless it is narrower than a few pixels. */
  reveal(task) {
    const { start, end, instruction } = this.schedule;
    const line = this.lineOf.get(this.report.instructions[instruction[task]].unit);
    if (line.top < this.scroll) this.scroll = line.top;
    if (line.top + line.height > this.scroll + this.shown) this.scroll = line.top + line.height - this.shown;
    const span = this.view.to - this.view.from;
    if (start[task] < this.view.from || end[task] > this.view.to) {
      this.setView(start[task] - span / 2, start[task] + span / 2);
    } else this.draw();
  }

  setHover(task, x = 0, y = 0) {
    if (task !== this.hover) {
      this.hover = task;
      this.draw();
    }
    if (task < 0) this.report.tip.hide();
    else this.report.tip.show(this.describe(task), x, y);
  }

  select(task) {
    this.selected = task;
    this.draw();
    this.onSelect(task);
  }

  /** What there is to say of a task: a title, and pairs of names and values. */
  describe(task) {
    const { report, schedule } = this;
    const instruction = report.instructions[schedule.instruction[task]];
    const [start, end] = [schedule.start[task], schedule.end[task]];
    const cycles = (n) => n.toLocaleString("en");
    const facts = [
      ["unit", report.units[instruction.unit].name],
      ["cycles", `${cycles(start)} to ${cycles(end)} (${cycles(end - start)})`],
      ["time", `${seconds((end - start) * report.clock_ns * 1e-9)} from ${seconds(start * report.clock_ns * 1e-9)}`],
      ["ONNX", instruction.nodes.map((n) => report.nodes[n]).join(", ") || "of no node"],
      ["phase", instruction.phase + (instruction.kind === "forward" && !report.trains.has(instruction.phase) ? "" : `, ${instruction.kind}`)],
    ];
    if (schedule.micro_batches > 1) facts.push(["micro-batch", `${schedule.micro_batch[task]} of 0 to ${schedule.micro_batches - 1}`]);
    const waits = this.dependencies(task);
    const blocks = this.next[task] || [];
    facts.push(["waits for", this.named(waits)], ["is waited for by", this.named(blocks)]);
    return { title: `${instruction.label}`, sub: `instruction ${schedule.instruction[task]}, task ${task}`, facts };
  }

  named(tasks) {
    const few = tasks.slice(0, 3).map((t) => this.report.instructions[this.schedule.instruction[t]].label);
    return tasks.length ? few.join(", ") + (tasks.length > 3 ? ` and ${tasks.length - 3} more` : "") : "nothing";
  }

  /** Dims what does not contain all words; gives the number of tasks left. Words are looked for in any case. */
  filter(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const { report, schedule } = this;
    if (!words.length) this.matches = null;
    else {
      const found = report.instructions.map((i) => {
        const all = [i.label, i.op, i.phase, i.kind, report.units[i.unit].name, ...i.nodes.map((n) => report.nodes[n])];
        const hay = all.join("\n").toLowerCase();
        return words.every((w) => hay.includes(w));
      });
      this.matches = schedule.instruction.map((i) => found[i]);
    }
    this.draw();
    return this.matches ? this.matches.filter(Boolean).length : schedule.start.length;
  }

  /** Shows all tasks that the filter leaves. */
  zoomToMatches() {
    if (!this.matches) return;
    const kept = this.schedule.start.map((_, t) => t).filter((t) => this.matches[t]);
    if (!kept.length) return;
    const from = kept.reduce((least, t) => Math.min(least, this.schedule.start[t]), Infinity);
    const to = kept.reduce((most, t) => Math.max(most, this.schedule.end[t]), 0);
    const room = (to - from) * 0.04;
    this.setView(from - room, to + room);
    this.reveal(kept[0]);
  }

  /** Zooms and pans for some frames; gives the milliseconds that each took to draw, and from one to the next. */
  async measure(frames) {
    const [view, draw, apart] = [this.view, [], []];
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    let last = await frame();
    for (let k = 0; k < frames; k++) {
      const span = this.schedule.makespan / (1 + (k % 20) * 3);
      const from = ((this.schedule.makespan - span) * k) / frames;
      this.view = { from, to: from + span };
      this.hover = k % this.schedule.start.length;
      const begin = performance.now();
      this.drawNow();
      draw.push(performance.now() - begin);
      const now = await frame();
      apart.push(now - last);
      last = now;
    }
    this.hover = -1;
    this.view = view;
    this.draw();
    return { draw, apart };
  }
}

/** The tasks that wait for each task. */
function successors(schedule) {
  const next = {};
  for (let t = 0; t < schedule.start.length; t++) {
    for (let k = schedule.offsets[t]; k < schedule.offsets[t + 1]; k++) (next[schedule.deps[k]] ||= []).push(t);
  }
  return next;
}

/** The first index whose item passes a test that fails, then holds; the length if none does. */
function firstAfter(items, holds) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(items[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}
