// The language of the search: `status:error region=EU rmse<1 -tag:slow`.

const STATUS_NAMES = Object.fromEntries(head.statuses.flatMap(({ name, synonyms }) => [name, ...synonyms].map((word) => [word, name])));
// Fields that take only certain values: those that are named to people, and a test for all that are accepted.
const VALUES = {
  status: { told: ORDER, takes: (value) => Object.hasOwn(STATUS_NAMES, value) },
  is: { told: ["new", "fixed", "flaky", "slower", "session", "earlier", "stored", "orphan", "failing", "judged", "unexpected", "moved"] },
  kind: { told: ["flow", "build"] },
  cause: { told: [...Object.keys(CAUSE), ...head.causes.length ? ["1 to " + head.causes.length] : []], takes: (value) => Object.hasOwn(CAUSE, value) || head.causes[value - 1] },
};

// The parameters of an instance by name.
function parametersOf({ row }) {
  // A row has the number of its names, which many rows have in common, and its values.
  const [shape, ...values] = row.parameters || [];
  return values.map((value, index) => [head.shapes[shape][index], String(value)]);
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
      new: isNew, fixed: isFixed, flaky: isFlaky, slower: (one) => timesSlower(one) > 0,
      session: ({ row }) => !row.earlier, earlier: ({ row }) => Boolean(row.earlier),
      stored: ({ row }) => !row.orphan, orphan: ({ row }) => Boolean(row.orphan), failing: ({ row }) => Boolean(row.fails),
      judged: ({ row }) => Boolean(row.judged && row.judged[0] + row.judged[1]), unexpected: ({ row }) => row.cause === "expectation" || Boolean(row.judged && row.judged[2]),
      moved: ({ row }) => Boolean(row.moved),
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

// What a term may ask of a value: `horizon=2030`, `rmse<1`, `rmse=1..2`. A name may have such a sign of its own, and so may a message.
function readingsOf(word) {
  return [...word.matchAll(/[<>]=?|=/g)].filter(({ index }) => index > 0)
    .map(({ 0: sign, index }) => ({ name: word.slice(0, index), sign, bound: word.slice(index + sign.length) }));
}

const COMPARED = { "<": (value, bound) => value < bound, "<=": (value, bound) => value <= bound, ">": (value, bound) => value > bound, ">=": (value, bound) => value >= bound };

const endsOf = ({ sign, bound }) => (sign === "=" ? /^(.*?)\.\.(.*)$/.exec(bound) : null);
const boundOf = (name, text) => (Object.hasOwn(MEASURES, name) ? MEASURES[name].bound : asNumber)(text);

// A test of a number; null where the bounds are none.
function numberTest(reading) {
  const { name, sign, bound } = reading;
  const ends = endsOf(reading);
  if (!ends) {
    const number = boundOf(name, bound);
    return number === undefined ? null : sign === "=" ? (value) => value === number : (value) => COMPARED[sign](value, number);
  }
  const [low, high] = ends.slice(1).map((end) => (end ? boundOf(name, end) : null));
  if (low === undefined || high === undefined || (low === null && high === null)) return null;
  return (value) => (low === null || value >= low) && (high === null || value <= high);
}

function readingTest(reading) {
  const { name, sign, bound } = reading;
  const isIn = numberTest(reading);
  const { byNode } = isIn ? numbersUnder(name) : {};
  const isNumber = (node) => isIn !== null && (byNode.get(node) || []).some(isIn);
  if (sign !== "=") return isNumber;
  const values = valuesUnder(name);
  const fits = matcher(bound);
  return (node) => isNumber(node) || values(node).some((value) => fits((value === null ? "NaN" : String(value)).toLowerCase()));
}

function termTest({ word, field, value }) {
  if (isField(field) && value) return FIELD_TESTS[field](value);
  const ways = readingsOf(word).map(readingTest);
  return (node) => ways.some((way) => way(node)) || textOf(node).includes(word);
}

// A function that says whether an instance fits a search: all of its terms, `-` before those that must not.
function searchTest(query) {
  const tests = termsOf(query).map((term) => {
    const test = termTest(term);
    return term.negated ? (node) => !test(node) : test;
  });
  return (node) => tests.every((test) => test(node));
}

// What a search asks for in vain, each with what there is. What looks like a field or a comparison may also be a piece of a message.
function unknownTerms(query) {
  return termsOf(query).flatMap(({ token, word, field, value }) => {
    const unknown = (known) => [{ token, said: "Unknown term " + token + "; known are " + known + "." }];
    if (isField(field)) {
      const { told, takes = (one) => told.includes(one) } = VALUES[field] || {};
      const given = field === "status" ? value.split(",").filter(Boolean) : [value];
      return !told || given.every(takes) ? [] : unknown(field + ": " + told.join(", "));
    }
    const readings = readingsOf(word);
    if ((!field && !readings.length) || roots.some((node) => textOf(node).includes(word))) return [];
    if (!readings.length) return unknown(Object.keys(FIELD_TESTS).map((name) => name + ":").join(" "));
    const named = readings.filter(({ name }) => numbersUnder(name).exists);
    if (!named.length) return unknown(listed([...Object.keys(MEASURES), ...namesOfValues()], MAX_NAMES));
    const said = named.map(notCompared);
    return said.every(Boolean) ? [{ token, said: token + ": " + said[0] }] : [];
  });
}

const MAX_NAMES = 14;

// Why a comparison finds nothing, or less than is there; empty where all can be compared.
function notCompared(reading) {
  const { name, sign, bound } = reading;
  const ends = endsOf(reading);
  // Any text may be equal, and have two dots in it.
  if (sign === "=" && !(ends && ends.slice(1).some((end) => boundOf(name, end) !== undefined))) return "";
  if (!numberTest(reading)) {
    const odd = (ends ? ends.slice(1) : [bound]).find((end) => boundOf(name, end) === undefined);
    return (odd ? odd + " is " : "this has ") + (Object.hasOwn(MEASURES, name) ? "nothing that " + name + " are compared with; write " + MEASURES[name].such : "no number") + ".";
  }
  const { byNode, odd, told } = numbersUnder(name);
  const values = [...told].join(", ") + (odd > told.size && told.size === MAX_TOLD ? " and others" : "");
  if (!byNode.size) return name + " has no numbers here, but " + values + ".";
  return odd ? plural(odd, "instance") + " with no number as " + name + " (" + values + ") " + (odd === 1 ? "is" : "are") + " not compared." : "";
}
