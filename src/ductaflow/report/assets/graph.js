// Who reads from whom, by flow or by instance; it follows the search.

const MAX_BOXES = 150; // so many instances are drawn at most
const FEW_LINKED = 40; // up to so many the graph is one of instances at first
const NAMES_LEFT_OUT = 6; // of what is left out

// Run folders of nothing that is stored have no place in the graph.
const isInGraph = ({ row }) => !(row.orphan && row.earlier);
const isLinked = (node) => (node.row.upstreams || []).length > 0 || readers.has(node.row.id);
const isBuild = ({ row }) => row.kind === "build";

class Graph {
  constructor() {
    const choice = (value, label) => button(label, () => asStep(() => { state.options.set("boxes", value); this.draw(); }), { "data-boxes": value });
    this.choices = h("div.choices", { role: "group", "aria-label": "What a box stands for" }, choice("flows", "Flows"), choice("instances", "Instances"));
    this.toList = button("", () => goTo("list"), { class: "all" });
    this.body = h("div.graph-body");
    this.element = h("div.graph-view", h("div.graph-tools", this.choices, this.toList), this.body);
    this.linked = roots.filter((node) => isInGraph(node) && isLinked(node));
  }

  // Show some instances among those around them. Return the element that does.
  show(nodesFound) {
    this.found = nodesFound.filter(isInGraph);
    this.isWhole = nodesFound.length === roots.length;
    this.draw();
    return this.element;
  }

  get byFlow() {
    const asked = state.options.get("boxes");
    return asked ? asked !== "instances" : this.linked.length > FEW_LINKED;
  }

  draw() {
    for (const element of this.choices.children) element.setAttribute("aria-pressed", String((element.dataset.boxes === "flows") === this.byFlow));
    this.toList.hidden = this.isWhole;
    this.toList.textContent = "List the " + plural(this.found.length, "instance") + " that the search shows";
    const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.box : null;
    this.body.replaceChildren(...(this.byFlow ? this.flows() : this.instances()).flat().filter(Boolean));
    const again = focused && [...this.body.querySelectorAll("[data-box]")].find((element) => element.dataset.box === focused);
    if (again) again.focus({ preventScroll: true });
  }

  flows() {
    const boxes = flowBoxes(this.found, this.isWhole);
    const read = new Set(boxes.flatMap((box) => [...box.above]));
    const alone = boxes.filter((box) => !box.above.size && !read.has(box.key));
    const linked = boxes.filter((box) => !alone.includes(box));
    return [
      h("p", linked.length ? "From left to right: what is read, and what reads from it. " : "No instance reads what one of another flow made. ",
        "A box is a flow with its instances by status; press it to see only these, and again for all."),
      linked.length ? drawnGraph(linked) : null,
      alone.length ? h("section", h("h2", "Neither read from others nor are read"), h("ul.graph-alone", alone.map((box) => h("li", boxOf(box, []))))) : null,
      leftOut([]),
    ];
  }

  instances() {
    const { nodes, more } = aroundThese(this.isWhole ? this.linked : this.found);
    const chosen = new Set(nodes);
    const meant = new Set(this.found);
    const linked = nodes.filter(isLinked);
    const alone = this.isWhole ? roots.filter((node) => isInGraph(node) && !isLinked(node)) : nodes.filter((node) => !isLinked(node));
    const drawnAlone = this.isWhole ? alone.filter(isBuild).slice(0, MAX_BOXES) : alone;
    const boxes = (some) => some.map((node) => ({ ...instanceBox(node), isFaint: !this.isWhole && !meant.has(node) }));
    return [
      linked.length || drawnAlone.length ? h("p", "From left to right: what is read, and what reads from it.", this.isWhole ? "" : " What is pale is around what the search shows.") : h("p.empty", "Nothing to draw here."),
      more ? h("p.note", plural(more, "instance") + (more === 1 ? " has" : " have") + " no room here: a search shows what is around a few of them, and Flows has them all.") : null,
      linked.length ? drawnGraph(boxes(linked.filter((node) => chosen.has(node)))) : null,
      drawnAlone.length ? h("section", h("h2", "Neither read from others nor are read"), h("ul.graph-alone", boxes(drawnAlone).map((box) => h("li", boxOf(box, []))))) : null,
      leftOut(this.isWhole ? alone.filter((node) => !drawnAlone.includes(node)) : []),
    ];
  }
}

// Instances with all that they read, and all that reads them, at any distance: around the first ones, as many as are drawn.
function aroundThese(some) {
  const seen = new Set();
  const spread = (node, next) => {
    const passed = new Set([node]);
    for (const one of passed) { // grows while it is walked through
      if (seen.size >= MAX_BOXES) return;
      seen.add(one);
      for (const other of next(one)) if (other) passed.add(other);
    }
  };
  for (const node of some) {
    spread(node, ({ row }) => (row.upstreams || []).map((id) => byKey.get(id)));
    spread(node, ({ row }) => readers.get(row.id) || []);
    if (seen.size >= MAX_BOXES) break;
  }
  return { nodes: [...seen], more: some.filter((node) => !seen.has(node)).length };
}

// What is not drawn, in words.
function leftOut(alone) {
  const orphans = roots.filter((node) => !isInGraph(node));
  const names = (nodes) => nodes.slice(0, NAMES_LEFT_OUT).map(({ row }) => row.id).join(", ") + (nodes.length > NAMES_LEFT_OUT ? " and " + (nodes.length - NAMES_LEFT_OUT).toLocaleString("en") + " more" : "") + ".";
  return [
    orphans.length ? h("p.note.left-out", plural(orphans.length, "run folder") + " of nothing that is stored " + (orphans.length === 1 ? "is" : "are") + " not shown: " + names(orphans)) : null,
    alone.length ? h("p.note.left-out", plural(alone.length, "instance")
      + (alone.length === 1 ? " is not shown, since it neither reads from another one nor is read: " : " are not shown, since they neither read from others nor are read: ") + names(alone)) : null,
  ];
}

// --- boxes --------------------------------------------------------------------------------------------------

const flowTerm = (flow) => "flow:" + asValue(flow);

// A box for each flow, also for those of which the search shows nothing; `found` are counted.
function flowBoxes(nodesFound, isWhole) {
  const boxes = new Map();
  const flowOf = (id) => (byKey.has(id) ? byKey.get(id).row.flow || id : id.split("/")[0]);
  for (const node of roots) {
    if (!isInGraph(node)) continue;
    const { flow, upstreams } = node.row;
    if (!boxes.has(flow)) boxes.set(flow, { key: flow, label: flow, isBuild: isBuild(node), counts: {}, inside: {}, all: 0, above: new Set() });
    const box = boxes.get(flow);
    box.all += 1;
    for (const id of upstreams || []) if (flowOf(id) !== flow) box.above.add(flowOf(id));
    for (const one of node.flows) box.inside[one.row.flow] = (box.inside[one.row.flow] || 0) + 1;
  }
  for (const node of nodesFound) {
    const { counts } = boxes.get(node.row.flow);
    counts[node.row.status] = (counts[node.row.status] || 0) + 1;
  }
  for (const box of boxes.values()) {
    const shownOnes = ORDER.filter((status) => box.counts[status]);
    box.isFaint = !shownOnes.length;
    box.note = shownOnes.map((status) => box.counts[status].toLocaleString("en") + " " + wordOf(status)).join(", ") || "none of " + box.all.toLocaleString("en") + " shown";
    box.isPressed = !isWhole && termsOf(state.q).some(({ token }) => token === flowTerm(box.key));
    box.press = () => pressFlow(box.key);
  }
  return [...boxes.values()];
}

// See only one flow; the same again takes that back. Other terms stay.
function pressFlow(flow) {
  const tokens = termsOf(state.q);
  const others = tokens.filter(({ field, negated }) => field !== "flow" || negated).map(({ token }) => token);
  const wasOn = tokens.some(({ token }) => token === flowTerm(flow));
  asStep(() => setQuery((wasOn ? others : [...others, flowTerm(flow)]).join(" ")));
  announce(shown.textContent);
}

function instanceBox(node) {
  const { row } = node;
  const inside = {};
  for (const flow of node.flows) inside[flow.row.flow] = (inside[flow.row.flow] || 0) + 1;
  return {
    key: row.id, label: row.id, status: row.status, note: statusOf(node).word, isBuild: isBuild(node), inside, above: new Set(row.upstreams || []), press: () => openNode(node),
  };
}

// The button of a box: of one instance with its status, of a flow with the shares of each status.
function boxOf(box, reads) {
  const inside = Object.entries(box.inside);
  const shares = box.counts ? h("span.shares", { "aria-hidden": "true" }, ORDER.filter((status) => box.counts[status]).map((status) => share(status, box.counts[status]))) : null;
  return button([h("span.box-name", box.status ? sign(box.status) : null, h("span", instanceName(box.label)), box.isBuild ? h("span.tag", "build") : null), shares, h("span.note", box.note),
    inside.length ? h("span.note", "runs " + inside.map(([flow, count]) => flow + (count > 1 ? " \u00d7 " + count.toLocaleString("en") : "")).join(", ")) : null,
    reads.length ? h("span.unseen", "; reads from " + reads.slice(0, 10).join(", ")) : null],
  box.press, { class: "box" + (box.status ? " s-" + box.status : "") + (box.isFaint ? " faint" : ""), "data-box": box.key, "aria-pressed": box.counts ? String(box.isPressed) : null });
}

function drawnGraph(boxes) {
  const byName = new Map(boxes.map((box) => [box.key, box]));
  const columns = [];
  const depth = (box, way = new Set()) => {
    if (box.depth !== undefined) return box.depth;
    if (way.has(box)) return 0; // a cycle; its members say so themselves
    way.add(box);
    const above = [...box.above].map((key) => byName.get(key)).filter(Boolean);
    const found = above.length ? Math.max(...above.map((upper) => depth(upper, way))) + 1 : 0;
    box.depth = found;
    return found;
  };
  for (const box of boxes) (columns[depth(box)] ||= []).push(box);
  columns.forEach((column, index) => {
    if (index) {
      const mean = (box) => {
        const rows = [...box.above].map((key) => byName.get(key)).filter(Boolean).map((upper) => upper.row);
        return rows.reduce((total, row) => total + row, 0) / (rows.length || 1);
      };
      column.sort((a, b) => mean(a) - mean(b)); // beside what it reads, so that fewer lines cross
    }
    column.forEach((box, row) => { box.row = row; });
  });
  const lists = columns.map((column) => h("ul.graph-column", column.map((box) => {
    const reads = [...box.above].filter((key) => byName.has(key));
    box.element = boxOf(box, reads);
    return h("li", box.element);
  })));
  const lines = s("svg", { "aria-hidden": "true" });
  const canvas = h("div.graph-canvas", lines, lists);
  // The boxes are as large as their texts and the screen want them: the lines follow them.
  new ResizeObserver(() => {
    lines.setAttribute("width", canvas.offsetWidth);
    lines.setAttribute("height", canvas.offsetHeight);
    const middle = ({ element }) => element.offsetTop + element.offsetHeight / 2;
    lines.replaceChildren(...boxes.flatMap((box) => [...box.above].map((key) => byName.get(key)).filter(Boolean).map((upper) => {
      const [x1, y1, x2, y2] = [upper.element.offsetLeft + upper.element.offsetWidth, middle(upper), box.element.offsetLeft, middle(box)];
      const half = (x2 - x1) / 2;
      return s("path.edge", { d: `M${x1} ${y1}C${x1 + half} ${y1} ${x2 - half} ${y2} ${x2} ${y2}` });
    })));
  }).observe(canvas);
  return region("div.scroll.graph", "Graph", canvas);
}
