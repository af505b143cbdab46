// The table view: what the search shows of one flow, as a table, a grid of two parameters, or a plot.

const ALL_FLOWS = "*";

// A list of keys of columns in the address, and back; `-key` is what is hidden.
const keysText = (keys) => keys.map((key) => encodeURIComponent(key).replace(/^-/, "%2D").replace(/'/g, "%27")).join(",");
const keysOf = (text) => (text || "").split(",").map((key) => { try { return decodeURIComponent(key); } catch (broken) { return key; } });

class TableView {
  constructor() {
    this.found = [];
    this.rows = []; // as they are shown
    this.known = new Map(); // columns by flow
    Object.assign(this, { columns: new Map(), chosen: new Map(), byItself: new Set(), shown: [] });
    this.sheet = new Sheet({ chosen: openNode, narrowed: narrow, sortedBy: (column) => this.sortBy(column) });
    this.flows = h("select", { id: "table-flow", change: () => this.set("flow", this.flows.value) });
    this.modes = h("div.choices", { role: "group", "aria-label": "How the instances are shown" },
      [["table", "Table"], ["grid", "Grid"], ["plot", "Plot"]].map(([mode, title]) => button(title, () => this.setMode(mode), { "data-mode": mode })));
    this.menu = h("details.menu", h("summary", "Columns"), h("div.menu-body"));
    this.copy = this.copyMenu();
    this.axes = h("div.axes");
    this.body = h("div.table-body");
    this.said = h("p.note", { id: "cells-keys" });
    this.flowLabel = h("span.field", h("label", { for: "table-flow" }, "Flow"), this.flows);
    this.nothing = h("p.empty", "Nothing matches. ", button("Show everything", () => reset()));
    this.content = h("div.table-content", h("div.table-tools", this.flowLabel, this.modes, this.axes, this.menu, this.copy), this.body, this.said);
    this.element = h("div.table-view", this.nothing, this.content);
    for (const menu of [this.menu, this.copy]) closeByItself(menu);
    this.menu.addEventListener("toggle", () => { if (this.menu.open) this.fillMenu(); });
    this.grid = new GridOfTwo({ chosen: openNode, narrowed: narrow });
    this.plot = new Plot({ chosen: openNode });
  }

  get mode() { return state.options.has("plot") ? "plot" : state.options.has("grid") ? "grid" : "table"; }

  set(name, value) {
    if (value === "" || value === null) state.options.delete(name);
    else state.options.set(name, value);
    this.show(this.found);
    stateChanged();
  }

  setMode(mode) {
    asStep(() => {
      state.options.delete("grid");
      state.options.delete("plot");
      if (mode !== "table") state.options.set(mode, "");
      this.show(this.found);
    });
  }

  // --- which rows and columns ---

  // The flow whose instances are shown: the one asked for if there is any, or the one with most rows that have metrics, or most rows.
  flowOf(counts) {
    const asked = state.options.get("flow");
    if (counts.has(asked) || (asked === ALL_FLOWS && counts.size > 1)) return asked;
    let best = null;
    for (const [flow, count] of counts) if (!best || count.metrics > best.metrics || (count.metrics === best.metrics && count.all > best.all)) best = { flow, ...count };
    return best ? best.flow : null;
  }

  columnsFor(flow) {
    if (!this.known.has(flow)) this.known.set(flow, columnsOf(roots.filter(({ row }) => flow === ALL_FLOWS || row.flow === flow)));
    return this.known.get(flow);
  }

  // What is shown unless a person chose otherwise: parameters that differ, metrics, what it took. Of all flows, what two of them have.
  isShownByItself(column, rows) {
    const some = () => rows.some((node) => column.of(node) !== undefined);
    if (this.flow === ALL_FLOWS && column.group !== "run") {
      const having = new Set();
      for (const node of rows) if (!having.has(node.row.flow) && column.of(node) !== undefined) having.add(node.row.flow);
      if (having.size < 2) return false;
    }
    // A single row differs from the others of its flow.
    const among = rows.length > 1 ? rows : roots.filter(({ row }) => row.flow === rows[0].row.flow);
    if (column.group === "parameter") return some() && (state.options.has("same") || differs(column, among, ({ row }) => Boolean(row.parameters) && this.flow !== ALL_FLOWS));
    if (column.group === "metric") return some();
    if (column.key === "warnings") return rows.some((node) => column.of(node) > 0);
    return (column.key === "seconds" || column.key === "memory") && some();
  }

  show(found) {
    this.found = found;
    const counts = new Map();
    for (const { row } of found) {
      const count = counts.get(row.flow) || { all: 0, metrics: 0 };
      count.all += 1;
      if (row.metrics) count.metrics += 1;
      counts.set(row.flow, count);
    }
    this.flow = this.flowOf(counts);
    this.fillFlows(counts);
    const of = this.flow === ALL_FLOWS ? found : found.filter(({ row }) => row.flow === this.flow);
    this.columns = this.flow === null ? new Map() : this.columnsFor(this.flow);
    const choices = keysOf(state.options.get("cols"));
    this.chosen = new Map(choices.filter(Boolean).map((key) => (key.startsWith("-") ? [key.slice(1), false] : [key, true])));
    this.byItself = new Set(!of.length ? [] : [...this.columns.values()].filter((column) => this.isShownByItself(column, of)).map(({ key }) => key));
    this.shown = [STATUS_COLUMN, NAME_COLUMN, ...[...this.columns.values()].filter(({ key }) => this.isShown(key))];
    const sort = this.sortOf();
    this.rows = sort ? sorted(of, ...sort) : of;
    this.draw();
    return this.element;
  }

  isShown(key) { return this.chosen.has(key) ? this.chosen.get(key) : this.byItself.has(key); }

  sortOf() {
    const [key] = keysOf((state.options.get("sort") || "").replace(/^-/, ""));
    const column = [STATUS_COLUMN, NAME_COLUMN].find((one) => one.key === key) || this.columns.get(key);
    return column ? [column, state.options.get("sort").startsWith("-")] : null;
  }

  sortBy(column) {
    const [sort, down] = this.sortOf() || [];
    const now = sort === column && !down;
    announce("Sorted by " + column.title + (now ? ", descending" : ", ascending"));
    this.set("sort", (now ? "-" : "") + keysText([column.key]));
  }

  // --- drawing ---

  fillFlows(counts) {
    const known = JSON.stringify([...counts]);
    if (known === this.flowsFilled) { this.flows.value = this.flow || ""; return; }
    this.flowsFilled = known;
    const options = [...counts].sort(([a], [b]) => a.localeCompare(b, "en"));
    const all = options.length > 1 ? [h("option", { value: ALL_FLOWS }, "all flows")] : [];
    this.flows.replaceChildren(...options.map(([flow, count]) => h("option", { value: flow }, flow + " (" + count.all.toLocaleString("en") + ")")), ...all);
    this.flows.value = this.flow || "";
    this.flowLabel.hidden = options.length < 2;
  }

  draw() {
    const { mode } = this;
    for (const element of this.modes.children) element.setAttribute("aria-pressed", String(element.dataset.mode === mode));
    this.content.hidden = !this.rows.length;
    this.nothing.hidden = !this.content.hidden;
    if (this.content.hidden) return;
    this.menu.hidden = mode !== "table";
    if (this.menu.open) this.fillMenu();
    const view = { table: this.sheet, grid: this.grid, plot: this.plot }[mode];
    if (this.body.firstChild !== view.element) this.body.replaceChildren(view.element);
    if (mode === "table") {
      const [sort, down] = this.sortOf() || [];
      this.axes.replaceChildren();
      this.sheet.show(this.rows, this.shown, sort ? [sort.key, down] : null, this.flow !== ALL_FLOWS);
      this.sayKeys();
    } else {
      view.show(this.rows, this.columns, keysOf(state.options.get(mode)), (keys) => this.set(mode, keysText(keys)), this.axes);
      this.said.textContent = "";
    }
  }

  // Whether only the rows on the screen exist.
  get isVirtual() { return this.mode === "table" && this.rows.length > MAX_REAL; }

  // To the next row or the one before.
  along(by) {
    if (this.mode !== "table" || !this.rows.length) return;
    this.sheet.grid.focus({ preventScroll: true });
    this.sheet.step(by);
  }

  focus() {
    (this.body.querySelector("[tabindex='0']") || this.modes.firstChild).focus({ preventScroll: true });
  }

  // An instance was opened or closed.
  mark() {
    if (this.mode === "table") this.sheet.mark();
    else if (this.mode === "plot") this.plot.drawSoon();
  }

  sayKeys() {
    const moved = this.shown.some((column) => column.moved && this.rows.some(column.moved));
    this.said.textContent = (moved ? SIGNS.up + " and " + SIGNS.down + ": more and less than in the last good run before. " : "")
      + "Press a head to sort, a value to search for it, a status or a name to open it; arrow keys move, Enter presses."
      + (this.rows.length > MAX_REAL ? " The browser's own search finds what is on the screen; the search above finds all." : "");
  }

  // --- menus ---

  fillMenu() {
    const focused = document.activeElement && document.activeElement.dataset.column;
    const only = h("input", { type: "checkbox", "data-column": "only what differs" });
    only.checked = !state.options.has("same");
    only.addEventListener("change", () => this.set("same", only.checked ? "" : "1"));
    const body = this.menu.lastChild;
    body.replaceChildren(h("label", only, " Only parameters that differ"),
      this.chosen.size ? button("As it was", () => this.set("cols", ""), { class: "all" }) : "",
      ...GROUPS.map(([group, title]) => {
        const columns = [...this.columns.values()].filter((column) => column.group === group);
        return columns.length ? h("fieldset", h("legend", title), columns.map((column) => {
          const box = h("input", { type: "checkbox", "data-column": column.key });
          box.checked = this.isShown(column.key);
          box.addEventListener("change", () => this.choose(column.key, box.checked));
          return h("label", box, " " + column.title);
        })) : "";
      }));
    const again = focused && [...body.querySelectorAll("input")].find(({ dataset }) => dataset.column === focused);
    if (again) again.focus();
  }

  choose(key, on) {
    const chosen = new Map(this.chosen);
    if (on === this.byItself.has(key)) chosen.delete(key);
    else chosen.set(key, on);
    this.set("cols", [...chosen].map(([one, shown]) => (shown ? "" : "-") + keysText([one])).join(","));
  }

  copyMenu() {
    const ids = () => this.rows.map(({ row }) => row.id);
    const nodeids = () => this.rows.filter(({ row }) => row.nodeid);
    const name = () => (head.project || "scenarios") + "-" + (this.flow === ALL_FLOWS ? "all" : this.flow) + ".csv";
    const csv = () => csvOf(this.rows, this.shown);
    return h("details.menu", h("summary", "Copy"), h("div.menu-body",
      copyButton(() => markdownOf(this.rows, this.shown), "As a Markdown table"),
      copyButton(csv, "As CSV"),
      button("Download as CSV", () => download(csv(), name(), "text/csv;charset=utf-8"), { class: "copy" }),
      copyButton(() => idsOfAll(nodeids()), "Node ids"),
      copyButton(() => ids().join("\n"), "Ids")));
  }
}

// A menu closes with Escape, and when a person goes elsewhere.
function closeByItself(menu) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("pointerdown", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("focusout", (event) => { if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false; });
}

// A select of columns; `none` is the title of a choice of nothing.
function columnSelect(label, columns, key, changed, none = null) {
  const id = "choice-" + label.toLowerCase();
  const select = h("select", { id, change: () => changed(select.value) }, none === null ? null : h("option", { value: "" }, none),
    GROUPS.map(([group, title]) => {
      const own = columns.filter((column) => column.group === group);
      return own.length ? h("optgroup", { label: title }, own.map((column) => h("option", { value: column.key }, column.title))) : null;
    }));
  select.value = key;
  return h("span.field", h("label", { for: id }, label), select);
}
