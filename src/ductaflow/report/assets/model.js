// The data of the page: instances as nodes, their details unpacked on demand, and the search.

const CAUSE = {
  exception: "Exception", exit: "Exit", signal: "Killed by a signal", timeout: "Timeout",
  interrupted: "Interrupted", lost: "Lost", input: "Missing input",
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
  return (await block(node.row.at[0]))[node.row.at[1]];
}

// --- search -------------------------------------------------------------------------------------------------

const STATUS_NAMES = Object.fromEntries(head.statuses.flatMap(({ name, synonyms }) => [name, ...synonyms].map((word) => [word, name])));
// Fields that take only certain values: those that are named to people, and a test for all that are accepted.
const VALUES = {
  status: { told: ORDER, takes: (value) => Object.hasOwn(STATUS_NAMES, value) },
  is: { told: ["new", "session", "earlier", "stored", "orphan", "failing"] },
  kind: { told: ["flow", "build"] },
  cause: { told: [...Object.keys(CAUSE), ...head.causes.length ? ["1 to " + head.causes.length] : []], takes: (value) => Object.hasOwn(CAUSE, value) || head.causes[value - 1] },
};

// The parameters by name, and by the last part of a nested name; made when a term asks for one.
function parametersOf(node) {
  if (node.parameters === undefined) {
    // A row has the number of its names, which many rows have in common, and its values.
    const [shape, ...values] = node.row.parameters || [];
    node.parameters = values.map((value, index) => [head.shapes[shape][index].toLowerCase(), String(value).toLowerCase()]);
  }
  return node.parameters;
}

function textOf(node) {
  if (node.text === undefined) {
    const cause = head.causes[causesOf.get(node.row.id) - 1];
    const own = node.row.id + "\n" + (node.row.message || "") + (cause && !node.parent ? "\n" + cause.title : "");
    node.text = own.toLowerCase() + node.flows.map((flow) => "\n" + textOf(flow)).join("");
  }
  return node.text;
}

const matcher = (pattern) => {
  if (!pattern.includes("*")) return (text) => text === pattern;
  const parts = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  const regex = new RegExp("^" + parts.join(".*") + "$");
  return (text) => regex.test(text);
};

const FIELD_TESTS = {
  status: (value) => {
    const wanted = value.split(",").map((name) => STATUS_NAMES[name] || name);
    return (node) => wanted.includes(node.row.status);
  },
  flow: (value) => { const fits = matcher(value); return (node) => fits((node.row.flow || "").toLowerCase()); },
  tag: (value) => { const fits = matcher(value); return (node) => (node.row.tags || []).some((tag) => fits(tag.toLowerCase())); },
  kind: (value) => (node) => node.row.kind === value,
  worker: (value) => { const fits = matcher(value); return (node) => fits((node.row.worker || "").toLowerCase()); },
  id: (value) => { const fits = matcher(value); return (node) => fits(node.row.id.toLowerCase()); },
  is: (value) => {
    const tests = {
      new: isNew, session: ({ row }) => !row.earlier, earlier: ({ row }) => Boolean(row.earlier),
      stored: ({ row }) => !row.orphan, orphan: ({ row }) => Boolean(row.orphan), failing: ({ row }) => Boolean(row.fails),
    };
    return Object.hasOwn(tests, value) ? (node) => tests[value](node) : () => false;
  },
  cause: (value) => /^\d+$/.test(value)
    ? (node) => causesOf.get(node.row.id) === Number(value)
    : (node) => (node.row.cause || "") === value,
};

// The terms of a search. Quotes keep words together, two of them in quotes are one; what begins with one is no field.
function termsOf(query) {
  return (query.match(/(?:"(?:[^"]|"")*"?|[^\s"])+/g) || []).map((token) => {
    const negated = token.startsWith("-");
    const own = negated ? token.slice(1) : token;
    const word = own.replace(/"((?:[^"]|"")*)"?/g, (_, inner) => inner.replace(/""/g, '"')).toLowerCase();
    const [, field = "", value = ""] = (!own.startsWith('"') && /^([a-z]+):(.*)$/.exec(word)) || [];
    return { token, negated, word, field, value };
  }).filter(({ word }) => word.replace(/-/g, ""));
}

const inQuotes = (text) => '"' + text.replace(/"/g, '""') + '"';
// A text as the value of a field, and as a term that means just this text.
const asValue = (text) => (/[\s"]/.test(text) ? inQuotes(text) : text);
const asTerm = (text) => (/^-|^[a-z]+:/i.test(text) ? inQuotes(text) : asValue(text));

const isField = (name) => Object.hasOwn(FIELD_TESTS, name);

function termTest({ word, field, value }) {
  if (isField(field) && value) return FIELD_TESTS[field](value);
  // A key may have an equals sign of its own, and so may a message.
  const ways = [...word.matchAll(/=/g)].filter(({ index }) => index > 0).map(({ index }) => {
    const asked = word.slice(0, index);
    const fits = matcher(word.slice(index + 1));
    return ([name, own]) => (name === asked || name.endsWith("." + asked)) && fits(own);
  });
  const isIt = ways.length > 1 ? (pair) => ways.some((way) => way(pair)) : ways[0];
  return (node) => (isIt && parametersOf(node).some(isIt)) || textOf(node).includes(word);
}

// A function that says whether an instance fits a search: all of its terms, `-` before those that must not.
function searchTest(query) {
  const tests = termsOf(query).map((term) => {
    const test = termTest(term);
    return term.negated ? (node) => !test(node) : test;
  });
  return (node) => tests.every((test) => test(node));
}

// What a search names that there is not, each with what there is. What looks like a field may also be a piece of a message.
function unknownTerms(query) {
  return termsOf(query).flatMap(({ token, word, field, value }) => {
    if (isField(field)) {
      const { told, takes = (one) => told.includes(one) } = VALUES[field] || {};
      const given = field === "status" ? value.split(",").filter(Boolean) : [value];
      return !told || given.every(takes) ? [] : [{ token, known: field + ": " + told.join(", ") }];
    }
    if (!field || word.includes("=") || roots.some((node) => textOf(node).includes(word))) return [];
    return [{ token, known: Object.keys(FIELD_TESTS).map((name) => name + ":").join(" ") }];
  });
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
