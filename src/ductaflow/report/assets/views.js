// Timeline, graph and trend.

const MAX_BARS = 1500;

// The times of what is unchanged are those of its last run, in a session before.
const isOfSession = ({ row }) => row.started && !row.earlier && row.status !== "unchanged";

function timelineView() {
  const ran = roots.filter(isOfSession).map((node) => {
    const begin = Date.parse(node.row.started);
    return { node, begin, end: begin + 1000 * (node.row.seconds || 0) };
  }).filter((run) => Number.isFinite(run.begin)).sort((a, b) => a.begin - b.begin);
  if (!ran.length) return [h("p.empty", "Nothing has run in this session yet.")];
  const begin = ran[0].begin;
  const end = ran.reduce((latest, run) => Math.max(latest, run.end), begin + 1);
  const path = criticalPath(ran);
  const onPath = new Set(path.map((run) => run.node));
  const lanes = lanesOf(ran);
  const workers = new Set(lanes.map((lane) => lane.worker || lane.name)).size;
  const busy = ran.reduce((total, run) => total + run.end - run.begin, 0);
  const drawn = ran.length > MAX_BARS ? [...ran].sort((a, b) => (b.end - b.begin) - (a.end - a.begin)).slice(0, MAX_BARS) : ran;
  const bars = new Set(drawn);
  return [
    h("p", plural(ran.length, "run"), " in ", h("strong", duration((end - begin) / 1000)), " on ", plural(workers, "worker"),
      lanes.length > workers ? ", " + lanes.length + " at a time" : "",
      "; the workers were busy " + Math.round(100 * busy / (lanes.length * (end - begin))) + " % of the time. ",
      path.length > 1 ? ["The longest chain of runs that wait for each other takes ", h("strong", duration(lengthOf(path))), "."] : null),
    h("div.timeline", { role: "group", "aria-label": "Timeline; the table below has the same runs" },
      axis(end - begin),
      lanes.map((lane) => h("div.lane", h("span.lane-name", lane.name), h("div.lane-bars", lane.runs.filter((run) => bars.has(run)).map((run) => {
        const bar = h("button.bar-run.s-" + run.node.row.status + (onPath.has(run.node) ? ".critical" : ""), {
          type: "button", tabindex: "-1", title: run.node.row.id + ", " + WORD[run.node.row.status] + ", " + duration(run.node.row.seconds),
          "aria-hidden": "true", click: () => openNode(run.node),
        }, run.end - run.begin > (end - begin) / 12 ? run.node.row.id : "");
        bar.style.left = 100 * (run.begin - begin) / (end - begin) + "%";
        bar.style.width = 100 * Math.max(run.end - run.begin, 1) / (end - begin) + "%";
        return bar;
      }))))),
    h("p.legend", h("span.swatch.critical-swatch", { "aria-hidden": "true" }), " outlined: on the longest chain",
      ran.length > MAX_BARS ? "; the " + MAX_BARS + " longest runs are drawn" : ""),
    path.length > 1 ? runTable("The longest chain, in order", path) : null,
    runTable("Slowest runs", [...ran].sort((a, b) => (b.end - b.begin) - (a.end - a.begin)).slice(0, 20)),
  ];
}

const lengthOf = (path) => path.reduce((total, run) => total + (run.node.row.seconds || 0), 0);

function axis(span) {
  return h("div.axis", { "aria-hidden": "true" }, [0, 1, 2, 3, 4].map((part) => h("span", part ? duration(span * part / 4000) : "0 s")));
}

// For each worker as many lanes as its runs overlapped; those of which no worker is known are taken together.
function lanesOf(ran) {
  const workers = new Map();
  for (const run of ran) {
    const worker = run.node.row.worker || "";
    if (!workers.has(worker)) workers.set(worker, []);
    const lanes = workers.get(worker);
    let lane = lanes.find((candidate) => candidate.until <= run.begin + 5);
    if (!lane) {
      const number = lanes.length + 1;
      const more = number > 1 ? worker + " (" + number + ")" : worker;
      lane = { name: worker ? more : "at a time " + number, worker, runs: [], until: 0 };
      lanes.push(lane);
    }
    lane.runs.push(run);
    lane.until = run.end;
  }
  const unknown = workers.get("") || [];
  workers.delete("");
  const named = [...workers.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  return [...named.flatMap((worker) => workers.get(worker)), ...unknown];
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

function runTable(title, runs) {
  return h("section", h("h2", title), h("div.scroll", { tabindex: "0", role: "region", "aria-label": title }, h("table.runs",
    h("thead", h("tr", ["Instance", "Status", "Took", "Worker", "Started"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", runs.map(({ node }) => h("tr", h("td", button(node.row.id, () => openNode(node), { class: "link" })),
      h("td.s-" + node.row.status, badge(node.row.status)), h("td.number", duration(node.row.seconds)),
      h("td", node.row.worker || ""), h("td.moment", moment(node.row.started))))))));
}

// --- graph --------------------------------------------------------------------------------------------------

const MAX_GRAPH = 150; // more instances than this are shown by flow alone

let graphByFlow = null;

function graphView() {
  const linked = roots.filter((node) => (node.row.upstreams || []).length || readers.has(node.row.id));
  if (!linked.length) return [h("p.empty", "No instance reads what another one made, so there is no graph.")];
  if (graphByFlow === null) graphByFlow = linked.length > 40;
  const body = h("div.graph-body");
  const draw = () => body.replaceChildren(drawnGraph(graphByFlow ? flowGraph(linked) : instanceGraph(linked)));
  const choice = (label, byFlow) => button(label, () => { graphByFlow = byFlow; refreshPressed(); draw(); }, { "data-by": String(byFlow) });
  const choices = h("div.choices", { role: "group", "aria-label": "What a box stands for" }, choice("Flows", true), choice("Instances", false));
  const refreshPressed = () => {
    for (const element of choices.children) element.setAttribute("aria-pressed", String(element.dataset.by === String(graphByFlow)));
  };
  refreshPressed();
  draw();
  return [
    h("p", "From left to right: what is read, and what reads from it. ", graphByFlow ? "A box is a flow; press it to list its instances." : ""),
    linked.length <= MAX_GRAPH ? choices : h("p.note", plural(linked.length, "instance") + " are shown by their flows."),
    body,
  ];
}

function flowGraph(linked) {
  const flows = new Map();
  const flowOf = (id) => (byKey.has(id) ? byKey.get(id).row.flow || id : id.split("/")[0]);
  for (const node of linked) {
    const flow = node.row.flow || node.row.id;
    if (!flows.has(flow)) flows.set(flow, { key: flow, label: flow, counts: {}, above: new Set() });
    const box = flows.get(flow);
    box.counts[node.row.status] = (box.counts[node.row.status] || 0) + 1;
    for (const id of node.row.upstreams || []) if (flowOf(id) !== flow) box.above.add(flowOf(id));
  }
  for (const box of flows.values()) {
    box.status = ORDER.find((status) => box.counts[status]);
    box.note = ORDER.filter((status) => box.counts[status]).map((status) => box.counts[status] + " " + WORD[status]).join(", ");
    box.press = () => search("flow:" + box.key);
  }
  return [...flows.values()];
}

function instanceGraph(linked) {
  return linked.map((node) => ({
    key: node.row.id, label: node.row.id, status: node.row.status, note: WORD[node.row.status],
    above: new Set(node.row.upstreams || []), press: () => openNode(node),
  }));
}

const BOX = { width: 210, height: 52, right: 70, down: 14 };

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
  const width = columns.length * (BOX.width + BOX.right) - BOX.right;
  const tallest = Math.max(...columns.map((column) => column.length));
  const height = tallest * (BOX.height + BOX.down) - BOX.down;
  const x = (box) => box.depth * (BOX.width + BOX.right);
  const y = (box) => {
    const own = columns[box.depth].length * (BOX.height + BOX.down) - BOX.down;
    return (height - own) / 2 + box.row * (BOX.height + BOX.down);
  };
  const lines = boxes.flatMap((box) => [...box.above].map((key) => byName.get(key)).filter(Boolean).map((upper) => {
    const [x1, y1, x2, y2] = [x(upper) + BOX.width, y(upper) + BOX.height / 2, x(box), y(box) + BOX.height / 2];
    const half = (x2 - x1) / 2;
    return s("path.edge", { d: `M${x1} ${y1}C${x1 + half} ${y1} ${x2 - half} ${y2} ${x2} ${y2}` });
  }));
  const canvas = h("div.graph-canvas", s("svg", { width, height, "aria-hidden": "true" }, lines), h("ul", boxes.map((box) => {
    const reads = [...box.above].filter((key) => byName.has(key));
    const element = h("li", button([h("span.box-name", sign(box.status), h("span", box.label)), h("span.note", box.note),
      reads.length ? h("span.unseen", "; reads from " + reads.slice(0, 10).join(", ")) : null], box.press, { class: "box s-" + box.status, title: box.label }));
    element.style.left = x(box) + "px";
    element.style.top = y(box) + "px";
    return element;
  })));
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  return h("div.scroll.graph", { tabindex: "0", role: "region", "aria-label": "Graph" }, canvas);
}

// --- trend --------------------------------------------------------------------------------------------------

function trendView() {
  const sessions = [...head.history];
  if (head.finished === null) {
    sessions.push({ session_id: head.session_id, started: head.started, finished: null, seconds: 0, summary: head.summary, red: [] });
  }
  if (sessions.length < 2) return [h("p.empty", "The trend begins with the second session."), sessions.length ? sessionTable(sessions) : null];
  const most = Math.max(1, ...sessions.map((session) => totalOf(session.summary)));
  const longest = Math.max(0.001, ...sessions.map((session) => session.seconds));
  const chart = (title, marks) => h("figure.trend", h("figcaption", title), h("div.columns", { "aria-hidden": "true" }, marks));
  return [
    chart("Instances by status, session by session", sessions.map((session) => h("div.column", ORDER.filter((status) => session.summary[status]).map((status) => {
      const piece = h("div.piece.s-" + status);
      piece.style.height = 100 * session.summary[status] / most + "%";
      return piece;
    })))),
    chart("Duration; the longest took " + duration(longest), sessions.map((session) => {
      const piece = h("div.piece.plain");
      piece.style.height = 100 * session.seconds / longest + "%";
      return h("div.column", piece);
    })),
    sessionTable(sessions),
  ];
}

const totalOf = (summary) => Object.values(summary).reduce((total, count) => total + count, 0);

function sessionTable(sessions) {
  const shown = ORDER.filter((status) => sessions.some((session) => session.summary[status]));
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": "Sessions" }, h("table.runs",
    h("thead", h("tr", h("th", { scope: "col" }, "Started"), shown.map((status) => h("th.number", { scope: "col" }, WORD[status])), h("th.number", { scope: "col" }, "Took"), h("th", { scope: "col" }, "Newly red"))),
    h("tbody", sessions.map((session, index) => {
      const old = new Set(index ? sessions[index - 1].red : []);
      const fresh = index ? session.red.filter((id) => !old.has(id)) : [];
      return h("tr", h("td.moment", moment(session.started), session.session_id === head.session_id ? h("span.tag", "this session") : null),
        shown.map((status) => h("td.number", String(session.summary[status] || 0))), h("td.number", session.finished ? duration(session.seconds) : "running"),
        h("td", fresh.slice(0, 5).join(", ") + (fresh.length > 5 ? " and " + (fresh.length - 5) + " more" : "")));
    }).reverse())));
}
