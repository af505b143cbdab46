// The table view: what the search shows of one flow, as a table, a grid of two parameters, or a plot.

const ALL_FLOWS = "*";
const MAX_METRICS = 16; // columns of metrics that are shown of all flows unless a person chose more

// A list of keys of columns in the address, and back; `-key` is what is hidden.
const keysText = (keys) => keys.map((key) => encodeURIComponent(key).replace(/^-/, "%2D").replace(/'/g, "%27")).join(",");
const keysOf = (text) => (text || "").split(",").map((key) => { try { return decodeURIComponent(key); } catch (broken) { return key; } });

class TableView {
  constructor() {
    this.found = [];
    this.rows = []; // as they are shown
    this.known = new Map(); // columns by flow
    Object.assign(this, { columns: new Map(), chosen: new Map(), byItself: new Set(), shown: [] });
    this.sheet = new Sheet({ chosen: openNode, narrowed: narrow, sortedBy: (column, byChange) => this.sortBy(byChange ? this.columns.get(MOVED + column.name) : column) });
    this.flows = h("select", { id: "table-flow", change: () => this.set("flow", this.flows.value) });
    this.modes = h("div.choices", { role: "group", "aria-label": "How the instances are shown" },
      [["table", "Table"], ["grid", "Grid"], ["plot", "Plot"]].map(([mode, title]) => button(title, () => this.setMode(mode), { "data-mode": mode })));
    this.menu = h("details.menu", h("summary", "Columns"), h("div.menu-body"));
    this.copy = this.copyMenu();
    this.moved = movedButton();
    this.axes = h("div.axes");
    this.body = h("div.table-body");
    this.said = h("p.note", { id: "cells-keys" });
    this.flowLabel = h("span.field", h("label", { for: "table-flow" }, "Flow"), this.flows);
    this.nothing = nothingMatches();
    this.content = h("div.table-content", h("div.table-tools", this.flowLabel, this.modes, this.axes, this.menu, this.copy, this.moved), this.body, this.said);
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

  // What is shown unless a person chose otherwise: parameters that differ, metrics, what it took. Of all flows, the parameters that two of them have.
  isShownByItself(column, rows) {
    const some = () => rows.some((node) => column.of(node) !== undefined);
    if (this.flow === ALL_FLOWS && column.group === "parameter") {
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

  // Of too many metrics those that moved, then those that most rows have.
  leaveOut(rows) {
    const metrics = [...this.byItself].map((key) => this.columns.get(key)).filter(({ group }) => group === "metric");
    this.leftOut = 0;
    if (this.flow !== ALL_FLOWS || metrics.length <= MAX_METRICS) return;
    const weights = new Map(metrics.map((column) => [column, rows.filter((node) => column.of(node) !== undefined).length + (rows.some(column.moved) ? rows.length : 0)]));
    const rest = metrics.sort((a, b) => weights.get(b) - weights.get(a)).slice(MAX_METRICS);
    for (const { key } of rest) this.byItself.delete(key);
    this.leftOut = rest.filter(({ key }) => !this.chosen.get(key)).length;
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
    this.leaveOut(of);
    const own = [...this.columns.values()].filter(({ key }) => this.isShown(key));
    this.shown = [STATUS_COLUMN, NAME_COLUMN, ...own.filter(({ isPath }) => !isPath), ...own.filter(({ isPath }) => isPath)];
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
    // Of numbers the largest are asked for first.
    const now = sort === column ? !down : column.group !== "own" && this.rows.some((node) => isNumeric(column.of(node)));
    announce("Sorted by " + column.title + (now ? ", descending" : ", ascending"));
    this.set("sort", (now ? "-" : "") + keysText([column.key]));
  }

  // --- drawing ---

  fillFlows(counts) {
    const known = JSON.stringify([...counts]);
    const every = new Set(roots.map(({ row }) => row.flow));
    this.flowLabel.hidden = every.size < 2;
    if (known === this.flowsFilled) { this.flows.value = this.flow || ""; return; }
    this.flowsFilled = known;
    const options = [...every].sort((a, b) => a.localeCompare(b, "en")).map((flow) => [flow, counts.has(flow) ? counts.get(flow).all : 0]);
    // Those of which the search finds nothing stay to be seen.
    this.flows.replaceChildren(...options.map(([flow, count]) => h("option", { value: flow, disabled: !count }, flow + " (" + count.toLocaleString("en") + ")")),
      h("option", { value: ALL_FLOWS, disabled: counts.size < 2 }, "all flows"));
    this.flows.value = this.flow || "";
  }

  draw() {
    const { mode } = this;
    for (const element of this.modes.children) element.setAttribute("aria-pressed", String(element.dataset.mode === mode));
    this.content.hidden = !this.rows.length;
    this.nothing.hidden = !this.content.hidden;
    if (this.content.hidden) return;
    this.menu.hidden = mode !== "table";
    if (this.moved) this.moved.hidden = mode !== "table" || isMovedSearched();
    if (this.menu.open) this.fillMenu();
    const view = { table: this.sheet, grid: this.grid, plot: this.plot }[mode];
    const element = view.outer || view.element;
    if (this.body.firstChild !== element) this.body.replaceChildren(element);
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
    this.said.textContent = (this.leftOut ? plural(this.leftOut, "more metric") + (this.leftOut === 1 ? " is" : " are") + " under Columns. " : "")
      + (moved ? SIGNS.up + " and " + SIGNS.down + ": more and less than in the last good run before; \u0394 in a head sorts by it, as Shift and Enter do. " : "")
      + "Press a head to sort, a parameter to search for it, anything else to open the instance; arrow keys move, Enter presses."
      + (this.rows.length > MAX_REAL ? " The browser's own search finds what is on the screen; the search above finds all." : "");
  }

  // --- menus ---

  fillMenu() {
    const focused = document.activeElement && document.activeElement.dataset.column;
    const only = h("input", { type: "checkbox", "data-column": "only what differs", checked: !state.options.has("same"), change: () => this.set("same", only.checked ? "" : "1") });
    const body = this.menu.lastChild;
    body.replaceChildren(h("label", only, " Only parameters that differ"),
      this.chosen.size ? button("As it was", () => this.set("cols", ""), { class: "all" }) : "",
      ...GROUPS.map(([group, title]) => {
        const columns = [...this.columns.values()].filter((column) => column.group === group);
        return columns.length ? h("fieldset", h("legend", title), columns.map((column) => {
          const box = h("input", { type: "checkbox", "data-column": column.key, checked: this.isShown(column.key), change: () => this.choose(column.key, box.checked) });
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
    const menu = h("details.menu", h("summary", "Copy"));
    const close = () => closeMenu(menu);
    menu.append(h("div.menu-body",
      copyButton(() => markdownOf(this.rows, this.shown), "As a Markdown table", null, close),
      copyButton(csv, "As CSV", null, close),
      button("Download as CSV", () => { download(csv(), name(), "text/csv;charset=utf-8"); close(); }, { class: "copy" }),
      copyButton(() => idsOfAll(nodeids()), "Node ids", null, close),
      copyButton(() => ids().join("\n"), "Ids", null, close)));
    return menu;
  }
}

// The focus does not stay in what is closed.
function closeMenu(menu) {
  const focused = menu.contains(document.activeElement);
  menu.open = false;
  if (focused) menu.querySelector("summary").focus({ preventScroll: true });
}

// A box that scrolls, in a frame whose right edge has a shadow while there is more beyond it.
function edged(box, inner) {
  const frame = h("div.cells-frame", box);
  const look = () => frame.classList.toggle("goes-on", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  box.addEventListener("scroll", look, { passive: true });
  const sizes = new ResizeObserver(look);
  for (const element of [box, inner]) sizes.observe(element);
  return frame;
}

const isMovedSearched = () => termsOf(state.q).some(({ token }) => token === "is:moved");

// What moved since the last good runs, in one line that shows it in the table; null where nothing did.
function movedButton() {
  const moved = roots.filter(({ row }) => row.moved);
  if (!moved.length) return null;
  const words = plural(moved.length, "instance") + " moved since " + (moved.length === 1 ? "its" : "their") + " last good run";
  return button(words, () => asStep(() => {
    if (new Set(moved.map(({ row }) => row.flow)).size > 1) state.options.set("flow", ALL_FLOWS);
    else state.options.delete("flow");
    state.options.delete("grid");
    state.options.delete("plot");
    state.statuses.clear();
    setQuery("is:moved");
    showView("table");
  }), { class: "link moved-line", title: "Metrics that are not what they were: is:moved" });
}

// A menu closes with Escape, and when a person goes elsewhere.
function closeByItself(menu) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();
    closeMenu(menu);
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
