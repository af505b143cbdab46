// Who reads from whom, by flow or by instance.

const MAX_GRAPH = 150; // more instances than this are shown by flow alone

let graphByFlow = null;

function graphView() {
  const linked = roots.filter((node) => (node.row.upstreams || []).length || readers.has(node.row.id));
  if (!linked.length) return [h("p.empty", "No instance reads what another one made, so there is no graph.")];
  if (graphByFlow === null) graphByFlow = linked.length > 40;
  const body = h("div.graph-body");
  const draw = () => body.replaceChildren(
    h("p", "From left to right: what is read, and what reads from it." + (graphByFlow ? " A box is a flow; press it to list its instances." : "")),
    drawnGraph(graphByFlow ? flowGraph(linked) : instanceGraph(linked)), leftOut(linked) || "");
  const choice = (label, byFlow) => button(label, () => { graphByFlow = byFlow; refreshPressed(); draw(); }, { "data-by": String(byFlow) });
  const choices = h("div.choices", { role: "group", "aria-label": "What a box stands for" }, choice("Flows", true), choice("Instances", false));
  const refreshPressed = () => {
    for (const element of choices.children) element.setAttribute("aria-pressed", String(element.dataset.by === String(graphByFlow)));
  };
  refreshPressed();
  draw();
  return [linked.length <= MAX_GRAPH ? choices : h("p.note", plural(linked.length, "instance") + " are shown by their flows."), body];
}

// What has no place in the graph, since it neither reads from another instance nor is read.
function leftOut(linked) {
  const there = new Set(linked.map((node) => (graphByFlow ? node.row.flow : node)));
  const alone = roots.filter((node) => !(node.row.orphan && node.row.earlier) && !there.has(graphByFlow ? node.row.flow : node));
  const names = [...new Set(alone.map((node) => (graphByFlow ? node.row.flow : node.row.id)))];
  const orphans = roots.filter(({ row }) => row.orphan && row.earlier);
  const apart = orphans.length ? h("p.note.left-out", plural(orphans.length, "run folder") + " of nothing that is stored " + (orphans.length === 1 ? "is" : "are") + " not shown: "
    + orphans.slice(0, 6).map(({ row }) => row.id).join(", ") + (orphans.length > 6 ? " and " + (orphans.length - 6) + " more" : "") + ".") : null;
  if (!names.length) return apart;
  const why = names.length === 1 ? " is not shown, since it neither reads from another one nor is read: " : " are not shown, since they neither read from others nor are read: ";
  return h("div", apart, h("p.note.left-out", plural(names.length, graphByFlow ? "flow" : "instance") + why
    + names.slice(0, 6).join(", ") + (names.length > 6 ? " and " + (names.length - 6) + " more" : "") + "."));
}

function flowGraph(linked) {
  const flows = new Map();
  const flowOf = (id) => (byKey.has(id) ? byKey.get(id).row.flow || id : id.split("/")[0]);
  for (const { row } of linked) flows.set(row.flow, { key: row.flow, label: row.flow, counts: {}, above: new Set() });
  // A box counts what it lists: also the instances that stand alone.
  for (const node of roots.filter(({ row }) => flows.has(row.flow) && !(row.orphan && row.earlier))) {
    const flow = node.row.flow;
    const box = flows.get(flow);
    box.counts[node.row.status] = (box.counts[node.row.status] || 0) + 1;
    for (const id of node.row.upstreams || []) if (flowOf(id) !== flow) box.above.add(flowOf(id));
  }
  for (const box of flows.values()) {
    box.status = ORDER.find((status) => box.counts[status]);
    box.note = ORDER.filter((status) => box.counts[status]).map((status) => box.counts[status] + " " + wordOf(status)).join(", ");
    box.press = () => search("flow:" + asValue(box.key));
  }
  return [...flows.values()];
}

function instanceGraph(linked) {
  return linked.map((node) => ({
    key: node.row.id, label: node.row.id, status: node.row.status, note: statusOf(node).word,
    above: new Set(node.row.upstreams || []), press: () => openNode(node),
  }));
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
    box.element = button([h("span.box-name", sign(box.status), h("span", box.label)), h("span.note", box.note),
      reads.length ? h("span.unseen", "; reads from " + reads.slice(0, 10).join(", ")) : null], box.press, { class: "box s-" + box.status });
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
  return h("div.scroll.graph", { tabindex: "0", role: "region", "aria-label": "Graph" }, canvas);
}
