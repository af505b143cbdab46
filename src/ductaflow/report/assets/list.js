// The instances as a tree; only visible rows exist, and builds open to their flows.

const ROW = 60; // pixels, as in list.css

class Tree {
  // state: what is opened, active and expanded; opened(node): called when a row is chosen.
  constructor(element, state, chosen, expandedChanged) {
    Object.assign(this, { element, state, chosen, expandedChanged, found: [], rows: [], active: null, drawn: "", printing: false, elements: new Map() });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("click", (event) => this.click(event));
    element.addEventListener("focus", () => { if (!this.active && this.rows.length) this.activate(this.rows[0], false); });
    addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("resize", () => this.draw());
    for (const [moment, printing] of [["beforeprint", true], ["afterprint", false]]) {
      addEventListener(moment, () => { this.printing = printing; this.show(this.found); });
    }
  }

  // Show some top-level instances, with the flows of those that are expanded; on paper that is all.
  show(found) {
    this.found = found;
    this.rows = [];
    const add = (node, position, all) => {
      node.position = position + 1;
      node.siblings = all.length;
      this.rows.push(node);
      if (node.flows.length && this.isOpen(node)) node.flows.forEach((flow, index) => add(flow, index, node.flows));
    };
    found.forEach((node, index) => add(node, index, found));
    if (this.active && !this.rows.includes(this.active)) this.active = null;
    this.element.style.height = this.rows.length * ROW + "px";
    this.element.dataset.rest = this.rows.length > MAX_PRINTED ? plural(this.rows.length - MAX_PRINTED, "more row") : "";
    this.drawn = "";
    this.draw();
  }

  isOpen(node) { return this.printing || this.state.expanded.has(node.key); }

  draw() {
    if (!this.element.offsetParent && !this.printing && this.rows.length) return; // another view is on the screen
    const top = -this.element.getBoundingClientRect().top;
    let first = Math.max(0, Math.floor(top / ROW) - 6);
    // not below 0, though the list may lie far below the screen
    let last = Math.max(0, Math.min(this.rows.length, Math.ceil((top + innerHeight) / ROW) + 6));
    if (this.printing) [first, last] = [0, Math.min(this.rows.length, MAX_PRINTED)];
    const active = this.active ? this.rows.indexOf(this.active) : -1;
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
      const node = this.rows[index];
      kept.set(node.key, this.elements.get(node.key) || this.row(node));
      this.update(kept.get(node.key), node, index);
    }
    for (const [key, element] of this.elements) if (!kept.has(key)) element.remove();
    this.elements = kept;
    let next = this.element.firstChild;
    for (const element of kept.values()) {
      if (element === next) next = next.nextSibling;
      else this.element.insertBefore(element, next);
    }
  }

  update(element, node, index) {
    element.style.top = index * ROW + "px";
    const attributes = {
      "aria-posinset": node.position, "aria-setsize": node.siblings, "aria-selected": this.state.id === node.key,
      "aria-expanded": node.flows.length ? this.isOpen(node) : null,
    };
    for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, String(value));
    element.toggleAttribute("data-active", node === this.active);
  }

  row(node) {
    const { row } = node;
    const element = h("div.row.s-" + row.status, { role: "treeitem", id: "row-" + node.number, "data-key": node.key, "aria-level": node.depth + 1 },
    h("span.twisty", { "aria-hidden": "true", "data-twisty": node.flows.length > 0 }),
    badge(row.status),
    h("span.what",
      h("span.line", h("span.name", shortName(row.id)), h("span.tags", this.tags(node))),
      row.message ? h("span.message", row.message) : null),
    h("span.time", pastDots(node), duration(row.seconds)));
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
      row.orphan ? h("span.tag.orphan", "not stored") : null,
      row.earlier ? h("span.tag.earlier", "earlier result") : null,
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

  // Scroll so that a row is seen.
  reveal(node) {
    const index = this.rows.indexOf(node);
    if (index < 0) return;
    const at = this.element.getBoundingClientRect().top + index * ROW;
    const margin = 90;
    if (at < margin) scrollBy(0, at - margin);
    else if (at + ROW > innerHeight - 20) scrollBy(0, at + ROW - innerHeight + 20);
  }

  click(event) {
    const element = event.target.closest("[role=treeitem]");
    if (!element || String(getSelection())) return;
    const node = byKey.get(element.dataset.key);
    this.active = node;
    if (event.target.closest("[data-twisty]")) { this.toggle(node); return; }
    this.chosen(node);
    this.draw();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.active ? this.rows.indexOf(this.active) : -1;
    const page = Math.max(1, Math.floor(innerHeight / ROW) - 3);
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.rows.length - 1, PageDown: at + page, PageUp: at - page };
    if (event.key in steps) {
      if (this.rows.length) {
        this.activate(this.rows[Math.min(Math.max(steps[event.key], 0), this.rows.length - 1)]);
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
    } else if (event.key === "/") {
      document.getElementById("search").focus();
    } else {
      return;
    }
    event.preventDefault();
  }
}

const MAX_PRINTED = 2000;
