// A grid of two parameters: one value of each on an axis, in the cells what came of these instances.

const MAX_SIDE = 60; // values on one axis
const MAX_CHOICE = 8; // parameters among which the first two axes are looked for
const SHORT = 20; // letters of a value that fits the head of a column

class GridOfTwo {
  constructor({ chosen, narrowed }) {
    Object.assign(this, { chosen, narrowed });
    this.table = h("table.crossed", { role: "grid", "aria-label": "Grid", keydown: (event) => this.key(event) });
    this.legend = h("p.legend");
    this.element = h("div", this.legend, edged(h("div.cells-box", this.table), this.table));
  }

  // `keys`: of the parameters across and down, and of the value in the cells.
  show(rows, columns, keys, changed, axes) {
    const all = [...columns.values()];
    const sides = all.filter((column) => column.group === "parameter" && new Set(rows.map(column.of)).size > 1);
    if (sides.length < 2) {
      axes.replaceChildren();
      this.legend.textContent = sides.length ? "Only one parameter, " + sides[0].title + ", differs among these instances: a grid needs two." : "No parameter differs among these instances: a grid needs two.";
      this.table.replaceChildren();
      return;
    }
    const [across, down] = this.sidesOf(rows, sides, keys);
    const values = all.filter((column) => column.group !== "parameter" && rows.some((node) => isNumeric(column.of(node))));
    const value = values.find(({ key }) => key === keys[2]) || (keys[2] === "status" ? null : values.find(({ group }) => group === "metric")) || null;
    const chosen = [across.key, down.key, value ? value.key : "status"];
    const change = (place) => (key) => {
      const next = [...chosen];
      next[place] = key || "status";
      if (next[0] === next[1]) next[1 - place] = chosen[place];
      changed(next);
    };
    axes.replaceChildren(columnSelect("Across", sides, across.key, change(0)), columnSelect("Down", sides, down.key, change(1)),
      columnSelect("Value", values, value ? value.key : "", change(2), "Status"));
    this.fill(rows, across, down, value);
  }

  // The two axes: those asked for, else the two with many cells of which few are empty, among those that vary most. Paths
  // of inputs and long texts are no axes while there are others.
  sidesOf(rows, sides, keys) {
    const asked = [0, 1].map((place) => sides.find(({ key }) => key === keys[place]));
    if (asked[0] && asked[1] && asked[0] !== asked[1]) return asked;
    const counts = new Map(sides.map((column) => [column, new Set(rows.map(column.of)).size]));
    const narrowed = (all, fits) => { const some = all.filter(fits); return some.length < 2 ? all : some; };
    const plain = narrowed(sides, ({ isPath }) => !isPath);
    const few = narrowed(plain, (column) => counts.get(column) <= MAX_SIDE / 2);
    const short = narrowed(few, (column) => rows.every((node) => valueText(column.of(node)).length <= SHORT));
    const some = [...short].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, MAX_CHOICE);
    let best = null;
    for (const [place, first] of some.entries()) {
      for (const second of some.slice(place + 1)) {
        const cells = new Set(rows.map((node) => first.of(node) + "\n" + second.of(node))).size;
        const score = cells * cells / (counts.get(first) * counts.get(second));
        if (!best || score > best.score) best = { score, pair: [first, second] };
      }
    }
    // The one with more values goes down: there is more room.
    return best.pair.sort((a, b) => counts.get(a) - counts.get(b));
  }

  fill(rows, across, down, value) {
    const valuesOf = (column) => sorted(rows, column).map(column.of).filter((one, index, all) => !index || one !== all[index - 1]);
    const [wide, high] = [valuesOf(across), valuesOf(down)];
    const cells = new Map();
    for (const node of rows) {
      const key = across.of(node) + "\n" + down.of(node);
      if (!cells.has(key)) cells.set(key, []);
      cells.get(key).push(node);
    }
    const numbersOf = (nodes) => (value ? nodes.map((node) => asNumber(value.of(node))).filter((number) => number !== undefined) : []);
    const numbers = numbersOf(rows);
    const [least, most] = [numbers.reduce((a, b) => Math.min(a, b), Infinity), numbers.reduce((a, b) => Math.max(a, b), -Infinity)];
    const text = (one) => (one === undefined ? "not given" : valueText(one));
    const term = (column, one) => (one === undefined ? null : column.term(one));
    const cell = (x, y) => {
      const nodes = cells.get(x + "\n" + y);
      if (!nodes) return h("td.none", { role: "gridcell", tabindex: "-1" }, "\u2013", h("span.unseen", " no instance"));
      const worst = nodes.reduce((found, { row }) => (ORDER.indexOf(row.status) < ORDER.indexOf(found) ? row.status : found), nodes[0].row.status);
      const own = numbersOf(nodes);
      const [low, top] = [Math.min(...own), Math.max(...own)];
      const shown = !own.length ? "" : low === top ? value.text(low) : value.text(low) + " to " + value.text(top);
      const lacking = value && own.length < nodes.length && own.length ? ", " + (nodes.length - own.length) + " without" : "";
      const count = nodes.filter(({ row }) => row.status === worst).length;
      const word = count < nodes.length ? count + " " + wordOf(worst) : wordOf(worst);
      const press = () => (nodes.length === 1 ? this.chosen(nodes[0]) : this.narrowed([term(across, x), term(down, y)].filter(Boolean).join(" ")));
      const made = h("td.s-" + worst + (own.length ? ".heat" : ".soft"), { role: "gridcell" }, h("button", {
        type: "button", tabindex: "-1", click: press, title: nodes.slice(0, 6).map(({ row }) => row.id + ", " + wordOf(row.status)).join("\n") + (nodes.length > 6 ? "\nand " + (nodes.length - 6) + " more" : ""),
      }, sign(worst), h("span", shown || word), nodes.length > 1 ? h("span.many-here", plural(nodes.length, "instance") + lacking) : null,
      h("span.unseen", ", " + (shown ? word + ", " : "") + listed(nodes.map(({ row }) => row.id), 3))));
      if (own.length) made.style.setProperty("--heat", Math.round(6 + (most > least ? 44 * (own.reduce((a, b) => a + b, 0) / own.length - least) / (most - least) : 0)) + "%");
      return made;
    };
    const [shownWide, shownHigh] = [wide.slice(0, MAX_SIDE), high.slice(0, MAX_SIDE)];
    this.table.replaceChildren(
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, h("td", { role: "gridcell" }, h("span", down.title + " \u2193"), " ", h("span", across.title + " \u2192")), shownWide.map((x) => h("th", { role: "columnheader", scope: "col" }, text(x))))),
      h("tbody", { role: "rowgroup" }, shownHigh.map((y) => h("tr", { role: "row" }, h("th", { role: "rowheader", scope: "row" }, text(y)), shownWide.map((x) => cell(x, y))))));
    const first = this.table.querySelector("tbody button");
    if (first) first.tabIndex = 0;
    const cut = [[across, wide], [down, high]].filter(([, all]) => all.length > MAX_SIDE).map(([column, all]) => "the first " + MAX_SIDE + " of " + all.length + " values of " + column.title);
    const several = [...cells.values()].filter((nodes) => nodes.length > 1).length;
    this.legend.replaceChildren(...[
      value ? h("span", value.title + ": ", numbers.length ? [value.text(least), h("span.heat-scale", { "aria-hidden": "true" }), value.text(most)] : "no numbers here", ". ") : null,
      several ? h("span", plural(several, "cell") + (several === 1 ? " has" : " have") + " several instances; a press searches for them. ") : null,
      cut.length ? h("span", "Shown are " + cut.join(" and ") + ". ") : null,
      h("span", "A press opens an instance; arrow keys move.")].filter(Boolean));
  }

  // Arrows go from cell to cell; one of them can be reached with Tab.
  key(event) {
    const cell = event.target.closest("td");
    const by = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!cell || !by) return;
    event.preventDefault();
    const line = this.table.rows[cell.parentElement.rowIndex + by[0]];
    const next = line && line.rowIndex > 0 && cell.cellIndex + by[1] > 0 ? line.cells[cell.cellIndex + by[1]] : null;
    if (!next) return;
    const target = next.querySelector("button") || next;
    for (const one of this.table.querySelectorAll('[tabindex="0"]')) one.tabIndex = -1;
    target.tabIndex = 0;
    target.focus();
  }
}
