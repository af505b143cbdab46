// The rows of the table: a grid that keys move in. Up to MAX_REAL rows all exist, so that the browser's search finds them.

const LINE = 28; // pixels, as in table.css
const MORE = 4; // rows above and below those on the screen
const CHUNK = 60; // rows that are made at a time while nobody waits
const MAX_WIDTH = 300; // pixels of a column
const MAX_MEASURED = 200; // differences whose width is looked at
const MIN_HEIGHT = 320; // pixels of the sheet, with its head

class Sheet {
  // chosen(node), narrowed(term), sortedBy(column, whether by how much it moved): what a press does.
  constructor({ chosen, narrowed, sortedBy }) {
    Object.assign(this, { chosen, narrowed, sortedBy, rows: [], columns: [], made: new Map(), elements: new Map(), filled: 0, drawn: "", measures: new Map(), pen: document.createElement("canvas").getContext("2d"), active: null, at: null, printing: false });
    this.head = h("thead", { role: "rowgroup" });
    this.body = h("tbody", { role: "rowgroup" });
    this.grid = h("table.cells", { role: "grid", id: "cells", tabindex: "0", "aria-label": "Instances and their values", "aria-describedby": "cells-keys" }, this.head, this.body);
    this.element = h("div.cells-box", this.grid);
    this.outer = edged(this.element, this.grid);
    this.scrolled = 0;
    this.element.addEventListener("scroll", () => {
      this.scrolled = this.element.scrollTop;
      // Cells that stay are a layer each for the browser: only where they have to stay.
      this.grid.classList.toggle("shifted", this.element.scrollLeft > 0);
      this.draw();
    }, { passive: true });
    new ResizeObserver(() => this.fit()).observe(document.body);
    addEventListener("resize", () => { this.room = null; this.draw(); });
    this.grid.addEventListener("click", (event) => this.click(event));
    this.grid.addEventListener("keydown", (event) => this.key(event));
    this.grid.addEventListener("focus", () => { if (!this.at && this.rows.length) this.moveTo(0, 1, false); });
    for (const [moment, printing] of [["beforeprint", true], ["afterprint", false]]) {
      addEventListener(moment, () => { this.printing = printing; this.drawn = ""; this.draw(); });
    }
  }

  // The height that rows have on the screen, and how far they are scrolled; asked once, since each question costs a layout.
  space() {
    this.room ??= { height: this.element.clientHeight || innerHeight, width: this.element.clientWidth || innerWidth };
    return { ...this.room, top: Math.min(this.scrolled, Math.max(0, this.rows.length * LINE - this.room.height)) };
  }

  // Show nodes under columns; `sort` is [key, whether downwards] or null; `short`: without the name of the flow.
  show(rows, columns, sort, short) {
    const movers = rows.filter(({ row }) => row.moved);
    const moving = columns.map((column) => Boolean(column.moved) && movers.some((node) => column.moved(node) !== undefined));
    const layout = columns.map(({ key }) => key).join("\n") + short + moving.map(Number).join("");
    if (layout !== this.layout) {
      Object.assign(this, { layout, short, columns, empty: null });
      this.pen.font = "600 13px " + getComputedStyle(document.body).fontFamily;
      this.sizes = columns.map((column, index) => this.measure(column, rows, moving[index]));
      this.made.clear();
      for (const element of this.elements.values()) element.remove();
      this.elements.clear();
      this.applyWidths();
    }
    this.columns = columns;
    this.rows = rows;
    this.places = new Map(rows.map((node, index) => [node, index]));
    this.sort = sort;
    this.filled = 0;
    this.drawn = "";
    this.grid.setAttribute("aria-rowcount", rows.length + 1);
    this.body.style.height = rows.length * LINE + "px";
    this.body.dataset.rest = rows.length > MAX_PRINTED ? plural(rows.length - MAX_PRINTED, "more row") : "";
    this.fillHead();
    if (this.at && !(this.at.node === null || this.places.has(this.at.node))) this.at = null;
    if (this.at && !columns.some(({ key }) => key === this.at.key)) this.at.key = "instance";
    this.draw();
    this.fillLater();
  }

  // As high as the screen leaves room for below it, so that its own scroll bars are seen.
  fit() {
    this.room = null;
    if (!this.element.offsetParent) return;
    if (this.sizes) this.applyWidths();
    const top = this.element.getBoundingClientRect().top + scrollY;
    this.element.style.maxHeight = Math.max(MIN_HEIGHT, innerHeight - Math.min(top, innerHeight / 2) - 40) + "px";
  }

  fillHead() {
    const [key, down] = this.sort || [];
    const filled = this.layout + "\n" + key + down;
    if (filled === this.headFilled) return;
    this.headFilled = filled;
    this.head.replaceChildren(h("tr", { role: "row", "aria-rowindex": 1 }, this.columns.map((column, index) => h("th" + (this.sizes[index].right ? ".number" : ""), {
      role: "columnheader", "data-column": column.key, "aria-sort": column.key === key ? (down ? "descending" : "ascending") : "none",
      title: column.title, "aria-label": this.sizes[index].room ? column.title : null,
    }, h("button", { type: "button", tabindex: "-1" }, column.title), this.sizes[index].room ? this.changeButton(column, key, down) : null))));
  }

  // Sorts by how much a metric moved.
  changeButton(column, key, down) {
    const on = key === MOVED + column.name;
    return h("button.by-change", { type: "button", tabindex: "-1", "aria-pressed": String(on), "data-down": on && down, title: "Sort by how much it moved", "aria-label": "Sort by how much " + column.title + " moved" });
  }

  // --- widths ---

  // What is known of a column's texts: its width in pixels, that of its longest text in letters, and whether numbers are in it.
  measure(column, rows, moving) {
    const key = column.key + "\n" + this.short + moving;
    if (!this.measures.has(column)) this.measures.set(column, new Map());
    const known = this.measures.get(column);
    if (known.has(key)) return known.get(key);
    const every = Math.max(1, Math.floor(rows.length / 200));
    const found = { width: 0, longest: 0, right: false, room: 0 };
    let widest = "";
    for (let index = 0; index < rows.length; index += every) {
      const text = this.textOf(column, rows[index], false);
      if (text.length > widest.length) widest = text;
      found.right ||= column.group !== "own" && isNumeric(column.of(rows[index]));
    }
    found.longest = widest.length;
    const [value, title] = [widest, column.title].map((text) => this.pen.measureText(text).width);
    found.width = Math.ceil(Math.min(Math.max(value, title + 22, 24) + 22, MAX_WIDTH));
    if (moving) {
      // Differences stand in a room of their own, so that the numbers before them stay in line.
      this.pen.font = "13px " + getComputedStyle(document.body).fontFamily;
      const wide = (text) => Math.ceil(this.pen.measureText(text).width);
      const texts = roots.filter(({ row }) => row.moved).flatMap((node) => { const moved = column.moved(node); return moved === undefined ? [] : [[movementText(moved), percentText(moved, column.of(node))]]; }).slice(0, MAX_MEASURED);
      found.room = Math.max(...texts.map(([text]) => wide(text)));
      found.share = Math.max(...texts.map(([, text]) => wide(" (" + text + ")")));
      found.space = this.pen.measureText(" ").width;
      found.width = Math.ceil(Math.min(Math.max(value + found.space + found.room, title + 30) + 22, MAX_WIDTH));
      this.pen.font = "600 " + this.pen.font;
    }
    known.set(key, found);
    return found;
  }

  applyWidths() {
    // Per cent as well where there is room for them.
    const needed = this.sizes.reduce((sum, { width, share = 0 }) => sum + width + share, 0);
    this.isRoomy = needed < this.space().width;
    this.grid.classList.toggle("roomy", this.isRoomy);
    this.sizes.forEach(({ room, share, space }, index) => {
      if (!room) return;
      const most = room + (this.isRoomy ? share : 0);
      this.grid.style.setProperty("--moved-" + index, most + "px");
      this.grid.style.setProperty("--unmoved-" + index, most + space + 10 + "px");
    });
    this.grid.style.setProperty("--columns", this.sizes.map(({ width, share }, index) => (index === 0 ? "var(--status-width)" : index === 1 ? "min(" + width + "px, var(--name-most))" : width + (this.isRoomy && share ? share : 0) + "px")).join(" "));
  }

  // `whole`: with how much it moved.
  textOf(column, node, whole = true) {
    if (column === NAME_COLUMN) return this.nameOf(node);
    return whole || column.of(node) === undefined ? cellText(column, node) : column.text(column.of(node));
  }

  nameOf({ row: { id, flow } }) {
    return this.short && id.startsWith(flow + "/") ? id.slice(flow.length + 1) : id;
  }

  // --- drawing ---

  draw() {
    if (state.view !== "table" && !this.printing) return; // another view is on the screen
    const isReal = this.rows.length <= MAX_REAL;
    const { top, height } = this.space();
    let first = Math.max(0, Math.floor(top / LINE) - MORE);
    let last = Math.max(0, Math.min(this.rows.length, Math.ceil((top + height) / LINE) + MORE));
    if (this.printing) [first, last] = [0, Math.min(this.rows.length, MAX_PRINTED)];
    const filled = isReal ? this.filled : 0;
    const all = filled >= this.rows.length;
    const active = this.at && this.at.node ? this.places.get(this.at.node) : -1;
    const drawn = (all ? "all" : [first, last, filled].join("|")) + "|" + active + "|" + (this.at && this.at.key) + "|" + state.id;
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const wanted = [];
    for (let index = 0; index < filled; index += 1) wanted.push(index);
    // The active row always exists: screen readers refer to it.
    if (active >= filled && active < first) wanted.push(active);
    for (let index = Math.max(first, filled); index < last; index += 1) wanted.push(index);
    if (active >= Math.max(last, filled)) wanted.push(active);
    this.place(wanted, isReal);
    this.mark();
  }

  place(wanted, keep) {
    const kept = new Map();
    let widened = false;
    for (const index of wanted) {
      const node = this.rows[index];
      let element = this.elements.get(node.key) || this.made.get(node.key);
      if (!element) {
        element = this.row(node);
        widened = this.widen(node) || widened;
        if (keep) this.made.set(node.key, element);
      }
      element.style.top = index * LINE + "px";
      element.setAttribute("aria-rowindex", index + 2);
      element.classList.toggle("odd", index % 2 === 1);
      kept.set(node.key, element);
    }
    for (const [key, element] of this.elements) if (!kept.has(key)) element.remove();
    this.elements = kept;
    let next = this.body.firstChild;
    for (const element of kept.values()) {
      if (element === next) next = next.nextSibling;
      else this.body.insertBefore(element, next);
    }
    if (widened) this.applyWidths();
  }

  widen(node) {
    let widened = false;
    this.columns.forEach((column, index) => {
      const known = this.sizes[index];
      const { length } = this.textOf(column, node, false);
      if (length <= known.longest || known.width >= MAX_WIDTH) return;
      known.width = Math.min(MAX_WIDTH, Math.ceil(known.width + 8 * (length - known.longest)));
      known.longest = length;
      widened = true;
    });
    return widened;
  }

  fillLater() {
    cancelIdleCallback(this.idle);
    if (this.rows.length > MAX_REAL || this.filled >= this.rows.length) return;
    this.idle = requestIdleCallback(() => {
      this.filled = Math.min(this.rows.length, this.filled + CHUNK);
      this.draw();
      this.fillLater();
    }, { timeout: 300 });
  }

  row(node) {
    // A copy of an empty row costs less than its cells one by one.
    this.empty ||= h("tr", { role: "row" }, this.columns.map((column) => (column === NAME_COLUMN ? h("th", { role: "rowheader" }) : h("td", { role: "gridcell" }))));
    const element = this.empty.cloneNode(true);
    element.className = "s-" + node.row.status;
    element.dataset.key = node.key;
    let cell = element.firstChild;
    for (const [index, column] of this.columns.entries()) {
      this.fill(cell, column, node, index);
      cell = cell.nextSibling;
    }
    return element;
  }

  fill(cell, column, node, index) {
    if (column === STATUS_COLUMN) { cell.append(badgeOf(node.row)); return; }
    if (column === NAME_COLUMN) { cell.textContent = this.nameOf(node); cell.title = node.row.id + (node.row.message ? "\n" + node.row.message : ""); return; }
    const value = column.of(node);
    if (value === undefined) { cell.className = "none"; return; }
    const moved = column.moved ? column.moved(node) : undefined;
    if (isNumeric(value)) cell.className = "number";
    cell.textContent = column.text(value);
    const { room } = this.sizes[index];
    if (moved !== undefined) {
      const share = percentText(moved, value);
      const made = h("span.moved", movementText(moved), share ? h("span.share", " (" + share + ")") : null);
      made.style.minWidth = "var(--moved-" + index + ")";
      cell.append(" ", made);
      cell.title = value + "; " + (value - moved) + " in the last good run" + (share ? ", " + share : "");
      return;
    }
    if (room && isNumeric(value)) cell.style.paddingRight = "var(--unmoved-" + index + ")";
    if (column.group === "moved" && node.row.metrics) cell.title = percentText(value, memberOf("metrics", column.name)(node));
    else if (cell.textContent.length > 12 || (typeof value === "number" && String(value) !== cell.textContent)) cell.title = String(value);
  }

  // Which row is opened, and where the keys are.
  mark() {
    for (const [key, element] of this.elements) element.setAttribute("aria-selected", String(key === state.id));
    if (this.active) { this.active.removeAttribute("id"); this.active.removeAttribute("data-active"); }
    this.active = this.at ? this.cellAt(this.at.node, this.at.key) : null;
    if (this.active) {
      this.active.id = "active-cell";
      this.active.setAttribute("data-active", "");
      this.grid.setAttribute("aria-activedescendant", "active-cell");
    } else this.grid.removeAttribute("aria-activedescendant");
  }

  cellAt(node, key) {
    const column = this.columns.findIndex((one) => one.key === key);
    const line = node === null ? this.head.firstChild : this.elements.get(node.key);
    return line ? line.children[column] : null;
  }

  // --- keys and presses ---

  // Row -1 is the head.
  moveTo(row, column, reveal = true) {
    const place = Math.min(Math.max(row, -1), this.rows.length - 1);
    const { key } = this.columns[Math.min(Math.max(column, 0), this.columns.length - 1)];
    this.at = { node: place < 0 ? null : this.rows[place], key };
    if (reveal) this.reveal(place, key);
    this.drawn = "";
    this.draw();
  }

  // Scroll so that a cell is seen beside the columns and below the head that stay.
  reveal(row, key) {
    const { element } = this;
    const headHeight = this.head.offsetHeight;
    if (row >= 0) {
      const top = row * LINE;
      if (top < element.scrollTop) element.scrollTop = top;
      else if (top + LINE + headHeight > element.scrollTop + element.clientHeight) element.scrollTop = top + LINE + headHeight - element.clientHeight;
    }
    const cells = [...this.head.firstChild.children];
    const index = this.columns.findIndex((one) => one.key === key);
    if (index < 2) return;
    const stays = cells[0].offsetWidth + cells[1].offsetWidth;
    const left = cells.slice(0, index).reduce((total, cell) => total + cell.offsetWidth, 0);
    if (left - stays < element.scrollLeft) element.scrollLeft = left - stays;
    else if (left + cells[index].offsetWidth > element.scrollLeft + element.clientWidth) element.scrollLeft = left + cells[index].offsetWidth - element.clientWidth;
  }

  // How far it is scrolled, and where the keys are.
  where() {
    const { at, element } = this;
    return { top: element.scrollTop, left: element.scrollLeft, cell: at && [at.node && at.node.key, at.key] };
  }

  goBack({ top, left, cell }) {
    this.element.scrollTo({ top, left });
    if (cell && this.places && (cell[0] === null || this.places.has(byKey.get(cell[0])))) this.at = { node: cell[0] === null ? null : byKey.get(cell[0]), key: cell[1] };
    this.drawn = "";
    this.draw();
  }

  step(by) {
    this.goTo((this.at && this.at.node ? this.places.get(this.at.node) : -1) + by, this.at ? this.columns.findIndex(({ key }) => key === this.at.key) : 1);
  }

  // The panel follows from row to row while it is open.
  goTo(row, column) {
    this.moveTo(row, column);
    if (state.id && this.at.node && this.at.node.key !== state.id) this.chosen(this.at.node, true);
  }

  // `byChange`: of a head, by how much the metric moved.
  press(node, key, byChange = false) {
    const column = this.columns.find((one) => one.key === key);
    if (node === null) { this.sortedBy(column, byChange && this.sizes[this.columns.indexOf(column)].room > 0); return; }
    const value = column.of(node);
    if (!column.term) this.chosen(node);
    else if (value !== undefined) this.narrowed(column.term(value));
  }

  click(event) {
    const cell = event.target.closest("th, td");
    if (!cell || String(getSelection())) return;
    const line = cell.parentElement;
    const node = line.dataset.key === undefined ? null : byKey.get(line.dataset.key);
    const { key } = this.columns[cell.cellIndex];
    this.at = { node, key };
    this.press(node, key, Boolean(event.target.closest(".by-change")));
    this.drawn = "";
    this.draw();
  }

  key(event) {
    if (event.altKey || event.metaKey || !this.columns.length) return;
    const row = this.at && this.at.node ? this.places.get(this.at.node) : -1;
    const column = this.at ? this.columns.findIndex(({ key }) => key === this.at.key) : 1;
    const page = Math.max(1, Math.floor(this.element.clientHeight / LINE) - 2);
    const [ends, starts] = event.ctrlKey ? [[this.rows.length - 1, this.columns.length - 1], [0, 0]] : [[row, this.columns.length - 1], [row, 0]];
    const steps = {
      ArrowDown: [row + 1, column], ArrowUp: [row - 1, column], ArrowRight: [row, column + 1], ArrowLeft: [row, column - 1],
      Home: starts, End: ends, PageDown: [row + page, column], PageUp: [Math.max(0, row - page), column],
    };
    if (Object.hasOwn(steps, event.key)) {
      this.goTo(...steps[event.key]);
    } else if (event.ctrlKey || !this.at || (event.key !== "Enter" && event.key !== " ")) return;
    else this.press(this.at.node, this.at.key, event.shiftKey);
    event.preventDefault();
  }
}
