// A plot: any two columns on the axes, a third one as colour. All points are on one canvas.

// None is the colour of a status. All are told apart without red, green or blue cones too (a distance of 0.12 in OKLab at
// least), and from the card (3 to 1).
const POINT_COLOURS = {
  light: ["#2299ae", "#43098b", "#bd5bff", "#70771c", "#0406e7", "#963164", "#5e1e00", "#fe387a"],
  dark: ["#26fff9", "#f876fe", "#afc60d", "#0fac97", "#f9fd84", "#ab27f5", "#ce3e00", "#536c95"],
};
const POINT_SCALES = { light: [[158, 197, 244], [11, 47, 107]], dark: [[48, 82, 140], [220, 235, 255]] }; // from low to high
// In a square of 2 around the middle, so that colour is not all that tells points apart.
const POINTS = [
  "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z", "M-.85 -.85H.85V.85H-.85Z", "M0 -1.1L1.05 .8H-1.05Z", "M0 -1.2L1.1 0L0 1.2L-1.1 0Z",
  "M-.4 -1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z", "M0 1.1L1.05 -.8H-1.05Z", "M-1.1 -.4H1.1V.4H-1.1Z", "M-.4 -1.1H.4V1.1H-.4Z",
];
const NEAR_POINT = 16; // pixels between the pointer and the point it means
const isDark = matchMedia("(prefers-color-scheme: dark)");

class Plot {
  constructor({ chosen }) {
    Object.assign(this, { chosen, points: [], active: -1, asked: 0 });
    this.canvas = h("canvas", { role: "img", "aria-label": "Plot" });
    this.tip = h("div.plot-tip", { hidden: true });
    this.frame = h("div.plot-frame", { role: "group", tabindex: "0", id: "plot", "aria-label": "Plot; arrow keys go from point to point, Enter opens one", "aria-describedby": "plot-said" }, this.canvas, this.tip);
    this.legend = h("ul.plot-legend");
    this.said = h("p.note", { id: "plot-said" });
    this.element = h("div", this.frame, this.legend, this.said);
    this.frame.addEventListener("pointermove", (event) => this.point(this.nearest(event)));
    this.frame.addEventListener("pointerleave", () => this.point(-1));
    this.frame.addEventListener("click", (event) => { const at = this.nearest(event); if (at >= 0) { this.point(at); this.chosen(this.points[at].node); } });
    this.frame.addEventListener("keydown", (event) => this.key(event));
    this.frame.addEventListener("blur", () => this.point(-1));
    new ResizeObserver(() => this.drawSoon()).observe(this.frame);
    isDark.addEventListener("change", () => { this.fillLegend(); this.drawSoon(); });
  }

  // `keys`: of x, y and colour, and switches: lines, logx, logy.
  show(rows, columns, keys, changed, axes) {
    const all = [...columns.values()].filter((column) => column.key !== "message" && column.key !== "tags" && rows.some((node) => column.of(node) !== undefined));
    const kinds = new Map(all.map((column) => [column, new Set(rows.map(column.of)).size]));
    const apart = all.filter((column) => kinds.get(column) > 1);
    const numbers = apart.filter((column) => rows.some((node) => isNumeric(column.of(node))));
    const find = (key) => all.find((column) => column.key === key);
    const x = find(keys[0]) || numbers.find(({ group }) => group === "parameter") || apart.find(({ group }) => group === "parameter") || find("started") || all[0];
    const y = find(keys[1]) || numbers.find(({ group, key }) => group === "metric" && key !== x.key) || find("seconds") || numbers[0] || all[0];
    const colour = find(keys[2]) || (keys[2] === "status" ? null : apart.find((column) => column.group === "parameter" && column !== x && kinds.get(column) <= POINTS.length)) || null;
    if (!x || !y) {
      axes.replaceChildren();
      this.points = [];
      this.legend.replaceChildren();
      this.said.textContent = "These instances have no values yet.";
      this.drawSoon();
      return;
    }
    const flags = new Set(keys.slice(3));
    const chosen = [x.key, y.key, colour ? colour.key : "status"];
    const change = (place) => (key) => { const next = [...chosen]; next[place] = key || "status"; changed([...next, ...flags]); };
    const flag = (name, title) => h("label.field", h("input", { type: "checkbox", checked: flags.has(name), change: () => { if (!flags.delete(name)) flags.add(name); changed([...chosen, ...flags]); } }), h("span", title));
    axes.replaceChildren(columnSelect("x", all, x.key, change(0)), columnSelect("y", all, y.key, change(1)), columnSelect("Colour", all, colour ? colour.key : "", change(2), "Status"),
      flag("lines", "Lines"), flag("logx", "log x"), flag("logy", "log y"));
    Object.assign(this, { x: this.scaleOf(x, rows, flags.has("logx")), y: this.scaleOf(y, rows, flags.has("logy")), colour: this.coloursOf(colour, rows), lines: flags.has("lines") });
    this.points = rows.flatMap((node) => {
      const [across, up] = [this.x.place(x.of(node)), this.y.place(y.of(node))];
      return across === undefined || up === undefined ? [] : [{ node, across, up, kind: this.colour.kind(node) }];
    }).sort((a, b) => a.across - b.across || a.up - b.up);
    this.point(-1);
    this.fillLegend();
    this.say(rows);
    this.drawSoon();
  }

  // Where the values of a column lie on an axis: from 0 to 1.
  scaleOf(column, rows, log) {
    const values = rows.map(column.of).filter((value) => value !== undefined && value !== null);
    // A few texts among numbers, such as n/a, are left out.
    if (values.filter(isNumeric).length * 2 < Math.max(values.length, 1)) {
      const texts = [...new Set(sorted(rows, column).map(column.of).filter((value) => value !== undefined && value !== null).map(String))];
      const places = new Map(texts.map((text, index) => [text, (index + 0.5) / texts.length]));
      return { column, texts, place: (value) => (value === undefined || value === null ? undefined : places.get(String(value))), marks: texts.map((text) => [places.get(text), text]), band: 1 / (texts.length || 1) };
    }
    const numbers = values.map(asNumber).filter((number) => number !== undefined && Number.isFinite(number) && (!log || number > 0));
    const way = log ? Math.log10 : (number) => number;
    let [low, high] = [way(numbers.reduce((a, b) => Math.min(a, b), Infinity)), way(numbers.reduce((a, b) => Math.max(a, b), -Infinity))];
    if (!numbers.length) [low, high] = [0, 1];
    const room = (high - low || Math.abs(high) || 1) * 0.05;
    [low, high] = [low - room, high + room];
    const at = (number) => (way(number) - low) / (high - low);
    return { column, log, low, high, at, place: (value) => { const number = asNumber(value); return number === undefined || !Number.isFinite(number) || (log && number <= 0) ? undefined : at(number); } };
  }

  // The marks of an axis, as [place, text], as many as there is room for.
  marksOf(scale, most) {
    if (scale.texts) {
      const every = Math.ceil(scale.marks.length / Math.max(most * 2, 1));
      return scale.marks.filter((_, index) => index % every === 0);
    }
    const { low, high, log, at, column } = scale;
    const text = column.key === "started" ? (value) => new Date(value).toISOString().slice(...(high - low < 86400000 ? [11, 19] : [0, 16])).replace("T", " ") : column.group === "moved" ? (value) => (value > 0 ? "+" : "") + axisNumber(value) : column.text === valueText ? axisNumber : column.text;
    if (log && high - low > 1) {
      const every = Math.ceil((high - low) / most);
      return Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, index) => Math.ceil(low) + index).filter((power) => power % every === 0).map((power) => [at(10 ** power), text(10 ** power)]);
    }
    const [from, to] = log ? [10 ** low, 10 ** high] : [low, high];
    const raw = (to - from) / most;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((one) => one * power >= raw) * power;
    const marks = [];
    for (let count = Math.ceil(from / step); count * step <= to; count += 1) { const value = Number((count * step).toPrecision(12)); marks.push([at(value), text(value)]); }
    return marks;
  }

  // What the colour of a point says: categories with a shape each, or a scale of numbers.
  coloursOf(column, rows) {
    if (!column) {
      const found = ORDER.filter((status) => rows.some(({ row }) => row.status === status));
      return { title: "Status", names: found.map(wordOf), statuses: found, kind: ({ row }) => found.indexOf(row.status) };
    }
    const values = [...new Set(sorted(rows, column).map(column.of))];
    const texts = [...new Set(values.map((value) => (value === undefined ? "none" : valueText(value))))];
    if (texts.length > POINTS.length && values.every((value) => value === undefined || value === null || isNumeric(value))) {
      const numbers = values.map(asNumber).filter((number) => number !== undefined);
      const [low, high] = [numbers.reduce((a, b) => Math.min(a, b)), numbers.reduce((a, b) => Math.max(a, b))];
      return { title: column.title, column, low, high, names: [], kind: (node) => { const number = asNumber(column.of(node)); return number === undefined ? null : (number - low) / (high - low || 1); } };
    }
    const first = texts.length > POINTS.length ? texts.slice(0, POINTS.length - 1) : texts;
    const names = first.length < texts.length ? [...first, plural(texts.length - first.length, "other")] : first;
    const places = new Map(first.map((text, index) => [text, index]));
    return { title: column.title, column, names, kind: (node) => { const value = column.of(node); return places.get(value === undefined ? "none" : valueText(value)) ?? names.length - 1; } };
  }

  paint(kind) {
    const theme = isDark.matches && !this.printing ? "dark" : "light";
    if (this.colour.statuses) return getComputedStyle(document.documentElement).getPropertyValue("--" + this.colour.statuses[kind]).trim();
    if (this.colour.names.length) return POINT_COLOURS[theme][kind % POINT_COLOURS[theme].length];
    if (kind === null) return POINT_COLOURS[theme][0];
    const [low, high] = POINT_SCALES[theme];
    return "rgb(" + low.map((value, index) => Math.round(value + kind * (high[index] - value))).join(",") + ")";
  }

  // --- drawing ---

  drawSoon() {
    cancelAnimationFrame(this.asked);
    this.asked = requestAnimationFrame(() => this.draw());
  }

  draw() {
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight];
    if (!width || !height) return; // not on the screen
    const ratio = devicePixelRatio || 1;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    if (!this.points.length) return;
    const style = getComputedStyle(document.documentElement);
    const [line, muted, text] = ["--line", "--muted", "--text"].map((name) => style.getPropertyValue(name).trim());
    pen.font = "12px " + getComputedStyle(document.body).fontFamily;
    const up = this.marksOf(this.y, Math.max(2, Math.floor(height / 60)));
    const widest = Math.max(...up.map(([, label]) => pen.measureText(shortened(label)).width), 10);
    const box = { left: Math.min(widest + 16, width * 0.35), top: 26, right: width - 14, bottom: height - 44 };
    const across = this.marksOf(this.x, Math.max(2, Math.floor((box.right - box.left) / 90)));
    this.box = box;
    const atX = (place) => box.left + place * (box.right - box.left);
    const atY = (place) => box.bottom - place * (box.bottom - box.top);
    Object.assign(pen, { strokeStyle: line, fillStyle: muted, lineWidth: 1, textAlign: "right", textBaseline: "middle" });
    for (const [place, label] of up) {
      pen.beginPath(); pen.moveTo(box.left, Math.round(atY(place)) + 0.5); pen.lineTo(box.right, Math.round(atY(place)) + 0.5); pen.stroke();
      pen.fillText(shortened(label), box.left - 8, atY(place));
    }
    Object.assign(pen, { textAlign: "center", textBaseline: "top" });
    let taken = -Infinity;
    for (const [place, label] of across) {
      const at = Math.round(atX(place)) + 0.5;
      pen.beginPath(); pen.moveTo(at, box.top); pen.lineTo(at, box.bottom); pen.stroke();
      const half = pen.measureText(shortened(label)).width / 2;
      if (at - half < taken + 6) continue;
      pen.fillText(shortened(label), Math.min(at, width - half - 2), box.bottom + 7);
      taken = at + half;
    }
    Object.assign(pen, { fillStyle: text, font: "600 " + pen.font, textAlign: "left" });
    pen.fillText(this.y.column.title, 4, 4);
    pen.textAlign = "right";
    pen.fillText(this.x.column.title, box.right, height - 17);
    const many = this.points.length > 2000;
    const radius = many ? 3 : 4.5;
    for (const point of this.points) {
      // Points of one category lie beside each other.
      const offset = (scale) => (scale.texts && scale.texts.length < this.points.length && !this.lines ? (point.node.number * 0.61803399 % 1 - 0.5) * 0.4 * scale.band : 0);
      point.px = atX(point.across + offset(this.x));
      point.py = atY(point.up + offset(this.y));
    }
    if (this.lines) this.drawLines(pen, atX, atY);
    const shapes = POINTS.map((shape) => { const path = new Path2D(); path.addPath(new Path2D(shape), { a: radius, d: radius }); return path; });
    const soft = this.colour.names.length ? "" : muted;
    // Marks over each other are all seen: pale inside, with an edge.
    const isSoft = this.colour.names.length > 0;
    for (const point of this.points) {
      pen.setTransform(ratio, 0, 0, ratio, ratio * point.px, ratio * point.py);
      const shape = shapes[isSoft ? point.kind % POINTS.length : 0];
      Object.assign(pen, { fillStyle: this.paint(point.kind), globalAlpha: isSoft ? 0.5 : many ? 0.75 : 0.9 });
      pen.fill(shape);
      if (isSoft) { Object.assign(pen, { globalAlpha: 1, strokeStyle: pen.fillStyle, lineWidth: many ? 1 : 1.5 }); pen.stroke(shape); }
      if (soft) { pen.strokeStyle = soft; pen.lineWidth = 0.5; pen.stroke(shapes[0]); }
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.globalAlpha = 1;
    const ring = (point, wide) => { pen.beginPath(); pen.arc(point.px, point.py, radius + 4, 0, 7); pen.strokeStyle = text; pen.lineWidth = wide; pen.stroke(); };
    for (const point of this.points) if (point.node.key === state.id) ring(point, 2.5);
    if (this.points[this.active]) ring(this.points[this.active], 1.5);
  }

  // A line for each colour, through the mean of each x.
  drawLines(pen, atX, atY) {
    const kinds = new Map();
    for (const { kind, across, up } of this.points) {
      const group = this.colour.names.length ? kind : 0;
      if (!kinds.has(group)) kinds.set(group, new Map());
      const sums = kinds.get(group).get(across) || [0, 0];
      kinds.get(group).set(across, [sums[0] + up, sums[1] + 1]);
    }
    pen.lineWidth = 1.5;
    for (const [kind, means] of kinds) {
      pen.strokeStyle = this.paint(kind);
      pen.beginPath();
      for (const [across, [sum, count]] of means) pen.lineTo(atX(across), atY(sum / count));
      pen.stroke();
    }
  }

  fillLegend() {
    if (!this.points.length) { this.legend.replaceChildren(); return; }
    const swatch = (kind) => { const path = s("path", { d: POINTS[kind % POINTS.length] }); path.style.fill = this.paint(kind); return s("svg", { viewBox: "-1.3 -1.3 2.6 2.6", "aria-hidden": "true" }, path); };
    const { names, title, column, low, high } = this.colour;
    if (!names.length) {
      const bar = h("span.plot-scale", { "aria-hidden": "true" });
      bar.style.background = "linear-gradient(to right, " + this.paint(0) + ", " + this.paint(1) + ")";
      this.legend.replaceChildren(h("li", h("strong", title), " " + column.text(low) + " ", bar, " " + column.text(high)));
      return;
    }
    const counts = names.map((_, kind) => this.points.filter((point) => point.kind === kind).length);
    this.legend.replaceChildren(h("li", h("strong", title)), ...names.map((name, kind) => (counts[kind] ? h("li", swatch(kind), h("span", name), h("span.note", " " + counts[kind].toLocaleString("en"))) : "")));
  }

  // What the plot shows, in words.
  say(rows) {
    const ends = (scale) => {
      const of = scale.column.of;
      if (scale.texts) return scale.column.title + ": " + listed(scale.texts, 8);
      const shown = this.points.map(({ node }) => node);
      if (!shown.length) return scale.column.title;
      const value = (node) => asNumber(of(node));
      const [low, high] = [shown.reduce((a, b) => (value(b) < value(a) ? b : a)), shown.reduce((a, b) => (value(b) > value(a) ? b : a))];
      return scale.column.title + " from " + scale.column.text(value(low)) + " (" + low.row.id + ") to " + scale.column.text(value(high)) + " (" + high.row.id + ")";
    };
    const left = rows.length - this.points.length;
    this.said.textContent = plural(this.points.length, "point") + ". " + ends(this.x) + "; " + ends(this.y) + ". "
      + (left ? plural(left, "instance") + (left === 1 ? " is" : " are") + " left out: no " + this.x.column.title + " or " + this.y.column.title + (this.x.log || this.y.log ? " that is a number above 0" : "") + ". " : "")
      + (this.lines ? "Lines go through the mean of each " + this.x.column.title + ". " : "") + "The table has the same instances.";
    this.canvas.setAttribute("aria-label", this.y.column.title + " by " + this.x.column.title + ", coloured by " + this.colour.title);
  }

  // --- the pointer and the keys ---

  nearest(event) {
    const frame = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    let [best, least] = [-1, NEAR_POINT * NEAR_POINT];
    for (const [index, point] of this.points.entries()) {
      const distance = (point.px - x) ** 2 + (point.py - y) ** 2;
      if (distance < least) [best, least] = [index, distance];
    }
    return best;
  }

  textOf(point) {
    const value = ({ column }) => column.title + " " + (cellText(column, point.node) || "none");
    const same = this.points.filter((other) => other !== point && other.across === point.across && other.up === point.up).length;
    return [point.node.row.id + ", " + statusOf(point.node).word, value(this.x), value(this.y), this.colour.column ? value(this.colour) : "", same ? plural(same, "other") + " at the same place" : ""].filter(Boolean);
  }

  point(index) {
    if (index === this.active) return;
    this.active = index;
    const point = this.points[index];
    this.tip.hidden = !point;
    this.frame.classList.toggle("on-point", Boolean(point));
    if (point) {
      this.tip.replaceChildren(...this.textOf(point).map((text) => h("div", text)));
      this.tip.style.left = Math.min(point.px + 12, this.frame.clientWidth - this.tip.offsetWidth - 4) + "px";
      this.tip.style.top = (point.py + this.tip.offsetHeight + 16 > this.frame.clientHeight ? point.py - this.tip.offsetHeight - 10 : point.py + 12) + "px";
    }
    this.drawSoon();
  }

  key(event) {
    const last = this.points.length - 1;
    const next = { ArrowRight: this.active + 1, ArrowDown: this.active + 1, ArrowLeft: this.active - 1, ArrowUp: this.active - 1, Home: 0, End: last }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || last < 0) return;
    if (next !== undefined) {
      this.point(Math.min(Math.max(next, 0), last));
      announce(this.textOf(this.points[this.active]).join(", "));
    } else if (event.key === "Enter" && this.points[this.active]) this.chosen(this.points[this.active].node);
    else return;
    event.preventDefault();
  }
}

// A number beside an axis, where there is little room.
const axisNumber = (value) => (Math.abs(value) >= 1e6 ? value.toExponential().replace("e+", "e") : numberText(value));
const shortened = (text) => (text.length > 18 ? text.slice(0, 17) + "\u2026" : text);
