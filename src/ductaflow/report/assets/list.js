// The instances as a tree; builds open to their flows. Up to some number of rows all of them are in the page, so that
// the browser's own search finds them; of more only those on the screen.

const MAX_REAL = 1500; // rows
const FIRST = 60; // rows that are made at once
const MAX_PRINTED = 2000;
const SLICE = 250; // rows that are made at a time, so that a key does not wait for all of them
const HEIGHTS = { compact: 36, comfortable: 60 }; // pixels, as in list.css

// --- order --------------------------------------------------------------------------------------------------

const NAMES = new Intl.Collator("en", { numeric: true });
const causeNumber = (node) => causesOf.get(node.row.id);
// How the list can be sorted: what a person reads, the value that is compared, and whether the largest comes first.
const SORTS = {
  status: { told: "Status" },
  name: { told: "Name", of: ({ row }) => row.id, compare: NAMES.compare },
  seconds: { told: "Seconds", of: ({ row }) => row.seconds || undefined, down: true },
  started: { told: "Started", of: ({ row }) => row.started || undefined },
  cause: { told: "Cause", of: causeNumber },
};

const orders = new Map();
// All instances in an order; those without a value come last, and what is alike stays in the order of attention.
function inOrder({ sort, reversed }) {
  const key = sort + reversed;
  if (!orders.has(key)) orders.set(key, sortedBy(SORTS[sort], reversed));
  return orders.get(key);
}

function sortedBy({ of, compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0), down = false }, reversed) {
  if (!of) return reversed ? [...roots].reverse() : roots;
  const way = down === reversed ? 1 : -1;
  const valued = roots.filter((node) => of(node) !== undefined);
  return [...valued.sort((a, b) => way * compare(of(a), of(b))), ...roots.filter((node) => of(node) === undefined)];
}

// What stands above instances with the same cause, or with none and the same status.
function groupOf(node) {
  const number = causeNumber(node);
  const cause = head.causes[number - 1];
  return cause ? { key: "cause " + number, status: node.row.status, said: cause.title || CAUSE[cause.cause] || "no message" }
    : { key: "status " + node.row.status, status: node.row.status, said: wordOf(node.row.status) };
}

const TAG = 92; // pixels of a tag with its gap, about
// About as wide as most names are, with their tags and without, in pixels: messages begin there. What is longer moves its own.
const widthsOfNames = once(() => {
  const most = (widths) => Math.ceil(widths.sort((a, b) => a - b)[Math.ceil(0.95 * (widths.length - 1))]);
  const bare = ({ row }) => 9.6 * row.id.length;
  const tagged = (node) => bare(node) + TAG * ((node.row.kind === "build" && node.row.flows ? 1 : 0) + (node.row.warnings ? 1 : 0));
  return { "--names": most(roots.map(tagged)), "--bare-names": most(roots.map(bare)) };
});

// --- tree ---------------------------------------------------------------------------------------------------

class Tree {
  // state: what is opened, active and expanded; opened(node): called when a row is chosen.
  constructor(element, state, chosen, expandedChanged) {
    Object.assign(this, { element, state, chosen, expandedChanged, found: [], rows: [], lines: [], active: null, drawn: "", printing: false, density: "compact", ready: 0, timer: 0, elements: new Map(), made: new Map() });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("click", (event) => this.click(event));
    element.addEventListener("focus", () => { if (!this.active && this.rows.length) this.activate(this.rows[0], false); });
    addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("resize", () => this.draw());
    for (const [moment, printing] of [["beforeprint", true], ["afterprint", false]]) {
      addEventListener(moment, () => { this.printing = printing; this.show(this.found); });
    }
  }

  get height() { return HEIGHTS[this.density]; }

  // Whether only rows on the screen exist.
  get isVirtual() { return !this.printing && this.lines.length > MAX_REAL; }

  setDensity(density) {
    this.density = density;
    this.element.dataset.density = density;
    for (const [name, width] of Object.entries(widthsOfNames())) this.element.style.setProperty(name, width + "px");
    this.show(this.found);
  }

  // Show some top-level instances, with the flows of those that are expanded; on paper that is all.
  show(found) {
    this.found = found;
    this.rows = [];
    this.lines = [];
    const add = (node, position, all) => {
      node.position = position + 1;
      node.siblings = all.length;
      this.rows.push(node);
      this.lines.push(node);
      if (node.flows.length && this.isOpen(node)) node.flows.forEach((flow, index) => add(flow, index, node.flows));
    };
    let group = null;
    found.forEach((node, index) => {
      if (this.state.sort === "cause") {
        const own = groupOf(node);
        if (!group || group.key !== own.key) this.lines.push(group = { ...own, count: 0 });
        group.count += 1;
      }
      add(node, index, found);
    });
    if (this.active && !this.rows.includes(this.active)) this.active = null;
    this.element.classList.toggle("virtual", this.isVirtual);
    this.element.style.height = this.lines.length * this.height + "px";
    this.element.dataset.rest = this.lines.length > MAX_PRINTED ? plural(this.lines.length - MAX_PRINTED, "more row") : "";
    this.drawn = "";
    this.ready = 0;
    this.draw();
    clearTimeout(this.timer);
    if (!this.isVirtual && this.ready < this.lines.length) this.timer = setTimeout(() => this.makeReady(), 120);
  }

  // What is below the screen, in pieces.
  makeReady() {
    this.ready += SLICE;
    this.draw();
    if (this.ready < this.lines.length) this.timer = setTimeout(() => this.makeReady());
  }

  isOpen(node) { return this.printing || this.state.expanded.has(node.key); }

  draw() {
    if (!this.element.offsetParent && !this.printing && this.rows.length) return; // another view is on the screen
    const top = -this.element.getBoundingClientRect().top;
    let first = Math.max(0, Math.floor(top / this.height) - 6);
    // not below 0, though the list may lie far below the screen
    let last = Math.max(0, Math.min(this.lines.length, Math.ceil((top + innerHeight) / this.height) + 6));
    if (this.printing) [first, last] = [0, Math.min(this.lines.length, MAX_PRINTED)];
    else if (!this.isVirtual) [first, last] = [0, this.ready = Math.min(Math.max(last, this.ready, FIRST), this.lines.length)];
    const active = this.active ? this.lines.indexOf(this.active) : -1;
    const drawn = [first, last, this.active && this.active.key, this.state.id, this.printing].join("|");
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const wanted = [];
    // The active row always exists: screen readers refer to it.
    if (active >= 0 && active < first) wanted.push(active);
    for (let index = first; index < last; index += 1) wanted.push(index);
    if (active >= last) wanted.push(active);
    this.place(wanted);
    if (this.active) this.element.setAttribute("aria-activedescendant", "row-" + this.active.number);
    else this.element.removeAttribute("aria-activedescendant");
  }

  // A row that stays is not touched: one that was taken out between press and release would not be clicked.
  place(wanted) {
    const kept = new Map();
    for (const index of wanted) {
      const line = this.lines[index];
      const element = this.elements.get(line.key) || this.made.get(line.key) || (line.row ? this.row(line) : this.group());
      kept.set(line.key, element);
      this.update(element, line, index);
    }
    for (const [key, element] of this.elements) if (!kept.has(key)) element.remove();
    this.elements = kept;
    if (this.isVirtual) this.made.clear();
    else {
      // Rows that a search takes away are likely to come back with the next key.
      if (this.made.size > 2 * MAX_REAL) this.made.clear();
      for (const [key, element] of kept) this.made.set(key, element);
    }
    let next = this.element.firstChild;
    for (const element of kept.values()) {
      if (element === next) next = next.nextSibling;
      else this.element.insertBefore(element, next);
    }
  }

  update(element, line, index) {
    const top = this.isVirtual ? index * this.height + "px" : "";
    if (element.style.top !== top) element.style.top = top;
    if (!line.row) {
      const said = line.said + " (" + line.count.toLocaleString("en") + ")";
      if (element.textContent !== said) element.textContent = said;
      element.className = "group s-" + line.status;
      return;
    }
    const attributes = {
      "aria-posinset": line.position, "aria-setsize": line.siblings, "aria-selected": this.state.id === line.key,
      "aria-expanded": line.flows.length ? this.isOpen(line) : null, "aria-checked": this.state.compared.has(line.key),
    };
    const told = Object.values(attributes).join("|") + (line === this.active);
    if (element.told === told) return;
    element.told = told;
    for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, String(value));
    element.toggleAttribute("data-active", line === this.active);
  }

  group() { return h("div.group"); }

  row(node) {
    const { row } = node;
    const element = h("div.row.s-" + row.status, { role: "treeitem", id: "row-" + node.number, "data-key": node.key, "aria-level": node.depth + 1 },
    h("span.twisty", { "aria-hidden": "true", "data-twisty": node.flows.length > 0 }),
    badgeOf(row),
    h("span.what",
      h("span.line", h("span.name", shortName(row.id)), h("span.tags", this.tags(node))),
      row.message ? h("span.message", row.message) : null),
    h("span.time", pastDots(node), h("span.took", duration(row.seconds)), h("span.pick", { "aria-hidden": "true", title: "Compare (x)" })));
    element.style.setProperty("--depth", node.depth);
    return element;
  }

  tags(node) {
    const { row } = node;
    return [
      isNew(node) ? h("span.tag.new", "new") : null,
      pastTags(node),
      row.kind === "build" && row.flows ? h("span.tag", plural(row.flows.length, "flow")) : null,
      row.warnings ? h("span.tag.warn", plural(row.warnings, "warning")) : null,
      row.fails ? h("span.tag.new", "fails its test") : null,
      storedTags(row),
      (row.tags || []).slice(0, 3).map((tag) => h("span.tag", tag)),
    ];
  }

  toggle(node, wanted) {
    if (!node.flows.length) return;
    const { expanded } = this.state;
    const open = wanted === undefined ? !expanded.has(node.key) : wanted;
    if (open) expanded.add(node.key);
    else expanded.delete(node.key);
    this.show(this.found);
    this.expandedChanged();
  }

  activate(node, scroll = true) {
    this.active = node;
    if (scroll) this.reveal(node);
    this.draw();
  }

  // The row that is so many rows away from the active one, or from the opened one.
  along(by) {
    const at = this.rows.indexOf(this.active || byKey.get(this.state.id));
    return this.rows[Math.min(Math.max(at + by, 0), this.rows.length - 1)];
  }

  // Scroll so that a row is seen.
  reveal(node) {
    const index = this.lines.indexOf(node);
    if (index < 0) return;
    const at = this.element.getBoundingClientRect().top + index * this.height;
    const margin = document.querySelector(".top").offsetHeight + 34;
    if (at < margin) scrollBy(0, at - margin);
    else if (at + this.height > innerHeight - 20) scrollBy(0, at + this.height - innerHeight + 20);
  }

  click(event) {
    const element = event.target.closest("[role=treeitem]");
    if (!element || String(getSelection())) return;
    const node = byKey.get(element.dataset.key);
    this.active = node;
    if (event.shiftKey || event.target.closest(".pick")) { toggleCompared(node); this.draw(); return; }
    if (event.target.closest("[data-twisty]")) { this.toggle(node); return; }
    this.chosen(node);
    this.draw();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(innerHeight / this.height) - 3);
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity, PageDown: page, PageUp: -page };
    if (event.key in steps) {
      if (this.rows.length) {
        this.activate(this.along(steps[event.key]));
        if (this.state.id) this.chosen(this.active, true);
      }
    } else if (this.active && (event.key === "Enter" || event.key === " ")) {
      this.chosen(this.active);
      this.draw();
    } else if (this.active && event.key === "ArrowRight") {
      if (this.active.flows.length && !this.state.expanded.has(this.active.key)) this.toggle(this.active, true);
      else if (this.active.flows.length) this.activate(this.active.flows[0]);
    } else if (this.active && event.key === "ArrowLeft") {
      if (this.state.expanded.has(this.active.key)) this.toggle(this.active, false);
      else if (this.active.parent) this.activate(this.active.parent);
    } else {
      return;
    }
    event.preventDefault();
  }
}
