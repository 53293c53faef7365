"use strict";

// The chips: tiles around the routers of their mesh, each with its crossbars, coloured by the layer whose weights they
// hold.

class FloorPlan {
  constructor(host, report, onLayer) {
    this.report = report;
    this.floor = report.floor;
    this.onLayer = onLayer;
    this.canvas = host.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.hover = null;
    this.layer = -1;
    this.held = this.holders();
    this.colours = layerColours(report);
    this.canvas.addEventListener("pointermove", (e) => this.onMove(e));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", () => this.onLayer(this.hover ? this.floor.groups[this.hover.group].layer : -1));
    this.resize();
    new ResizeObserver(() => this.resize()).observe(host);
  }

  /** Crossbar -> [group, place within it]. */
  holders() {
    const held = new Map();
    this.floor.groups.forEach((group, g) => {
      let place = 0;
      for (const [first, count] of group.runs) for (let c = first; c < first + count; c++) held.set(c, [g, place++]);
    });
    return held;
  }

  resize() {
    const f = this.floor;
    const ratio = window.devicePixelRatio || 1;
    this.width = this.canvas.parentElement.clientWidth;
    this.perTile = f.macros_per_tile * f.crossbars_per_macro;
    this.used = this.chipsInUse();
    const across = Math.ceil(Math.sqrt(f.tiles_per_router));
    const down = Math.ceil(f.tiles_per_router / across);
    const routers = Math.ceil(f.tiles_per_chip / f.tiles_per_router);
    const columns = Math.min(f.mesh_columns, routers) * across;
    const rows = Math.ceil(routers / f.mesh_columns) * down;
    this.grid = { across, columns, rows };
    this.side = this.used.length > 1 ? 2 : 1; // chips beside each other
    const room = (this.width - 24 * (this.side + 1)) / this.side;
    this.cell = Math.max(1, Math.min(this.side > 1 ? 7 : 4, Math.floor((room / columns - 6) / f.macros_per_tile)));
    this.tile = { w: f.macros_per_tile * this.cell + 6, h: f.crossbars_per_macro * this.cell + 6 };
    this.chip = { w: columns * this.tile.w + 10, h: rows * this.tile.h + 34 };
    this.height = 12 + Math.ceil(this.used.length / this.side) * (this.chip.h + 12);
    this.canvas.style.height = `${this.height}px`;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.draw();
  }

  /** Chips that hold something; at least the first. */
  chipsInUse() {
    const per = this.perTile * this.floor.tiles_per_chip;
    const found = new Set([0]);
    for (const c of this.held.keys()) found.add(Math.floor(c / per));
    return [...found].sort((a, b) => a - b);
  }

  /** The corner of a tile. */
  corner(chip, tile) {
    const f = this.floor;
    const place = this.used.indexOf(chip);
    const router = Math.floor(tile / f.tiles_per_router);
    const inner = tile % f.tiles_per_router;
    const column = (router % f.mesh_columns) * this.grid.across + (inner % this.grid.across);
    const row = Math.floor(router / f.mesh_columns) * Math.ceil(f.tiles_per_router / this.grid.across) + Math.floor(inner / this.grid.across);
    const left = Math.max(12, (this.width - this.side * (this.chip.w + 12)) / 2) + (place % this.side) * (this.chip.w + 12);
    const top = 12 + Math.floor(place / this.side) * (this.chip.h + 12);
    return { x: left + 6 + column * this.tile.w, y: top + 26 + row * this.tile.h, left, top };
  }

  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.drawNow();
    });
  }

  drawNow() {
    const [c, f, ink] = [this.context, this.floor, inks()];
    c.clearRect(0, 0, this.width, this.height);
    c.font = "11px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, 'DejaVu Sans', sans-serif";
    c.textBaseline = "middle";
    for (const chip of this.used) {
      const { left, top } = this.corner(chip, 0);
      c.strokeStyle = ink.line;
      c.lineWidth = 1;
      c.strokeRect(left + 0.5, top + 0.5, this.chip.w, this.chip.h);
      c.fillStyle = ink.soft;
      c.textAlign = "left";
      c.fillText(this.caption(chip), left + 8, top + 14);
      for (let tile = 0; tile < f.tiles_per_chip; tile++) this.drawTile(c, ink, chip, tile);
    }
  }

  caption(chip) {
    const per = this.perTile * this.floor.tiles_per_chip;
    const used = [...this.held.keys()].filter((c) => Math.floor(c / per) === chip).length;
    const of = `${used.toLocaleString("en")} of ${per.toLocaleString("en")} crossbars`;
    return this.floor.chips > 1 ? `chip ${chip}: ${of}` : of;
  }

  drawTile(c, ink, chip, tile) {
    const f = this.floor;
    const { x, y } = this.corner(chip, tile);
    c.fillStyle = ink.panel;
    c.fillRect(x, y, this.tile.w - 2, this.tile.h - 2);
    const first = (chip * f.tiles_per_chip + tile) * this.perTile;
    const gap = this.cell > 3 ? 1 : 0;
    for (let k = 0; k < this.perTile; k++) {
      const held = this.held.get(first + k);
      if (!held) continue;
      const { layer } = f.groups[held[0]];
      c.globalAlpha = this.layer < 0 || this.layer === layer ? 1 : 0.15;
      c.fillStyle = this.colours[layer];
      const [column, row] = [Math.floor(k / f.crossbars_per_macro), k % f.crossbars_per_macro];
      c.fillRect(x + 2 + column * this.cell, y + 2 + row * this.cell, this.cell - gap, this.cell - gap);
      if (this.hover && this.hover.group === held[0] && this.replica(held) === this.hover.replica) {
        c.globalAlpha = 1;
        c.fillStyle = ink.ink;
        c.fillRect(x + 2 + column * this.cell + this.cell / 4, y + 2 + row * this.cell + this.cell / 4, this.cell / 2, this.cell / 2);
      }
    }
    c.globalAlpha = 1;
  }

  replica([group, place]) {
    return Math.floor(place / this.floor.groups[group].per_replica);
  }

  /** The crossbar under a point; -1 if there is none. */
  crossbarAt(px, py) {
    const f = this.floor;
    for (const chip of this.used) {
      for (let tile = 0; tile < f.tiles_per_chip; tile++) {
        const { x, y } = this.corner(chip, tile);
        const [column, row] = [Math.floor((px - x - 2) / this.cell), Math.floor((py - y - 2) / this.cell)];
        if (column >= 0 && column < f.macros_per_tile && row >= 0 && row < f.crossbars_per_macro) {
          return (chip * f.tiles_per_chip + tile) * this.perTile + column * f.crossbars_per_macro + row;
        }
      }
    }
    return -1;
  }

  onMove(event) {
    const crossbar = this.crossbarAt(event.offsetX, event.offsetY);
    const held = this.held.get(crossbar);
    this.point(held ? { crossbar, group: held[0], replica: this.replica(held), place: held[1] } : null);
    if (this.hover) this.report.tip.show(this.describe(this.hover), event.clientX, event.clientY);
  }

  point(hover) {
    const same = hover && this.hover && hover.group === this.hover.group && hover.replica === this.hover.replica;
    this.hover = hover;
    if (!hover) this.report.tip.hide();
    if (!same) this.draw();
  }

  describe({ crossbar, group, replica, place }) {
    const f = this.floor;
    const held = f.groups[group];
    const tile = Math.floor(crossbar / this.perTile);
    const macro = Math.floor((crossbar % this.perTile) / f.crossbars_per_macro);
    const where = `crossbar ${crossbar}: tile ${tile}, macro ${macro}`;
    const facts = [
      ["layer", f.layers[held.layer]],
      ["replica", `${replica} of ${held.replicas}, its crossbar ${place % held.per_replica} of ${held.per_replica}`],
      ["weights", `${held.weights.join(" × ")} (matrices × rows × columns)`],
      ["cells in use", `${(100 * held.used).toFixed(1)} %`],
    ];
    return { title: held.name, sub: f.chips > 1 ? `chip ${Math.floor(tile / f.tiles_per_chip)}, ${where}` : where, facts };
  }

  /** Dims all layers but one; -1 shows all. */
  highlight(layer) {
    this.layer = layer;
    this.draw();
  }
}

/** A colour for each layer: distinct ones for a few, an even scale for many. */
function layerColours(report) {
  const count = report.floor.layers.length;
  const { categories, ordered } = report.palette;
  return report.floor.layers.map((_, k) => (count <= categories.length ? categories[k] : mixed(ordered, k / (count - 1))));
}
