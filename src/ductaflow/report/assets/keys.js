// Keys of single letters, which work anywhere outside fields; the sheet that tells them, and switches them off.

const KEYS_OF_VIEWS = { list: "l", table: "t", timeline: "m", graph: "g", trend: "r", compare: "c" };
const KEYS = {
  j: ["next instance", () => goAlong(1)],
  k: ["instance before", () => goAlong(-1)],
  n: ["first instance of the next cause", () => goToCause(1)],
  p: ["first instance of the cause before", () => goToCause(-1)],
  x: ["choose the instance to compare, or let it go", () => { if (tree.active) toggleCompared(tree.active); }],
  "/": ["search", () => { box.focus(); box.select(); }],
  "?": ["this sheet", () => showSheet()],
};
let areKeysOn = recalled("keys") !== "off";
let isGo = -Infinity; // when `g` was pressed
const GO = 1500; // milliseconds for the letter after it

function goAlong(by) {
  if (!found.length || !isFollowing(state.view)) return;
  if (list.offsetParent === null && state.id !== null) { step(by); return; } // a phone shows one thing at a time
  if (state.view === "table") table.along(by);
  if (state.view !== "list") return;
  const next = tree.along(by);
  list.focus({ preventScroll: true });
  tree.activate(next);
  if (state.id) openNode(tree.active, true);
}

// Of each cause that is shown the first instance; an error without a cause of others is one by itself.
function firstOfCauses() {
  const firsts = new Map();
  for (const node of found) if (statusOf(node).is_error && !firsts.has(causeNumber(node) || node.key)) firsts.set(causeNumber(node) || node.key, node);
  return firsts;
}

function goToCause(by) {
  const firsts = firstOfCauses();
  const ordered = [...firsts.values()];
  const here = tree.active || byKey.get(state.id);
  const root = here && rootOf(here);
  const at = root ? ordered.indexOf(firsts.get(causeNumber(root) || root.key)) : -1;
  // From what is no error: the nearest in the list.
  const place = found.indexOf(root);
  const next = at >= 0 ? ordered[at + by] : by > 0 ? ordered.find((node) => found.indexOf(node) > place) : ordered.filter((node) => found.indexOf(node) < place).pop();
  if (!next) { announce(by > 0 ? "There is no further cause" : "There is no cause before"); return; }
  if (state.view !== "list") goTo("list");
  tree.activate(next);
  openNode(next, true);
  if (list.offsetParent !== null) list.focus({ preventScroll: true });
}

const isInField = (element) => Boolean(element.closest && element.closest("input:not([type=checkbox]), textarea, select, [contenteditable], dialog"));

function pressKey(event) {
  if (event.key === "Escape" && state.id !== null && !document.querySelector("dialog[open]")) { closePanel(); return; }
  if (!areKeysOn || event.defaultPrevented || event.altKey) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key.toLowerCase() === "f" && !event.shiftKey) findAll(event);
    return;
  }
  // Letters choose in a select; no choice begins with these two.
  if (isInField(event.target) && !(event.target.matches("select") && (event.key === "/" || event.key === "?"))) return;
  const view = event.timeStamp - isGo < GO ? Object.keys(KEYS_OF_VIEWS).find((name) => KEYS_OF_VIEWS[name] === event.key && isView(name)) : undefined;
  isGo = -Infinity;
  if (view) { goTo(view); document.getElementById("tab-" + view).focus(); }
  else if (event.key === "g") isGo = event.timeStamp;
  else if (Object.hasOwn(KEYS, event.key)) KEYS[event.key][1]();
  else if (event.key === "Enter" && event.target === document.body && tree.active) openNode(tree.active);
  else return;
  event.preventDefault();
}

// The browser finds only rows that exist. Of very many that is a part, so that its key leads to the search; from there it is the browser's.
function findAll(event) {
  const isPart = { list: tree.isVirtual, table: table.isVirtual }[state.view];
  if (!isPart || event.target === box) return;
  event.preventDefault();
  box.focus();
  box.select();
  hint.textContent = "This searches all " + roots.length.toLocaleString("en") + " instances; the browser's own search finds only the rows on the screen. Press the keys again for that.";
}

const hint = h("p.hint", { role: "status" });
box.addEventListener("blur", () => { hint.textContent = ""; });

const sheet = h("dialog.sheet", { "aria-labelledby": "sheet-name" });

function showSheet() {
  const line = (keys, meaning) => h("div", h("dt", keys.map((key, index) => [index ? " " : null, h("kbd", key)])), h("dd", meaning));
  const toggle = button("", () => {
    areKeysOn = !areKeysOn;
    remember("keys", areKeysOn ? "on" : "off");
    name();
  }, { id: "keys-switch" });
  const name = () => {
    toggle.textContent = areKeysOn ? "Switch these keys off" : "Switch these keys on";
    sheet.dataset.keys = areKeysOn ? "on" : "off";
  };
  name();
  sheet.replaceChildren(
    h("div.sheet-head", h("h2", { id: "sheet-name" }, "Keys"), h("span.fill"), button("\u00d7", () => sheet.close(), { class: "icon", "aria-label": "Close" })),
    h("dl", Object.entries(KEYS).map(([key, [meaning]]) => line([key], meaning)),
      VIEWS.filter(([view]) => KEYS_OF_VIEWS[view]).map(([view, title]) => line(["g", KEYS_OF_VIEWS[view]], title))),
    h("p.note", "They work anywhere but in a field. ", toggle),
    h("h3", "Always"),
    h("dl", line(["\u2191", "\u2193", "Home", "End"], "move in the list"), line(["\u2192", "\u2190"], "open and close a build"), line(["Enter"], "open an instance"), line(["Esc"], "close it; in the search: show everything")),
    h("h3", "Signs at the end of a row"),
    h("p.note", "The last " + RESULTS_JUDGED + " sessions that knew it, the newest at the right:"),
    h("p.shapes", Object.entries(SHAPES).map(([status, shape]) => h("span", s("svg", { "aria-hidden": "true", width: DOT, height: DOT }, s("path.s-" + status, { d: shape(DOT / 2, 5) })), " " + wordOf(status)))),
    h("p.note", "The box chooses it to compare."));
  sheet.showModal();
}
