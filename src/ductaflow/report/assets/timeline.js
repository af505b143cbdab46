// Who ran when, on which worker: all runs in one picture that can be zoomed, and as tables.

// The times of what is unchanged are those of its last run, in a session before.
const isOfSession = ({ row }) => row.started && !row.earlier && row.status !== "unchanged";

const LANE = 24, AREA = 46; // pixels: of a row, and of the runs at a time
const BAR_HEIGHTS = { error: 20, warning: 16 }; // the worse, the higher: not told by colours alone
const LOW = 12;
const MAX_KNOWN_UPSTREAMS = 100; // of more the row has the first ones only
const TOUCH = 5; // milliseconds: clocks are no better
const FEW_BUILDS = 12; // so many show their flows at first

// A run with its flows, in milliseconds; null without times. Flows that a build kept from a run before are left out.
function runOf(node, root) {
  const begin = Date.parse(node.row.started);
  if (!Number.isFinite(begin)) return null;
  const run = { node, begin, end: begin + 1000 * (node.row.seconds || 0), ready: null, rank: ORDER.indexOf(node.row.status), isMeant: true, flows: [] };
  run.root = root || run;
  run.flows = node.flows.map((flow) => runOf(flow, run.root)).filter((flow) => flow && flow.begin >= begin - 1000).sort((a, b) => a.begin - b.begin);
  return run;
}

const lengthOf = (run) => run.end - run.begin;
const secondsOfAll = (runs) => runs.reduce((total, run) => total + (run.node.row.seconds || 0), 0);

// What every drawing needs of the runs of this session; made when the view is opened.
function sessionRuns() {
  const ran = roots.filter(isOfSession).map((node) => runOf(node, null)).filter(Boolean).sort((a, b) => a.begin - b.begin);
  if (!ran.length) return null;
  const begin = ran[0].begin;
  const end = ran.reduce((latest, run) => Math.max(latest, run.end), begin + 1);
  const ends = new Map(ran.map((run) => [run.node.row.id, run.end]));
  for (const run of ran) {
    const ids = run.node.row.upstreams || [];
    // What reads nothing of this session could have begun with it.
    if (ids.length < MAX_KNOWN_UPSTREAMS) run.ready = Math.min(run.begin, Math.max(begin, ...ids.map((id) => ends.get(id) || begin)));
  }
  const path = criticalPath(ran);
  return { ran, begin, end, span: end - begin, lanes: lanesOf(ran), path: path.length > 1 ? path : [], bySeconds: [...ran].sort((a, b) => lengthOf(b) - lengthOf(a)) };
}

class Timeline {
  constructor() {
    this.element = h("div.timeline-view");
    this.made = false;
    this.drawing = 0;
    this.names = new Map();
    this.shownRows = [];
  }

  // Show the runs of some instances; the others stay in the picture, pale. Return the element that does.
  show(found) {
    if (!this.made) this.make();
    if (!this.all) return this.element;
    const meant = new Set(found);
    for (const run of this.all.ran) run.isMeant = meant.has(run.node);
    this.isFiltered = found.length < roots.length;
    this.fromOptions();
    this.update();
    // Whoever types need not wait for the tables.
    clearTimeout(this.filling);
    if (!this.tables.querySelector("table")) this.fillTables();
    else this.filling = setTimeout(() => this.fillTables(), 150);
    return this.element;
  }

  make() {
    this.made = true;
    this.all = sessionRuns();
    if (!this.all) {
      this.element.append(h("p.empty", "Nothing has run in this session yet."));
      return;
    }
    const { ran, span, lanes, path } = this.all;
    this.builds = ran.filter((run) => run.flows.length);
    this.onPath = new Set(path);
    [this.from, this.to] = [0, span];
    const workers = new Set(lanes.map((lane) => lane.worker || lane.name)).size;
    const busy = ran.reduce((total, run) => total + lengthOf(run), 0);
    this.lead = h("p", plural(ran.length, "run"), " in ", h("strong", duration(span / 1000)), " on ", plural(workers, "worker"),
      "; the workers were busy " + Math.round(100 * busy / (lanes.length * span)) + " % of the time. ",
      path.length ? ["The longest chain of runs that wait for each other takes ", h("strong", duration(secondsOfAll(path))), "."] : null);
    const choice = (name, value, label) => button(label, () => this.choose(name, value), { "data-option": name, "data-value": value });
    this.choices = h("div.choices",
      h("span.choices", { role: "group", "aria-label": "What a row is" }, choice("lanes", "workers", "By worker"), choice("lanes", "runs", "Run by run")),
      this.builds.length ? button("Flows of builds", () => this.choose("flows", this.showsFlows ? "no" : "yes"), { "data-toggle": true }) : null,
      h("span.choices", { role: "group", "aria-label": "Zoom" },
        button("\u2212", () => this.zoom(2), { "aria-label": "Zoom out", title: "Zoom out (-)" }), button("+", () => this.zoom(0.5), { "aria-label": "Zoom in", title: "Zoom in (+)" }),
        this.wholeButton = button("Everything", () => this.look(0, span), { title: "The whole session (0)" })));
    this.axis = h("div.axis", { "aria-hidden": "true" });
    this.area = h("canvas.area", { role: "img" });
    this.canvas = h("canvas.bars", { role: "img" });
    this.mark = h("div.marked", { hidden: true });
    this.most = h("div.most", { "aria-hidden": "true" });
    this.spacer = h("div.spacer", this.canvas);
    this.scroller = h("div.lanes", { tabindex: "0", role: "group", "aria-label": "Timeline", "aria-describedby": "timeline-keys" }, this.spacer);
    this.tip = h("div.tip", { hidden: true, "aria-hidden": "true" });
    this.tables = h("div.tables");
    this.element.append(this.lead, this.choices,
      h("div.timeline", h("div.above", this.most, h("div.plotted", this.area, this.axis)), this.scroller, this.mark, this.tip),
      h("p.legend", { id: "timeline-keys" }, "Drag over a time to zoom in, or Ctrl and the wheel; with the keyboard + and \u2212, the arrows go along, 0 shows everything. ",
        "The worse the status, the higher the bar. Thin and pale before a run: it could have begun and waited. ",
        this.onPath.size ? [h("span.swatch.critical-swatch", { "aria-hidden": "true" }), " outlined: on the longest chain. "] : null),
      this.tables);
    this.listen();
  }

  // --- what the address keeps ---

  get showsFlows() {
    const asked = state.options.get("flows");
    return asked ? asked === "yes" : this.builds.length <= FEW_BUILDS;
  }

  get byRun() { return state.options.get("lanes") === "runs"; }

  fromOptions() {
    const [, from, to] = /^([\d.]+)-([\d.]+)$/.exec(state.options.get("span") || "") || [];
    const span = this.all.span;
    const [begin, end] = [Math.min(1000 * (from || 0), span), Math.min(1000 * (to || Infinity), span)];
    [this.from, this.to] = end > begin ? [begin, end] : [0, span];
  }

  choose(name, value) {
    state.options.set(name, value);
    if (name === "lanes" && value === "workers") state.options.delete(name);
    this.update();
    stateChanged();
  }

  // Show a part of the time, in milliseconds from the first run.
  look(from, to) {
    const { span } = this.all;
    const wide = Math.min(Math.max(to - from, Math.min(span, Math.max(span / 1e5, 2))), span);
    this.from = Math.min(Math.max(from, 0), span - wide);
    this.to = this.from + wide;
    if (wide >= span) state.options.delete("span");
    else state.options.set("span", Number((this.from / 1000).toFixed(3)) + "-" + Number((this.to / 1000).toFixed(3)));
    this.draw();
    stateChanged();
  }

  // Zoom about a place of the picture: 0 is its left end, 1 its right one.
  zoom(factor, place = 0.5) {
    const wide = this.to - this.from;
    const at = this.from + place * wide;
    this.look(at - place * wide * factor, at + (1 - place) * wide * factor);
  }

  go(part) {
    const by = part * (this.to - this.from);
    this.look(Math.min(Math.max(this.from + by, 0), this.all.span - (this.to - this.from)), Math.min(Math.max(this.to + by, this.to - this.from), this.all.span));
  }

  // --- rows ---

  update() {
    for (const element of this.choices.querySelectorAll("[data-option]")) {
      element.setAttribute("aria-pressed", String((state.options.get(element.dataset.option) || "workers") === element.dataset.value));
    }
    const toggle = this.choices.querySelector("[data-toggle]");
    if (toggle) toggle.setAttribute("aria-pressed", String(this.showsFlows));
    this.rows = this.byRun ? this.rowsOfRuns() : this.rowsOfWorkers();
    this.spacer.style.height = this.rows.length * LANE + "px";
    for (const element of this.names.values()) element.remove();
    this.names.clear();
    this.draw();
  }

  rowsOfWorkers() {
    return this.all.lanes.flatMap((lane) => {
      const rows = [{ key: "lane " + lane.name, name: lane.name, runs: lane.runs, depth: 0 }];
      let below = this.showsFlows ? lane.runs.flatMap((run) => run.flows) : [];
      for (let depth = 1; below.length; depth += 1) {
        packed(below).forEach((runs, index) => rows.push({ key: "lane " + lane.name + " " + depth + "." + index, name: "", runs, depth }));
        below = below.flatMap((run) => run.flows);
      }
      return rows;
    });
  }

  rowsOfRuns() {
    const rows = [];
    const add = (run, depth) => {
      const isOpen = run.flows.length > 0 && (this.showsFlows || state.expanded.has(run.node.key));
      rows.push({ key: run.node.key, name: run.node.row.id, node: run.node, runs: [run], depth, isOpen, opens: run.flows.length > 0 && !this.showsFlows });
      if (isOpen) for (const flow of run.flows) add(flow, depth + 1);
    };
    for (const run of this.all.ran) if (run.isMeant) add(run, 0);
    return rows;
  }

  toggle(node) {
    if (!state.expanded.delete(node.key)) state.expanded.add(node.key);
    tree.show(tree.found);
    this.update();
    stateChanged();
    this.drawNow();
    const again = this.names.get(node.key);
    if (again) again.querySelector("button").focus({ preventScroll: true });
  }

  // --- drawing ---

  draw() {
    if (!this.drawing) this.drawing = requestAnimationFrame(() => { this.drawing = 0; this.drawNow(); });
  }

  drawNow() {
    const room = innerWidth < 640 ? [56, 116] : [110, 230];
    const left = room[Number(this.byRun)];
    this.element.style.setProperty("--names", left + "px");
    const width = this.scroller.clientWidth - left;
    if (width <= 0) return; // another view is on the screen
    this.width = width;
    const [first, last] = this.placeNames();
    const colours = coloursOf(this.element);
    this.drawAxis(width);
    this.drawArea(width, colours);
    const high = Math.min(this.scroller.clientHeight, this.rows.length * LANE);
    const pen = penOf(this.canvas, width, high);
    pen.translate(0, -this.scroller.scrollTop);
    const scale = width / (this.to - this.from);
    const x = (time) => (time - this.all.begin - this.from) * scale;
    pen.fillStyle = colours.line;
    const step = stepOf(this.to - this.from, width);
    for (let mark = Math.ceil(this.from / step) * step; mark <= this.to; mark += step) pen.fillRect(Math.round((mark - this.from) * scale), first * LANE, 1, (last - first) * LANE);
    let drawn = 0;
    for (let index = first; index < last; index += 1) drawn += this.drawRow(pen, this.rows[index], index * LANE, x, colours);
    const outside = this.rows.length > last - first ? "; the rows on the screen" : "";
    this.canvas.setAttribute("aria-label", plural(drawn, "run") + " from " + markText(this.from) + " to " + markText(this.to) + outside + ". The tables below have the same runs.");
    this.wholeButton.disabled = this.from <= 0 && this.to >= this.all.span;
  }

  drawRow(pen, { runs, depth }, top, x, colours) {
    const { width } = this;
    if (!depth) {
      pen.fillStyle = colours.line;
      pen.fillRect(0, top, width, 1);
    }
    const start = placeIn(runs, (run) => x(run.end) >= 0);
    const seen = runs.slice(start, placeIn(runs, (run) => x(run.begin) > width));
    const middle = top + LANE / 2;
    this.drawWaiting(pen, seen, runs[start - 1], middle, x, colours);
    if (seen.length > width / 4) this.drawDense(pen, seen, middle, x, colours);
    else this.drawBars(pen, seen, middle, x, colours);
    return seen.length;
  }

  // From when a run could have begun; on a worker, as far as it was not busy with another one.
  drawWaiting(pen, seen, runBefore, middle, x, colours) {
    let before = runBefore;
    pen.globalAlpha = 0.35;
    for (const run of seen) {
      const from = this.byRun || !before ? run.ready : Math.max(run.ready, before.end);
      before = run;
      const wide = run.ready === null ? 0 : x(run.begin) - x(from);
      if (wide < 1) continue;
      pen.fillStyle = run.root.isMeant ? colours[run.node.row.status] : colours.edge;
      pen.fillRect(x(from), middle - 2, wide, 4);
    }
    pen.globalAlpha = 1;
  }

  drawBars(pen, seen, middle, x, colours) {
    const { width } = this;
    // What matters most is drawn last: runs may share a pixel.
    for (const run of [...seen].sort((a, b) => a.root.isMeant - b.root.isMeant || b.rank - a.rank)) {
      const { status } = run.node.row;
      const high = BAR_HEIGHTS[status] || LOW;
      const [begin, end] = [Math.max(x(run.begin), -4), Math.min(x(run.end), width + 4)];
      // A gap of a part of a pixel tells neighbours apart, as long as there is room for it.
      const wide = Math.max(end - begin - (end - begin > 3 ? 0.75 : 0), 1);
      pen.fillStyle = run.root.isMeant ? colours[status] : colours.line;
      pen.fillRect(begin, middle - high / 2, wide, high);
      if (this.onPath.has(run)) outline(pen, begin, wide, middle, high, colours);
      if (run.root.isMeant && wide > 44 && !this.byRun) {
        pen.fillStyle = colours.card;
        fillName(pen, run.node.row.id, Math.max(begin, 0) + 4, middle, wide + Math.min(begin, 0) - 8);
      }
    }
  }

  // Of thousands of runs the worst one of each pixel, in as few rectangles as there are changes.
  drawDense(pen, seen, middle, x, colours) {
    const pixels = new Uint8Array(Math.ceil(this.width)); // 0 is nothing, 1 not meant, then the better ranks first
    const most = ORDER.length + 1;
    for (const run of seen) {
      const value = run.root.isMeant ? most - run.rank : 1;
      const until = Math.min(Math.max(Math.floor(x(run.end)), Math.floor(x(run.begin)) + 1), pixels.length);
      for (let pixel = Math.max(Math.floor(x(run.begin)), 0); pixel < until; pixel += 1) if (pixels[pixel] < value) pixels[pixel] = value;
    }
    for (let begin = 0, end = 0; begin < pixels.length; begin = end) {
      while (end < pixels.length && pixels[end] === pixels[begin]) end += 1;
      if (!pixels[begin]) continue;
      const status = ORDER[most - pixels[begin]];
      const high = BAR_HEIGHTS[status] || LOW;
      pen.fillStyle = status ? colours[status] : colours.line;
      pen.fillRect(begin, middle - high / 2, end - begin, high);
    }
    for (const run of seen) {
      if (this.onPath.has(run)) outline(pen, Math.max(x(run.begin), -4), x(run.end) - x(run.begin), middle, BAR_HEIGHTS[run.node.row.status] || LOW, colours);
    }
  }

  drawAxis(width) {
    const step = stepOf(this.to - this.from, width);
    const marks = [];
    for (let mark = Math.ceil(this.from / step) * step; mark <= this.to; mark += step) {
      const element = h("span", markText(mark));
      const place = (mark - this.from) / (this.to - this.from);
      element.style.left = 100 * place + "%";
      element.style.transform = place < 0.04 ? "none" : place > 0.95 ? "translateX(-100%)" : "";
      marks.push(element);
    }
    this.axis.replaceChildren(...marks);
    this.axis.style.width = width + "px";
  }

  // How many ran at a time: the most within each pixel.
  drawArea(width, colours) {
    this.changes ||= this.all.ran.flatMap((run) => [{ run, time: run.begin, change: 1 }, { run, time: Math.max(run.begin, run.end - TOUCH), change: -1 }]).sort((a, b) => a.time - b.time || a.change - b.change);
    this.counts ||= countsOf(this.changes);
    const meant = this.isFiltered ? countsOf(this.changes.filter(({ run }) => run.isMeant)) : null;
    const pen = penOf(this.area, width, AREA);
    const most = this.counts.reduce((high, [, count]) => Math.max(high, count), 1);
    for (const [counts, colour, alpha] of [[this.counts, meant ? colours.edge : colours.unchanged, meant ? 0.35 : 0.8], [meant || [], colours.unchanged, 0.9]]) {
      pen.fillStyle = colour;
      pen.globalAlpha = alpha;
      const scale = (this.to - this.from) / width;
      let at = placeIn(counts, ([time]) => time > this.all.begin + this.from) - 1;
      for (let pixel = 0; pixel < width; pixel += 1) {
        const until = this.all.begin + this.from + (pixel + 1) * scale;
        let high = at >= 0 ? counts[at][1] : 0;
        while (at + 1 < counts.length && counts[at + 1][0] < until) high = Math.max(high, counts[at += 1][1]);
        if (high) pen.fillRect(pixel, AREA - (AREA - 2) * high / most, 1, AREA);
      }
    }
    pen.globalAlpha = 1;
    this.most.textContent = "up to " + most + " at a time";
    this.area.setAttribute("aria-label", "How many ran at a time: up to " + most);
  }

  // The names of the rows on the screen, which may be opened. Return which rows those are.
  placeNames() {
    const top = this.scroller.scrollTop;
    const first = Math.max(0, Math.floor(top / LANE));
    const last = Math.min(this.rows.length, Math.ceil((top + this.scroller.clientHeight) / LANE));
    const wanted = new Set();
    for (let index = first; index < last; index += 1) {
      const row = this.rows[index];
      wanted.add(row.key);
      if (!this.names.has(row.key)) this.names.set(row.key, this.spacer.appendChild(this.nameOf(row)));
      this.names.get(row.key).style.top = index * LANE + "px";
    }
    for (const [key, element] of this.names) {
      if (wanted.has(key) || element.contains(document.activeElement)) continue;
      element.remove();
      this.names.delete(key);
    }
    return [first, last];
  }

  nameOf(row) {
    const element = h("div.lane-name",
      row.opens ? button("", () => this.toggle(row.node), { class: "opener", "aria-expanded": String(row.isOpen), "aria-label": "Flows of " + row.name }) : null,
      row.node ? button(shortName(row.name), () => openNode(row.node), { class: "link" }) : row.name);
    element.style.setProperty("--depth", row.depth);
    if (!row.node) element.title = row.name;
    return element;
  }

  // --- mouse, fingers, keys ---

  // The run at a place of the picture; a pixel of many runs has the last one.
  runAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const row = this.rows[Math.floor((event.clientY - box.top + this.scroller.scrollTop) / LANE)];
    if (!row) return null;
    const scale = (this.to - this.from) / this.width;
    const time = this.all.begin + this.from + (event.clientX - box.left) * scale;
    const after = placeIn(row.runs, (run) => run.begin > time);
    const near = [row.runs[after - 1], row.runs[after]].filter((run) => run && run.begin - 3 * scale <= time && time <= run.end + 3 * scale);
    return near.find((run) => run.begin <= time && time <= run.end) || near[0] || null;
  }

  listen() {
    const { canvas, scroller, tip, mark } = this;
    let pressed = null;
    const placeOf = (event) => Math.min(Math.max((event.clientX - canvas.getBoundingClientRect().left) / this.width, 0), 1);
    const dragged = (event) => pressed && Math.abs(event.clientX - pressed.x) > 4;
    const drag = (event) => {
      const [a, b] = [pressed.place, placeOf(event)].sort((one, other) => one - other);
      const frame = mark.parentElement.getBoundingClientRect();
      const box = canvas.getBoundingClientRect();
      mark.hidden = false;
      mark.style.left = box.left - frame.left + a * this.width + "px";
      mark.style.width = (b - a) * this.width + "px";
      return [a, b];
    };
    for (const area of [canvas, this.area]) {
      area.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        pressed = { x: event.clientX, place: placeOf(event) };
        area.setPointerCapture(event.pointerId);
      });
      area.addEventListener("pointerup", (event) => {
        if (!pressed) return;
        const wide = this.to - this.from;
        const run = area === canvas && !dragged(event) ? this.runAt(event) : null;
        const [a, b] = dragged(event) ? drag(event) : [0, 0];
        pressed = null;
        mark.hidden = true;
        if (run) openNode(run.node);
        else if (b > a) this.look(this.from + a * wide, this.from + b * wide);
      });
      area.addEventListener("pointercancel", () => { pressed = null; mark.hidden = true; });
      area.addEventListener("wheel", (event) => {
        const along = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
        if (event.ctrlKey || event.metaKey) this.zoom(1.002 ** event.deltaY, placeOf(event));
        else if (Math.abs(along) > Math.abs(event.shiftKey ? 0 : event.deltaY) && this.to - this.from < this.all.span) this.go(along / this.width);
        else return;
        event.preventDefault();
      }, { passive: false });
    }
    this.area.addEventListener("pointermove", (event) => { if (dragged(event)) drag(event); });
    canvas.addEventListener("pointermove", (event) => {
      if (dragged(event)) { tip.hidden = true; drag(event); return; }
      const run = this.runAt(event);
      canvas.style.cursor = run ? "pointer" : "crosshair";
      tip.hidden = !run;
      if (!run) return;
      tip.replaceChildren(...this.tipOf(run));
      const frame = tip.parentElement.getBoundingClientRect();
      tip.style.left = Math.max(0, Math.min(event.clientX - frame.left + 14, frame.width - tip.offsetWidth - 4)) + "px";
      tip.style.top = event.clientY - frame.top + 18 + "px";
    });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    scroller.addEventListener("scroll", () => { tip.hidden = true; this.draw(); }, { passive: true });
    scroller.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const zoomed = this.to - this.from < this.all.span;
      const does = {
        "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), 0: () => this.look(0, this.all.span),
        ...zoomed ? { ArrowLeft: () => this.go(-0.2), ArrowRight: () => this.go(0.2) } : {},
      }[event.key];
      if (!does) return;
      does();
      announce("From " + markText(this.from) + " to " + markText(this.to));
      event.preventDefault();
    });
    new ResizeObserver(() => this.draw()).observe(scroller);
    for (const medium of ["(prefers-color-scheme: dark)", "print"]) matchMedia(medium).addEventListener("change", () => this.drawNow());
  }

  tipOf({ node, begin, end, ready }) {
    const { row } = node;
    const waited = ready === null ? 0 : (begin - ready) / 1000;
    return [h("strong", wayTo(node)), h("span.s-" + row.status, badge(row.status), " " + duration(row.seconds)),
      h("span", markText(begin - this.all.begin) + " to " + markText(end - this.all.begin) + (row.worker ? " on " + row.worker : "")),
      waited >= 0.01 ? h("span", "waited " + duration(waited)) : null].filter(Boolean);
  }

  // --- tables ---

  fillTables() {
    const { bySeconds, path } = this.all;
    const runs = bySeconds.filter((run) => run.isMeant);
    const which = runs.length < bySeconds.length ? runs.length.toLocaleString("en") + " of " + plural(bySeconds.length, "run") + " shown" : "All runs";
    this.tables.replaceChildren(...[flowTable(runs), path.length && path.some((run) => run.isMeant) ? runTable("The longest chain, in order", path) : null,
      runs.length ? runTable(which + ", the slowest first", runs) : h("p.empty", "Nothing of what the search shows has run in this session.")].filter(Boolean));
  }
}

// --- helpers of the drawing ---------------------------------------------------------------------------------

// In a sorted list the first place that fits; its length if none does.
function placeIn(sorted, fits) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (fits(sorted[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

// Runs in as few rows as have room for them, none over another.
function packed(runs) {
  const rows = [];
  for (const run of [...runs].sort((a, b) => a.begin - b.begin)) {
    const row = rows.find((one) => one[one.length - 1].end <= run.begin + TOUCH);
    if (row) row.push(run);
    else rows.push([run]);
  }
  return rows;
}

// From which moment how many ran, of sorted changes.
function countsOf(changes) {
  let count = 0;
  return changes.map(({ time, change }) => [time, count += change]);
}

function outline(pen, begin, wide, middle, high, colours) {
  pen.strokeStyle = colours.text;
  pen.lineWidth = 1.5;
  pen.strokeRect(begin + 0.5, middle - high / 2 - 1, Math.max(wide - 1, 2), high + 2);
}

// A canvas of a size in pixels of the page, empty, as sharp as the screen.
function penOf(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  [canvas.style.width, canvas.style.height] = [width + "px", height + "px"];
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  return pen;
}

// The colours of the page, which a canvas does not take from the style by itself.
function coloursOf(element) {
  const style = getComputedStyle(element);
  return Object.fromEntries([...ORDER, "text", "card", "line", "edge"].map((name) => [name, style.getPropertyValue("--" + name).trim()]));
}

function fillName(pen, text, x, y, room) {
  let shownText = text;
  while (shownText && pen.measureText(shownText + "\u2026").width > room) shownText = shownText.slice(0, -Math.max(1, shownText.length >> 3));
  if (pen.measureText(text).width <= room) pen.fillText(text, x, y);
  else if (shownText.length > 3) pen.fillText(shownText + "\u2026", x, y);
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400].map((step) => 1000 * step)];

// Milliseconds between the marks of a time axis: a round number, as many as there is room for.
function stepOf(span, width) {
  const most = Math.min(Math.max(width / 110, 2), 10);
  return STEPS.find((step) => span / step <= most) || Math.ceil(span / most / 86400000) * 86400000;
}

// A time from the first run, exact to the millisecond.
const markText = (milliseconds) => roundDuration(Number((milliseconds / 1000).toFixed(3)));

// For each worker as many lanes as its runs overlapped; runs without a known worker share lanes.
function lanesOf(ran) {
  const workers = new Map();
  for (const run of ran) {
    const worker = run.node.row.worker || "";
    if (!workers.has(worker)) workers.set(worker, []);
    const lanes = workers.get(worker);
    let lane = lanes.find((candidate) => candidate.until <= run.begin + TOUCH);
    if (!lane) {
      const number = lanes.length + 1;
      const more = number > 1 ? worker + " (" + number + ")" : worker;
      lane = { name: worker ? more : "at a time " + number, worker, runs: [], until: 0 };
      lanes.push(lane);
    }
    lane.runs.push(run);
    lane.until = run.end;
  }
  const unknownOnes = workers.get("") || [];
  workers.delete("");
  const named = [...workers.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  return [...named.flatMap((worker) => workers.get(worker)), ...unknownOnes];
}

// The chain of runs, each reading from the one before, that takes longest.
function criticalPath(ran) {
  const byId = new Map(ran.map((run) => [run.node.row.id, run]));
  const best = new Map();
  for (const run of ran) { // an upstream starts before what reads from it
    let before = null;
    for (const id of run.node.row.upstreams || []) {
      const upstream = byId.get(id);
      if (upstream && best.has(upstream) && (!before || best.get(upstream).length > best.get(before).length)) before = upstream;
    }
    best.set(run, { length: (run.node.row.seconds || 0) + (before ? best.get(before).length : 0), before });
  }
  let last = null;
  for (const [run, found] of best) if (!last || found.length > best.get(last).length) last = run;
  const path = [];
  for (let run = last; run; run = best.get(run).before) path.unshift(run);
  return path;
}

// --- tables -------------------------------------------------------------------------------------------------

const SOME = 20; // rows of a table at first

const tableOf = (title, names, body, more = null) => h("section.table", h("h2", title), region("div.scroll", title, h("table.runs", headOf(names), body)), more);

// Where the time goes: flows by the sum of their runs, also of those inside builds.
function flowTable(runs) {
  if (!runs.length) return null;
  const flows = new Map();
  const add = (run) => {
    const { flow, kind } = run.node.row;
    if (!flows.has(flow)) flows.set(flow, { flow, kind, runs: [] });
    flows.get(flow).runs.push(run);
    run.flows.forEach(add);
  };
  runs.forEach(add);
  const lines = [...flows.values()].map((one) => ({ ...one, sum: secondsOfAll(one.runs), slowest: one.runs.reduce((a, b) => (lengthOf(b) > lengthOf(a) ? b : a)) })).sort((a, b) => b.sum - a.sum);
  const stored = new Set(runs.map(({ node }) => node.row.flow)); // what only builds run is no instance of its own
  const hasBuilds = lines.some(({ kind }) => kind === "build");
  return h("div", tableOf("By flow", ["Flow", "Runs", "Sum", "Median", "Slowest", "Which"], h("tbody", lines.map(({ flow, kind, runs: own, sum, slowest }) => h("tr",
    h("td", stored.has(flow) ? button(flow, () => search("flow:" + asValue(flow)), { class: "link", title: "List its instances" }) : flow, kind === "build" ? h("span.tag", "build") : null),
    h("td.number", own.length.toLocaleString("en")), h("td.number", duration(sum)), h("td.number", duration(median(own.map(({ node }) => node.row.seconds || 0)))),
    h("td.number", duration(slowest.node.row.seconds)), h("td.which", button(wayTo(slowest.node), () => openNode(slowest.node), { class: "link" })))))),
  hasBuilds ? h("p.legend", "The time of a build has that of its flows in it.") : null);
}

function runTable(title, runs) {
  const names = ["Instance", "Status", "Took", ...runs.some(({ node }) => node.row.worker) ? ["Worker"] : [], "Started"];
  const cells = {
    Instance: ({ id }, node) => h("td", button(id, () => openNode(node), { class: "link" })), Status: ({ status }) => h("td.s-" + status, badge(status)),
    Took: ({ seconds }) => h("td.number", duration(seconds)), Worker: ({ worker }) => h("td", worker || ""), Started: ({ started }) => h("td.moment", moment(started)),
  };
  const line = ({ node }) => h("tr", names.map((name) => cells[name](node.row, node)));
  const body = h("tbody", runs.slice(0, SOME).map(line));
  return tableOf(title, names, body, runs.length > SOME ? restButton("Show all " + plural(runs.length, "run"), body, () => runs.slice(SOME).map(line)) : null);
}
