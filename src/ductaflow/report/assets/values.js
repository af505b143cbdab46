// Values of instances: parameters, metrics, and what a run took. Search, table, grid and plot read them here.

// A metric for people; the same as `number` of common/text.py.
function numberText(value) {
  if (Number.isInteger(value)) return String(value);
  const most = Math.abs(value);
  return most >= 1e5 && most < 1e15 ? value.toFixed(1).replace(/\.0$/, "") : String(Number(value.toPrecision(6)));
}

// What a person reads: NaN for null, nothing for what is not there.
function valueText(value) {
  if (value === undefined) return "";
  if (value === null) return "NaN";
  return typeof value === "number" ? numberText(value) : String(value);
}

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

// A value as a number; undefined for what is none. Configs have numbers as text.
function asNumber(value) {
  if (typeof value === "number") return value;
  return typeof value === "string" && NUMBER.test(value) ? Number(value) : undefined;
}

// --- where the values are -----------------------------------------------------------------------------------

// What every run has, with how a bound of a search is read: `seconds>2min`.
const MEASURES = {
  seconds: { of: ({ row }) => row.seconds, text: duration, bound: secondsOf, such: "60, 2min or 1h" },
  memory: { of: ({ row }) => row.memory, text: size, bound: bytesOf, such: "500MB or 2GB" },
  warnings: { of: ({ row }) => (statusOf({ row }).has_run ? row.warnings || 0 : undefined), text: numberText, bound: asNumber, such: "3" },
  started: { of: ({ row }) => (row.started && Date.parse(row.started)) || undefined, text: (value) => moment(new Date(value).toISOString()), bound: momentOf, such: "11:30, 2030-01-31 or 2030-01-31T11:30" },
};

const UNITS = { ms: 0.001, s: 1, sec: 1, min: 60, h: 3600, d: 86400 };
function secondsOf(text) {
  const [, count, unit] = /^([\d.e+-]+)\s*(ms|s|sec|min|h|d)?$/.exec(text) || [];
  const number = asNumber(count);
  return number === undefined ? undefined : number * UNITS[unit || "s"];
}

const BYTES = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 };
function bytesOf(text) {
  const [, count, unit] = /^([\d.e+-]+)\s*([kmgt]?i?b)?$/.exec(text) || [];
  const number = asNumber(count);
  return number === undefined || !Object.hasOwn(BYTES, unit || "b") ? undefined : number * BYTES[unit || "b"];
}

// A moment in UTC, as the page shows them. A time alone is of the day on which the session was at work.
function momentOf(text) {
  const [, day, time] = /^(\d{4}-\d\d-\d\d)?[t ]?(\d\d?:\d\d(?::\d\d)?)?z?$/.exec(text) || [];
  if (!day && !time) return undefined;
  const at = (date) => Date.parse(date + "T" + (time || "00:00").padStart((time || "00:00").length > 5 ? 8 : 5, "0") + "Z");
  if (day) return at(day) || undefined;
  const begin = Date.parse(head.started);
  if (!begin) return undefined;
  const end = Date.parse(head.finished || (head.alive && head.alive.written)) || begin;
  const date = (from) => new Date(from).toISOString().slice(0, 10);
  for (let from = begin; date(from) <= date(end); from += 86400000) if (at(date(from)) >= begin && at(date(from)) <= end) return at(date(from));
  return at(date(begin));
}

// For each of the sets of names that rows share the places of those that fit, counted from the number of the set.
function placesOf(fits) {
  const known = [];
  return (shape) => (known[shape] ||= head.shapes[shape].flatMap((name, index) => (fits(name) ? [index + 1] : [])));
}

// A name as it is asked for: in full, or the last part of a nested one.
const isAsked = (asked) => (name) => {
  const own = name.toLowerCase();
  return own === asked || own.endsWith("." + asked);
};

// How much a metric moved since the last good run, for `moved.NAME`.
function movedBy(node, name) {
  const { metrics, moved } = node.row;
  if (!moved || !metrics) return undefined;
  const before = moved[head.shapes[moved[0]].indexOf(name) + 1];
  const now = metrics[head.shapes[metrics[0]].indexOf(name) + 1];
  return head.shapes[moved[0]].includes(name) && typeof now === "number" ? now - before : undefined;
}

const MOVED = "moved.";
// What tells a parameter and a metric of one name apart, as the columns of `ductaflow results` do.
const PREFIXES = { parameters: "config", metrics: "metrics" };

// A function that gives the values of a node under a name: parameters, metrics, what was measured, what moved.
function valuesUnder(asked) {
  const places = placesOf(isAsked(asked));
  const movedPlaces = asked.startsWith(MOVED) ? placesOf(isAsked(asked.slice(MOVED.length))) : null;
  const kind = Object.keys(PREFIXES).find((one) => asked.startsWith(PREFIXES[one] + "."));
  const placesOfKind = kind ? placesOf(isAsked(asked.slice(PREFIXES[kind].length + 1))) : null;
  const measure = Object.hasOwn(MEASURES, asked) ? MEASURES[asked].of : null;
  return (node) => {
    const found = [];
    for (const own of [node.row.parameters, node.row.metrics]) if (own) for (const place of places(own[0])) found.push(own[place]);
    if (kind && node.row[kind]) for (const place of placesOfKind(node.row[kind][0])) found.push(node.row[kind][place]);
    const measured = measure && measure(node);
    if (measured !== null && measured !== undefined) found.push(measured);
    const { moved } = node.row;
    if (movedPlaces && moved) for (const place of movedPlaces(moved[0])) found.push(movedBy(node, head.shapes[moved[0]][place - 1]));
    return found;
  };
}

const MAX_TOLD = 5; // values that are named of those that are no numbers

const numbersKnown = new Map();
// What is known of a name as numbers: whether there is such a name, the numbers of each node, how many instances have no number there.
function numbersUnder(asked) {
  if (!numbersKnown.has(asked)) {
    const values = valuesUnder(asked);
    const found = { exists: false, byNode: new Map(), odd: 0, told: new Set() };
    for (const node of roots) {
      const own = values(node);
      if (!own.length) continue;
      found.exists = true;
      const numbers = own.map(asNumber).filter((number) => number !== undefined);
      if (numbers.length) found.byNode.set(node, numbers);
      else {
        found.odd += 1;
        if (found.told.size < MAX_TOLD) found.told.add(valueText(own[0]) || "nothing");
      }
    }
    numbersKnown.set(asked, found);
  }
  return numbersKnown.get(asked);
}

// The names of all parameters and metrics of this page.
function namesOfValues() {
  const found = new Set();
  for (const kind of ["parameters", "metrics"]) {
    const shapes = new Set(roots.flatMap(({ row }) => (row[kind] ? [row[kind][0]] : [])));
    for (const shape of shapes) for (const name of head.shapes[shape]) found.add(name);
  }
  return [...found];
}
