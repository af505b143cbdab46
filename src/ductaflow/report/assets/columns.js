// The columns that instances can have: parameters, metrics, how much these moved, what a run took and what is known of it.

const GROUPS = [["parameter", "Parameters"], ["metric", "Metrics"], ["moved", "Moved since the last good run"], ["run", "The run"]];

// Of a run: title, value, and the term that a press on it adds to the search.
const FACTS = {
  seconds: { title: "Seconds", term: (value) => "seconds>=" + value },
  memory: { title: "Memory", term: (value) => "memory>=" + value },
  warnings: { title: "Warnings", term: (value) => "warnings=" + value },
  started: { title: "Started", term: (value) => "started>=" + new Date(value).toISOString().slice(0, 19) },
  worker: { title: "Worker", of: ({ row }) => row.worker, term: (value) => "worker:" + asValue(value) },
  cause: { title: "Cause", of: ({ row }) => row.cause, text: (value) => CAUSE[value] || value, term: (value) => "cause:" + value },
  tags: { title: "Tags", of: ({ row }) => (row.tags && row.tags.length ? row.tags.join(", ") : undefined), term: (value) => "tag:" + asValue(value.split(", ")[0]) },
  message: { title: "Message", of: ({ row }) => row.message, term: null },
};

// The value of a named member of rows: `kind` is where it stands.
function memberOf(kind, name) {
  const places = [];
  return ({ row }) => {
    const own = row[kind];
    if (!own) return undefined;
    const place = (places[own[0]] ??= head.shapes[own[0]].indexOf(name) + 1);
    return place ? own[place] : undefined;
  };
}

const SIGNS = { up: "\u25b2", down: "\u25bc", minus: "\u2212" };
// Three digits say how much something moved.
const movementText = (value) => (value < 0 ? SIGNS.down + " " + SIGNS.minus : SIGNS.up + " +") + numberText(Number(Math.abs(value).toPrecision(3)));

// All columns for which some nodes have a value, each with a key that no other one has.
function columnsOf(nodes) {
  const names = (kind) => {
    const shapes = new Set();
    for (const { row } of nodes) if (row[kind]) shapes.add(row[kind][0]);
    return [...new Set([...shapes].flatMap((shape) => head.shapes[shape]))];
  };
  const columns = new Map();
  const add = (group, name, column) => {
    const key = columns.has(name) || Object.hasOwn(FACTS, name) ? group + "." + name : name;
    columns.set(key, { key, group, name, title: name, text: valueText, term: (value) => parameterTerm([name, valueText(value) === "NaN" ? "nan" : value]), ...column });
  };
  for (const name of names("parameters")) add("parameter", name, { of: memberOf("parameters", name) });
  for (const name of names("metrics")) add("metric", name, { of: memberOf("metrics", name), moved: movementOf(name) });
  for (const name of names("moved")) {
    columns.set(MOVED + name, { key: MOVED + name, group: "moved", name, title: name + " \u0394", of: movementOf(name), text: movementText, term: (value) => MOVED + name + (value < 0 ? "<0" : ">0") });
  }
  for (const [name, fact] of Object.entries(FACTS)) {
    const measure = Object.hasOwn(MEASURES, name) ? MEASURES[name] : { text: String };
    columns.set(name, { key: name, group: "run", name, of: measure.of, text: measure.text, ...fact });
  }
  return columns;
}

// How much a metric moved; undefined where it did not, or is no number now.
function movementOf(name) {
  const before = memberOf("moved", name);
  const now = memberOf("metrics", name);
  return (node) => {
    const [was, is] = [before(node), now(node)];
    return typeof was === "number" && typeof is === "number" ? is - was : undefined;
  };
}

const STATUS_COLUMN = { key: "status", group: "own", title: "Status", of: ({ row }) => ORDER.indexOf(row.status), text: (value) => wordOf(ORDER[value]), term: null };
const NAME_COLUMN = { key: "instance", group: "own", title: "Instance", of: ({ row }) => row.id, text: String, term: null };

const isNumeric = (value) => asNumber(value) !== undefined;

// Whether nodes tell each other apart by a column: two values, or one that some lack.
function differs(column, nodes, counting) {
  let first;
  let lacking = false;
  for (const node of nodes) {
    const value = column.of(node);
    if (value === undefined) { if (counting(node)) lacking = true; continue; }
    if (first === undefined) first = value;
    else if (value !== first) return true;
  }
  return first !== undefined && lacking;
}

// Nodes by a column: numbers before texts, then NaN, then those without a value, which are last either way.
function sorted(nodes, column, down) {
  const collator = new Intl.Collator("en", { numeric: true });
  const keyed = nodes.map((node, place) => {
    const value = column.of(node);
    const number = asNumber(value);
    const rank = number !== undefined ? 0 : value === undefined ? 3 : value === null ? 2 : 1;
    return { node, place, rank, value: rank === 1 ? String(value) : number };
  });
  const way = down ? -1 : 1;
  keyed.sort((a, b) => a.rank - b.rank
    || (a.rank === 0 ? way * (a.value - b.value) : a.rank === 1 ? way * collator.compare(a.value, b.value) : 0)
    || a.place - b.place);
  return keyed.map(({ node }) => node);
}
