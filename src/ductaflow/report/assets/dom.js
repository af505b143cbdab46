// Elements and words. Text only ever becomes text nodes.

const SVG = "http://www.w3.org/2000/svg";

// h("p.note", { hidden: true }, "text", child): an element; functions are listeners, null children are left out.
function h(name, ...parts) {
  const [tag, ...classes] = name.split(".");
  return filled(document.createElement(tag || "div"), classes, parts);
}

function s(name, ...parts) {
  const [tag, ...classes] = name.split(".");
  return filled(document.createElementNS(SVG, tag), classes, parts);
}

function filled(element, classes, parts) {
  for (const name of classes) element.classList.add(name);
  for (const part of parts.flat(Infinity)) {
    if (part === null || part === undefined || part === false) continue;
    if (typeof part === "string" || typeof part === "number") element.append(String(part));
    else if (part instanceof Node) element.append(part);
    else setAll(element, part);
  }
  return element;
}

function setAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
}

const button = (text, listener, attributes = {}) => h("button", { type: "button", click: listener, ...attributes }, text);

// A part that scrolls by itself: keys reach it, and a screen reader names it.
const region = (name, label, ...content) => h(name, { tabindex: "0", role: "region", "aria-label": label }, content);

const NUMBERS = new Set(["Took", "Runs", "Sum", "Median", "Slowest"]); // headings of columns of numbers
const headOf = (names) => h("thead", h("tr", names.map((name) => h("th" + (NUMBERS.has(name) ? ".number" : ""), { scope: "col" }, name))));

// A button that adds the rest of a long list to its parent, and leads to the first of it.
function restButton(text, parent, makeRest) {
  const made = button(text, () => {
    const rest = makeRest();
    parent.append(...rest);
    made.remove();
    const next = rest[0].querySelector("button");
    if (next) next.focus({ preventScroll: true });
  }, { class: "all" });
  return made;
}

// One of several pieces beside each other, as wide as its count.
function share(status, count) {
  const piece = h("span.s-" + status);
  piece.style.flexGrow = count;
  return piece;
}

const sign = (status) => s("svg", { "aria-hidden": "true" }, s("use", { href: "#sign-" + status }));

const badge = (status) => h("span.badge", sign(status), h("span", wordOf(status)));

// The same of a row: a run that is red for its numbers alone is told apart from one that failed.
const isDiffering = (row) => row.cause === "expectation";
const DIFFERS = { sign: "differs", word: "differs" };
const badgeOf = (row) => (isDiffering(row) ? h("span.badge", { title: wordOf(row.status) + ": it ran, and what it found is not as expected" }, sign(DIFFERS.sign), h("span", DIFFERS.word)) : badge(row.status));

// What a row is beside its status.
const storedTags = (row) => [row.orphan ? h("span.tag.orphan", "not stored") : null, row.earlier ? h("span.tag.earlier", "earlier result") : null];

// A function that works out its value once.
function once(make) {
  let made = null;
  return () => (made ||= { value: make() }).value;
}

const plural = (count, word) => count.toLocaleString("en") + " " + word + (count === 1 ? "" : "s");

const listed = (names, most) => names.slice(0, most).join(", ") + (names.length > most ? " and " + (names.length - most) + " more" : "");

// The same as `duration` of common/text.py; empty for no time at all.
function duration(seconds) {
  if (!seconds) return "";
  if (seconds < 59.95) return seconds.toFixed(seconds < 9.995 ? 2 : 1) + " s";
  const [hours, minutes, rest] = clockOf(Math.round(seconds));
  const padded = (count) => String(count).padStart(2, "0");
  return hours ? hours + " h " + padded(minutes) + " min" : minutes + " min " + padded(rest) + " s";
}

// The same of a mark on a scale, which is a round number: `0.5 s`, `2 min`, `1 h 30 min`.
function roundDuration(seconds) {
  if (seconds < 60) return seconds + " s";
  return clockOf(seconds).map((count, index) => (count ? count + [" h", " min", " s"][index] : "")).filter(Boolean).join(" ");
}

const clockOf = (seconds) => [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];

function size(bytes) {
  if (typeof bytes !== "number" || !bytes) return "";
  let value = bytes;
  for (const unit of ["B", "kB", "MB"]) {
    if (value < 1000) return (unit === "B" || value >= 100 ? value.toFixed(0) : value.toFixed(1)) + " " + unit;
    value /= 1000;
  }
  return value.toFixed(1) + " GB";
}

function moment(iso) {
  const found = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)/.exec(iso || "");
  return found ? found[1] + " " + found[2] + " UTC" : iso || "";
}

// A moment, with the time of this place to read when pointed at.
const when = (iso) => inPlace(h("time", { datetime: iso || null }, moment(iso)));

function inPlace(element) {
  const at = new Date(element.dateTime);
  if (!Number.isNaN(at.getTime())) element.title = at.toLocaleString("en", { dateStyle: "medium", timeStyle: "long" });
  return element;
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : "'" + text.replace(/'/g, "'\"'\"'") + "'");

// Announce a text to screen readers.
function announce(text) {
  document.getElementById("said").textContent = text;
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch (refused) {
    // Not allowed here, or an older browser: the way that works everywhere.
    const area = h("textarea.unseen", { "aria-hidden": "true", tabindex: "-1" });
    area.value = text;
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (focused) focused.focus({ preventScroll: true });
    return done;
  }
}

// A button that copies a text, which may be a function that makes it; `then` follows when it has said so for a moment.
function copyButton(text, label, what, then = null) {
  const name = label || "Copy";
  const made = button(name, async () => {
    const done = await toClipboard(typeof text === "function" ? text() : text);
    made.textContent = done ? "Copied" : "Not allowed";
    announce(done ? "Copied: " + (what || name) : "The browser does not allow copying");
    setTimeout(() => { made.textContent = name; if (done && then) then(); }, 1500);
  }, { class: "copy", "aria-label": what ? name + ": " + what : null });
  return made;
}

// A command to read and to copy.
const commandLine = (text, label = null) => h("div.command", label ? h("span.label", label) : null, h("code", text), copyButton(text, "Copy", label || text));

// A name in full, which breaks where a person would break it.
const instanceName = (id) => {
  const cut = id.indexOf("/") + 1;
  const breaking = (text) => text.split(/(?<=[_+.-])/).map((word) => [h("wbr"), word]);
  return [cut ? h("span.flow", id.slice(0, cut)) : null, h("span.own", breaking(id.slice(cut)))];
};

// The name of a node: its id, and for a flow of a build the way to it, `chain/b2 > fit`.
function wayTo(node) {
  const { id, flow } = node.row;
  return node.parent ? wayTo(node.parent) + " \u203a " + (id === flow + "/" + flow ? flow : id) : id;
}

// A name in one line. Of a long one the middle is left out where there is no room: what tells scenarios apart is often
// at their end. Up to there it is one run of text, which the browser's own search finds.
const MAX_NAME = 28;
const shortName = (id) => {
  const cut = id.indexOf("/") + 1;
  const end = id.length > MAX_NAME ? Math.max(id.length - 12, cut) : id.length;
  return [h("span.start", cut ? h("span.flow", id.slice(0, cut)) : null, h("span.own", id.slice(cut, end))), end < id.length ? h("span.end", id.slice(end)) : null];
};
