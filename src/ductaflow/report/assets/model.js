// The data of the page: instances as nodes, and their details unpacked on demand.

const CAUSE = {
  exception: "Exception", exit: "Exit", signal: "Killed by a signal", timeout: "Timeout",
  interrupted: "Interrupted", lost: "Lost", input: "Missing input", expectation: "Not as expected",
};

const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
const head = parsed("head");

const ORDER = head.statuses.map((status) => status.name);
const STATUS = new Map(head.statuses.map((status) => [status.name, status]));
const statusOf = (node) => STATUS.get(node.row.status);
const wordOf = (name) => STATUS.get(name).word;

const nodes = []; // every instance and every flow of a build
const byKey = new Map();
const roots = [];

function makeNode(row, parent, place) {
  let key = parent ? parent.key + " > " + row.id : row.id;
  if (byKey.has(key)) key += " #" + place;
  const node = { row, key, parent, number: nodes.length, depth: parent ? parent.depth + 1 : 0, place, flows: [] };
  nodes.push(node);
  byKey.set(key, node);
  node.flows = (row.flows || []).map((flow, index) => makeNode(flow, node, index));
  return node;
}

for (const [place, row] of parsed("rows").entries()) roots.push(makeNode(row, null, place));
// What needs a person first, what this session touched before earlier results, otherwise as it came.
roots.sort((a, b) =>
  Boolean(a.row.orphan && a.row.earlier) - Boolean(b.row.orphan && b.row.earlier)
  || Boolean(b.row.fails) - Boolean(a.row.fails)
  || ORDER.indexOf(a.row.status) - ORDER.indexOf(b.row.status)
  || Boolean(a.row.earlier) - Boolean(b.row.earlier)
  || a.place - b.place);

const differingKnown = new Map();
// The names of the parameters that are not the same in all instances of a flow.
function differingIn(flow) {
  if (!differingKnown.has(flow)) {
    const [first, found] = [new Map(), new Set()];
    const alike = roots.filter(({ row }) => row.flow === flow && row.parameters);
    alike.forEach(({ row: { parameters: [shape, ...values] } }, index) => head.shapes[shape].forEach((name, place) => {
      if (!index) first.set(name, values[place]);
      else if (first.get(name) !== values[place]) found.add(name);
    }));
    // One that not all of them have differs too.
    for (const shape of new Set(alike.map(({ row }) => row.parameters[0]))) for (const name of first.keys()) if (!head.shapes[shape].includes(name)) found.add(name);
    differingKnown.set(flow, found);
  }
  return differingKnown.get(flow);
}

const readers = new Map(); // id -> nodes that read from it
for (const node of roots) {
  for (const id of node.row.upstreams || []) {
    if (!readers.has(id)) readers.set(id, []);
    readers.get(id).push(node);
  }
}

const causesOf = new Map(); // id -> number of its cause, from 1
head.causes.forEach((cause, index) => {
  for (const id of cause.instances) causesOf.set(id, index + 1);
});

// --- details ------------------------------------------------------------------------------------------------

const blocks = new Map();
const MAX_BLOCKS = 8; // unpacked blocks that are kept: what was looked at last
let isComplete = false;
const complete = new Promise((resolve) => {
  if (document.readyState !== "loading") resolve();
  else document.addEventListener("DOMContentLoaded", resolve);
}).then(() => { isComplete = true; });

async function unpacked(number) {
  let element = document.getElementById("pack-" + number);
  // The block may not have been read yet, or in part only.
  if (!isComplete) { await complete; element = document.getElementById("pack-" + number); }
  const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

function block(number) {
  let found = blocks.get(number);
  if (found) blocks.delete(number);
  else found = unpacked(number);
  blocks.set(number, found);
  if (blocks.size > MAX_BLOCKS) blocks.delete(blocks.keys().next().value);
  return found;
}

// Everything that is known of an instance beside its row; null if it did not run.
async function detailsOf(node) {
  if (node.parent) {
    const above = await detailsOf(node.parent);
    return above && above.flows ? above.flows[node.place] : null;
  }
  if (!node.row.at) return null;
  const details = (await block(node.row.at[0]))[node.row.at[1]];
  // Metrics that a row has whole are only there.
  if (!node.row.metrics || details.metrics) return details;
  return { ...details, metrics: named(node.row.metrics), metrics_before: { ...named(node.row.moved || [0]), ...details.metrics_before } };
}

// Values by their names, of what a row has behind the number of their names.
function named([shape, ...values]) {
  return Object.fromEntries(values.map((value, place) => [head.shapes[shape][place], value]));
}

// --- what the sessions before say ---------------------------------------------------------------------------

// The sessions before this one, newest first.
const before = head.history.filter((session) => session.session_id !== head.session_id).reverse();

// How many sessions in a row, of those with a result of it, an instance failed in, and whether it was good before.
function redInARow(id) {
  const told = before.filter((session) => !session.carried.includes(id));
  const count = told.findIndex((session) => !session.red.includes(id));
  return { count: count < 0 ? told.length : count, wasNot: count >= 0 };
}

// Of what ran in this session by itself: flows of a build have no history of their own.
const news = new Set(head.new);
const isNew = (node) => !node.parent && news.has(node.row.id);
