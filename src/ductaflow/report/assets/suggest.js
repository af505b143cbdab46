// What may be written next in the search: keys, then values with how many instances have them.

const MAX_SUGGESTED = 9;
const suggestions = h("ul.suggestions", { id: "suggestions", role: "listbox", "aria-label": "Suggestions", hidden: true });

// The term at the caret, and where it is.
function termAtCaret() {
  const at = box.selectionStart;
  for (const found of box.value.matchAll(/(?:"(?:[^"]|"")*"?|[^\s"])+/g)) {
    if (found.index <= at && at <= found.index + found[0].length) return { begin: found.index, token: found[0] };
  }
  return { begin: at, token: "" };
}

// Texts with how many nodes have each, the most frequent first; numbers among as many in their order.
function counted(given, textsOf) {
  const counts = new Map();
  for (const node of given) for (const text of new Set(textsOf(node))) counts.set(text, (counts.get(text) || 0) + 1);
  return [...counts].sort(([a, many], [b, few]) => few - many || NAMES.compare(a, b));
}

// The values that a field can have here.
const FIELD_VALUES = {
  status: ({ row }) => [row.status], flow: ({ row }) => [row.flow], tag: ({ row }) => row.tags || [],
  worker: ({ row }) => (row.worker ? [row.worker] : []), kind: ({ row }) => [row.kind], id: ({ row }) => [row.id],
  cause: ({ row }) => (row.cause ? [row.cause] : []),
};

const holds = (text, part) => text.toLowerCase().includes(part);
const begins = (text, part) => text.toLowerCase().startsWith(part);
// What begins with a part before what only has it.
const fitting = (all, part, textOf) => [...all.filter((one) => begins(textOf(one), part)), ...all.filter((one) => !begins(textOf(one), part) && holds(textOf(one), part))];

// The suggestions for a term: what it becomes, how often there is such a thing, and whether more has to follow.
function suggested(token, others) {
  const minus = token.startsWith("-") ? "-" : "";
  const own = token.slice(minus.length);
  const word = own.replace(/"((?:[^"]|"")*)"?/g, (_, inner) => inner.replace(/""/g, '"'));
  const there = () => { const fits = searchTest(others); return roots.filter(fits); };
  const value = (term, count) => ({ text: minus + term, count });
  const [, field, part] = (!own.startsWith('"') && /^([a-z]+):(.*)$/i.exec(word)) || [];
  if (field && isField(field.toLowerCase())) {
    const name = field.toLowerCase();
    const texts = FIELD_VALUES[name] || ((node) => VALUES[name].told.filter((told) => FIELD_TESTS[name](told)(node)));
    return fitting(counted(there(), texts), part.toLowerCase(), ([text]) => text).map(([text, count]) => value(name + ":" + asValue(text), count));
  }
  const [, name, begun] = /^(.+?)=(.*)$/.exec(word) || [];
  if (name && valueNames().some((one) => isAsked(name.toLowerCase())(one))) {
    const values = valuesUnder(name.toLowerCase());
    return fitting(counted(there(), (node) => values(node).map((one) => (one === null ? "NaN" : String(one)))), begun.toLowerCase(), ([text]) => text)
      .map(([text, count]) => value(asTerm(name + "=" + text), count));
  }
  const asked = word.toLowerCase();
  const keys = [
    ...Object.keys(FIELD_TESTS).map((one) => one + ":"), ...valueNames().map((one) => asTerm(one + "=").replace(/"$/, "")), ...Object.keys(MEASURES).map((one) => one + ">"),
  ].map((text) => ({ text: minus + text, more: true }));
  const bare = ({ text }) => text.slice(minus.length).replace(/^"/, "");
  if (!asked) return keys;
  const named = fitting(keys, asked, bare);
  if (named.length >= MAX_SUGGESTED) return named;
  const pairs = pairsKnown ||= allPairs();
  const fit = [...pairs.filter(({ own }) => own.startsWith(asked)), ...pairs.filter(({ own }) => !own.startsWith(asked) && own.includes(asked))];
  return [...named, ...among(fit, others, there).map(({ text, count }) => value(text, count))];
}

const MAX_RECOUNTED = 30;
// Terms as they are among what the other terms find.
function among(pairs, others, there) {
  if (!others.trim()) return pairs;
  const left = there();
  return pairs.slice(0, MAX_RECOUNTED).map(({ text }) => ({ text, count: left.filter(searchTest(text)).length }))
    .filter(({ count }) => count).sort((a, b) => b.count - a.count);
}

let pairsKnown = null;
// All parameters with their values as terms, with how many instances have each, the most frequent first.
function allPairs() {
  const byName = new Map();
  for (const { row } of roots) {
    if (!row.parameters) continue;
    const names = head.shapes[row.parameters[0]];
    for (let index = 0; index < names.length; index += 1) {
      let counts = byName.get(names[index]);
      if (!counts) byName.set(names[index], counts = new Map());
      const value = row.parameters[index + 1];
      counts.set(value, (counts.get(value) || 0) + 1);
    }
  }
  const made = [...byName].flatMap(([name, counts]) => [...counts].map(([value, count]) => ({ text: parameterTerm([name, value]), own: String(value).toLowerCase(), count })));
  return made.sort((a, b) => b.count - a.count || NAMES.compare(a.text, b.text));
}

let namesKnown = null;
const valueNames = () => (namesKnown ||= namesOfValues());

const suggesting = {
  at: -1,
  shown: [],
  timer: 0,

  get isOpen() { return !suggestions.hidden; },

  // Not within the key that was pressed: what it finds comes first.
  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), 60);
  },

  open() {
    if (document.activeElement !== box) return;
    const { begin, token } = termAtCaret();
    const others = box.value.slice(0, begin) + box.value.slice(begin + token.length);
    this.shown = suggested(token, others).filter(({ text }) => text !== token).slice(0, MAX_SUGGESTED);
    this.at = -1;
    suggestions.replaceChildren(...this.shown.map(({ text, count }, index) => h("li", { role: "option", id: "suggestion-" + index, "aria-selected": "false", mousedown: (event) => { event.preventDefault(); this.take(index); } },
      h("code", text), count === undefined ? null : h("span.note", count.toLocaleString("en")))));
    suggestions.hidden = !this.shown.length;
    box.setAttribute("aria-expanded", String(this.isOpen));
    box.removeAttribute("aria-activedescendant");
  },

  close() {
    clearTimeout(this.timer);
    suggestions.hidden = true;
    this.at = -1;
    box.setAttribute("aria-expanded", "false");
    box.removeAttribute("aria-activedescendant");
  },

  move(by) {
    const count = this.shown.length + 1; // also none of them
    this.at = (this.at + 1 + by + count) % count - 1;
    [...suggestions.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === this.at)));
    if (this.at < 0) box.removeAttribute("aria-activedescendant");
    else {
      box.setAttribute("aria-activedescendant", "suggestion-" + this.at);
      suggestions.children[this.at].scrollIntoView({ block: "nearest" });
    }
  },

  // Write a suggestion into the search.
  take(index) {
    const { text, more } = this.shown[index];
    const { begin, token } = termAtCaret();
    const rest = box.value.slice(begin + token.length);
    const written = text + (more || rest.startsWith(" ") ? "" : " ");
    box.value = box.value.slice(0, begin) + written + rest;
    box.setSelectionRange(begin + written.length, begin + written.length);
    typed();
    if (more) this.open();
    else this.close();
  },

  // Whether a key was one of the list.
  key(event) {
    if (!this.isOpen) return false;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") this.move(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Enter" && this.at >= 0) this.take(this.at);
    else if (event.key === "Escape" || event.key === "Enter") this.close();
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  },
};
