"use strict";

// Puts the page to work: theme, sections, schedules with their tools, the floor plan, filters of tables.

function start() {
  const report = JSON.parse(document.getElementById("data").textContent);
  report.tip = new Tip(document.querySelector(".tip"));
  report.trains = new Set(report.instructions.filter((i) => i.kind === "update").map((i) => i.phase));
  const shown = { report, gantts: [], floor: null };
  window.mgc = shown; // for tests and the curious
  setUpTheme(shown);
  document.querySelectorAll("[data-schedule]").forEach((panel) => {
    shown.gantts.push(setUpSchedule(panel, report, report.schedules[Number(panel.dataset.schedule)]));
  });
  setUpEntries();
  if (report.floor) setUpFloorPlan(shown, document.getElementById("floor"));
  document.querySelectorAll("[data-filters]").forEach(setUpTableFilter);
  document.querySelectorAll("button[data-node]").forEach((b) => b.addEventListener("click", () => showNode(b.dataset.node)));
  setUpSections();
}

// -- theme ------------------------------------------------------------------------------------------------------------

function setUpTheme(shown) {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const prefers = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const apply = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
    for (const gantt of shown.gantts) gantt.draw();
    if (shown.floor) shown.floor.draw();
  };
  button.addEventListener("click", () => apply((chosen = root.dataset.theme !== "dark")));
  prefers.addEventListener("change", () => chosen === null && apply(prefers.matches));
  let before = false;
  window.addEventListener("beforeprint", () => {
    before = root.dataset.theme === "dark";
    root.dataset.theme = "light";
    for (const gantt of shown.gantts) {
      gantt.whole = true;
      gantt.resize();
      gantt.drawNow();
    }
    if (shown.floor) shown.floor.drawNow();
  });
  window.addEventListener("afterprint", () => {
    for (const gantt of shown.gantts) {
      gantt.whole = false;
      gantt.resize();
    }
    apply(before);
  });
  apply(prefers.matches);
}

/** Marks the section that is being read. */
function setUpSections() {
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new Map();
  const watch = new IntersectionObserver((entries) => {
    for (const e of entries) seen.set(e.target.id, e.isIntersecting);
    const first = [...links.keys()].find((id) => seen.get(id));
    for (const [id, link] of links) {
      if (id === first) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-60px 0px -35% 0px" });
  document.querySelectorAll("main > section").forEach((s) => watch.observe(s));
  const open = document.body.dataset.open;
  if (open && !location.hash) document.getElementById(open)?.scrollIntoView({ behavior: "instant" });
}

// -- schedules --------------------------------------------------------------------------------------------------------

function setUpSchedule(panel, report, schedule) {
  const details = panel.querySelector(".details");
  const empty = details.innerHTML;
  const gantt = new Gantt(panel.querySelector(".plot"), report, schedule, (task) => {
    if (task < 0) details.innerHTML = empty;
    else showDetails(details, gantt.describe(task));
  });
  const tool = (name) => panel.querySelector(`[data-do="${name}"]`);
  tool("in").addEventListener("click", () => gantt.zoom(0.5));
  tool("out").addEventListener("click", () => gantt.zoom(2));
  tool("all").addEventListener("click", () => gantt.reset());
  tool("critical").addEventListener("click", (e) => {
    gantt.showCritical = !gantt.showCritical;
    e.currentTarget.setAttribute("aria-pressed", gantt.showCritical);
    gantt.draw();
  });
  const search = tool("filter");
  const count = panel.querySelector(".count");
  const tell = () => {
    const left = gantt.filter(search.value);
    const all = schedule.start.length;
    count.textContent = gantt.matches ? `${left.toLocaleString("en")} of ${all.toLocaleString("en")} tasks` : `${all.toLocaleString("en")} tasks`;
  };
  search.addEventListener("input", tell);
  search.addEventListener("keydown", (e) => e.key === "Enter" && gantt.zoomToMatches());
  const colours = tool("colours");
  const legend = panel.querySelector(".legend");
  const recolour = () => {
    gantt.recolour(colours.value);
    legend.replaceChildren(...legendOf(gantt));
  };
  colours.addEventListener("change", recolour);
  colours.value = report.trains.size && schedule.micro_batches === 1 ? "stage" : schedule.micro_batches > 1 && !report.trains.size ? "micro-batch" : report.trains.size ? "stage" : "instruction";
  recolour();
  tell();
  panel.gantt = gantt;
  panel.applyFilter = (text) => {
    search.value = text;
    tell();
    gantt.zoomToMatches();
  };
  return gantt;
}

function showDetails(box, { title, sub, facts }) {
  const parts = [element("b", { text: title }), ` (${sub})`];
  for (const [name, value] of facts) parts.push(" · ", element("span", { text: `${name}: ` }), value);
  box.replaceChildren(...parts);
}

function legendOf(gantt) {
  const { report, schedule } = gantt;
  const swatch = (colour, text) => element("li", {}, element("i", { style: `background:${colour}` }), text);
  if (gantt.colourBy === "micro-batch") {
    if (schedule.micro_batches === 1) return [swatch(mixed(report.palette.ordered, 0), "micro-batch 0")];
    const scale = element("i", { class: "scale", style: `background:linear-gradient(90deg, ${report.palette.ordered.join(", ")})` });
    return [element("li", {}, "micro-batch 0", scale, String(schedule.micro_batches - 1))];
  }
  const seen = new Map();
  schedule.instruction.forEach((i, t) => {
    const { op, phase, kind } = report.instructions[i];
    const text = gantt.colourBy === "instruction" ? op : report.trains.has(phase) ? `${phase}, ${kind}` : phase;
    if (!seen.has(text)) seen.set(text, gantt.colours[t]);
  });
  return [...seen].map(([text, colour]) => swatch(colour, text));
}

/** One button for each entry of a training program. */
function setUpEntries() {
  const buttons = [...document.querySelectorAll("[data-entry]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const b of buttons) b.setAttribute("aria-pressed", b === button);
      document.querySelectorAll("[data-schedule]").forEach((p) => {
        p.hidden = p.dataset.schedule !== button.dataset.entry;
        if (!p.hidden) p.gantt.resize();
      });
    });
  }
}

/** Shows in the schedule what a node of the ONNX model became: in the first entry that has any of it. */
function showNode(node) {
  const panels = [...document.querySelectorAll("[data-schedule]")];
  const has = (p) => p.gantt.schedule.instruction.some((i) => p.gantt.report.instructions[i].nodes.some((n) => p.gantt.report.nodes[n] === node));
  const panel = panels.find((p) => !p.hidden && has(p)) || panels.find(has);
  if (!panel) return;
  document.querySelector(`[data-entry="${panel.dataset.schedule}"]`)?.click();
  panel.applyFilter(node);
  document.getElementById("schedule").scrollIntoView();
}

// -- the rest ---------------------------------------------------------------------------------------------------------

function setUpFloorPlan(shown, host) {
  const { report } = shown;
  const legend = host.querySelector(".legend");
  let chosen = -1;
  const choose = (layer) => {
    chosen = layer === chosen ? -1 : layer;
    shown.floor.highlight(chosen);
    [...legend.children].forEach((li, k) => li.setAttribute("aria-pressed", k === chosen));
  };
  shown.floor = new FloorPlan(host.querySelector(".plot"), report, choose);
  const items = report.floor.layers.map((name, k) => element(
    "li",
    {
      tabindex: "0",
      role: "button",
      "aria-pressed": "false",
      onclick: () => choose(k),
      onkeydown: (e) => (e.key === "Enter" || e.key === " ") && (e.preventDefault(), choose(k)),
    },
    element("i", { style: `background:${shown.floor.colours[k]}` }),
    name,
  ));
  legend.replaceChildren(...items);
}

/** An input that hides the rows of the table it names which lack its words. */
function setUpTableFilter(input) {
  const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
  const count = document.querySelector(`[data-count="${input.dataset.filters}"]`);
  const tell = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((w) => row.textContent.toLowerCase().includes(w));
    count.textContent = `${rows.filter((r) => !r.hidden).length} of ${rows.length}`;
  };
  input.addEventListener("input", tell);
  tell();
}

start();
