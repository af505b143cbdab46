// Who ran when, on which worker.

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
