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
  const onPath = new Set(path.length > 1 ? path.map((run) => run.node) : []);
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
      lanes.map((lane) => h("div.lane", h("span.lane-name", lane.name), marked(h("div.lane-bars"), end - begin, lane.runs.filter((run) => bars.has(run)).map((run) => {
        const bar = h("button.bar-run.s-" + run.node.row.status + (onPath.has(run.node) ? ".critical" : ""), {
          type: "button", tabindex: "-1", title: run.node.row.id + ", " + statusOf(run.node).word + ", " + duration(run.node.row.seconds),
          "aria-hidden": "true", click: () => openNode(run.node),
        }, run.end - run.begin > (end - begin) / 12 ? run.node.row.id : "");
        bar.style.left = 100 * (run.begin - begin) / (end - begin) + "%";
        bar.style.width = 100 * Math.max(run.end - run.begin, 1) / (end - begin) + "%";
        return bar;
      }))))),
    h("p.legend", onPath.size ? [h("span.swatch.critical-swatch", { "aria-hidden": "true" }), " outlined: on the longest chain. "] : null,
      ran.length > MAX_BARS ? "The " + MAX_BARS + " longest runs are drawn." : ""),
    path.length > 1 ? runTable("The longest chain, in order", path) : null,
    runTable("All runs, the slowest first", [...ran].sort((a, b) => (b.end - b.begin) - (a.end - a.begin))),
  ];
}

const lengthOf = (path) => path.reduce((total, run) => total + (run.node.row.seconds || 0), 0);

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400].map((step) => 1000 * step)];

// Milliseconds between the marks of a time axis: a round number, as many as there is room for.
function stepOf(span) {
  const most = Math.min(Math.max((innerWidth - 200) / 110, 2), 10);
  return STEPS.find((step) => span / step <= most) || Math.ceil(span / most / 86400000) * 86400000;
}

function axis(span) {
  const step = stepOf(span);
  const marks = Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => {
    const mark = h("span", roundDuration(index * step / 1000));
    mark.style.left = 100 * index * step / span + "%";
    return mark;
  });
  return h("div.axis", { "aria-hidden": "true" }, marks);
}

// A lane with its bars and the lines of the axis.
function marked(lane, span, bars) {
  lane.style.backgroundSize = 100 * stepOf(span) / span + "% 100%";
  lane.append(...bars);
  return lane;
}

// For each worker as many lanes as its runs overlapped; runs without a known worker share lanes.
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

const SOME = 20; // rows of a table at first

function runTable(title, runs) {
  const names = ["Instance", "Status", "Took", ...runs.some(({ node }) => node.row.worker) ? ["Worker"] : [], "Started"];
  const cells = {
    Instance: ({ id }, node) => h("td", button(id, () => openNode(node), { class: "link" })), Status: ({ status }) => h("td.s-" + status, badge(status)),
    Took: ({ seconds }) => h("td.number", duration(seconds)), Worker: ({ worker }) => h("td", worker || ""), Started: ({ started }) => h("td.moment", moment(started)),
  };
  const line = ({ node }) => h("tr", names.map((name) => cells[name](node.row, node)));
  const body = h("tbody", runs.slice(0, SOME).map(line));
  const rest = runs.length > SOME ? button("Show all " + plural(runs.length, "run"), () => {
    body.append(...runs.slice(SOME).map(line));
    body.rows[SOME].querySelector("button").focus({ preventScroll: true });
    rest.remove();
  }, { class: "all" }) : null;
  return h("section.table", h("h2", title), h("div.scroll", { tabindex: "0", role: "region", "aria-label": title }, h("table.runs",
    h("thead", h("tr", names.map((name) => h("th" + (name === "Took" ? ".number" : ""), { scope: "col" }, name)))), body)), rest);
}

// --- graph --------------------------------------------------------------------------------------------------

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

// --- trend --------------------------------------------------------------------------------------------------

function trendView() {
  const sessions = [...head.history];
  if (head.finished === null) {
    sessions.push({ session_id: head.session_id, started: head.started, finished: null, seconds: 0, summary: head.summary, red: [] });
  }
  if (sessions.length < 2) return [h("p.empty", "The trend begins with the second session."), sessions.length ? sessionTable(sessions) : null];
  const room = (innerWidth < 1000 ? innerWidth - 90 : Math.min(innerWidth, 1560) / 2 - 90) / sessions.length;
  const every = Math.ceil(90 / Math.min(room, MAX_COLUMN)); // how many columns one date takes
  const chart = (title, most, unit, piecesOf) => h("figure.trend", h("figcaption", title), h("div.plot", { "aria-hidden": "true" },
    h("div.scale", [most, most / 2, 0].map((value) => h("span", Number.isInteger(value) || unit ? value.toLocaleString("en") + unit : ""))),
    h("div.columns", sessions.map((session, index) => h("div.column", { title: moment(session.started) }, piecesOf(session).map(([name, value]) => {
      const piece = h("div.piece." + name);
      piece.style.height = 100 * value / most + "%";
      return piece;
    }), index % every || index + every > sessions.length ? null : h("span.date", moment(session.started).slice(5, 16)))))));
  const longest = Math.max(...sessions.map((session) => session.seconds));
  const [unit, length] = longest < 120 ? [" s", 1] : longest < 7200 ? [" min", 60] : [" h", 3600];
  return [
    h("div.charts",
      chart("Instances by status, session by session", roundedUp(Math.max(...sessions.map((session) => totalOf(session.summary)))), "",
        ({ summary }) => ORDER.filter((status) => summary[status]).map((status) => ["s-" + status, summary[status]])),
      chart("Duration; the longest took " + duration(longest), roundedUp(longest / length), unit, ({ seconds }) => [["plain", seconds / length]])),
    sessionTable(sessions),
  ];
}

const MAX_COLUMN = 90; // pixels, as in views.css

// The next number that has a round half.
function roundedUp(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 4, 6, 8, 10].find((one) => one * power >= value) * power;
}

const totalOf = (summary) => Object.values(summary).reduce((total, count) => total + count, 0);

function sessionTable(sessions) {
  const shown = ORDER.filter((status) => sessions.some((session) => session.summary[status]));
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": "Sessions" }, h("table.runs",
    h("thead", h("tr", h("th", { scope: "col" }, "Started"), shown.map((status) => h("th.number", { scope: "col" }, wordOf(status))), h("th.number", { scope: "col" }, "Took"), h("th", { scope: "col" }, "New errors"))),
    h("tbody", sessions.map((session, index) => {
      const old = new Set(index ? sessions[index - 1].red : []);
      const fresh = index ? session.red.filter((id) => !old.has(id)) : [];
      return h("tr", h("td.moment", moment(session.started), session.session_id === head.session_id ? h("span.tag", "this session") : null),
        shown.map((status) => h("td.number", String(session.summary[status] || 0))), h("td.number", session.finished ? duration(session.seconds) : "running"),
        h("td", fresh.slice(0, 5).join(", ") + (fresh.length > 5 ? " and " + (fresh.length - 5) + " more" : "")));
    }).reverse())));
}
