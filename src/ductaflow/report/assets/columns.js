// The columns that instances can have: parameters, metrics, how much these moved, what a run took and what is known of it.

const GROUPS = [["parameter", "Parameters"], ["metric", "Metrics"], ["moved", "Moved since the last good run"], ["run", "The run"]];

// Of a run: title, heading in a CSV where that names a unit, value, and the term that a press on it adds to the search.
const FACTS = {
  seconds: { title: "Seconds", term: null },
  memory: { title: "Memory", heading: "memory_bytes", term: null },
  warnings: { title: "Warnings", term: null },
  started: { title: "Started", term: null },
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
// Three digits say how much something moved, and how many per cent of what it was.
const percentText = (moved, value) => { const share = Math.abs(100 * moved / (value - moved)); return Number.isFinite(share) ? (moved < 0 ? SIGNS.minus : "+") + numberText(Number(share.toPrecision(share < 10 ? 2 : 3))) + " %" : ""; };
const movementText = (value) => (value < 0 ? SIGNS.down + " " + SIGNS.minus : SIGNS.up + " +") + numberText(Number(Math.abs(value).toPrecision(3)));

// The columns of some values by their names: where one is taken, `<prefix>.<name>`. The same as `column_names` of session/across.py.
function columnNames(names, taken, prefix) {
  const used = new Set([...taken, ...names]);
  return names.map((name) => {
    let column = name;
    if (taken.has(name)) while (used.has(column)) column = prefix + "." + column;
    used.add(column);
    return [name, column];
  });
}

// Whether all values that nodes have are paths, as those of inputs: they say little beside the others, and take much room.
function isOfPaths(nodes, of) {
  let some = false;
  for (const node of nodes) {
    const value = of(node);
    if (value === undefined || value === null || value === "None") continue;
    if (typeof value !== "string" || !value.includes("/")) return false;
    some = true;
  }
  return some;
}

// All columns for which some nodes have a value, each with a key that no other one has.
function columnsOf(nodes) {
  const names = (kind) => {
    const shapes = new Set();
    for (const { row } of nodes) if (row[kind]) shapes.add(row[kind][0]);
    return [...new Set([...shapes].flatMap((shape) => head.shapes[shape]))];
  };
  const columns = new Map();
  const taken = new Set([STATUS_COLUMN.key, NAME_COLUMN.key, ...Object.keys(FACTS)]);
  const add = (group, kind, columnOf) => {
    const pairs = columnNames(names(kind), taken, PREFIXES[kind]);
    for (const [name, key] of pairs) {
      taken.add(key);
      columns.set(key, { key, group, name, title: key, text: valueText, ...columnOf(name) });
    }
    return new Map(pairs);
  };
  add("parameter", "parameters", (name) => {
    const of = memberOf("parameters", name);
    return { of, isPath: isOfPaths(nodes, of), term: (value) => parameterTerm([name, valueText(value) === "NaN" ? "nan" : value]) };
  });
  // A value of a metric is hardly ever that of another run: a press opens the instance.
  const metrics = add("metric", "metrics", (name) => ({ of: memberOf("metrics", name), moved: movementOf(name), term: null }));
  for (const name of names("moved")) {
    const of = movementOf(name);
    columns.set(MOVED + name, { key: MOVED + name, group: "moved", name, title: (metrics.get(name) || name) + " \u0394", of, text: movementText, term: null,
      order: (node) => { const moved = of(node); return moved === undefined ? moved : Math.abs(moved); } });
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

// Nodes by a column, differences by their size: numbers before texts, then NaN, then those without a value, which are last either way.
function sorted(nodes, column, down) {
  const collator = new Intl.Collator("en", { numeric: true });
  const keyed = nodes.map((node, place) => {
    const value = (column.order || column.of)(node);
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
