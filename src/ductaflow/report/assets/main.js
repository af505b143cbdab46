// The page: its state, which lives in the address so that a link and a refresh keep it, and its parts.

const state = { q: "", statuses: new Set(), scope: "", id: null, missing: null, view: "list", expanded: new Set() };
const app = document.getElementById("app");
const chips = [...document.querySelectorAll(".chip[data-status]")];
const WIDE = matchMedia("(min-width: 1000px)");

// --- address ------------------------------------------------------------------------------------------------

// Which rows the counts of a group are of. An address without one means all.
const SCOPES = {
  session: ({ row }) => !row.earlier,
  known: ({ row }) => !(row.earlier && row.orphan),
};

const inAddress = (text) => encodeURIComponent(text).replace(/%2F/g, "/").replace(/%20/g, "+").replace(/%3A/g, ":").replace(/%3D/g, "=");

function address() {
  const parts = [];
  if (state.view !== "list") parts.push("view=" + state.view);
  if (state.statuses.size) parts.push("status=" + [...state.statuses].join(","));
  if (state.statuses.size && state.scope) parts.push("scope=" + state.scope);
  if (state.q) parts.push("q=" + inAddress(state.q));
  if (state.id || state.missing) parts.push("id=" + inAddress(state.id || state.missing));
  for (const key of state.expanded) parts.push("open=" + inAddress(key));
  return "#" + parts.join("&");
}

function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  state.q = found.get("q") || "";
  state.view = VIEWS.some(([name]) => name === found.get("view")) ? found.get("view") : "list";
  state.statuses = new Set((found.get("status") || "").split(",").filter((status) => ORDER.includes(status)));
  state.scope = Object.hasOwn(SCOPES, found.get("scope")) ? found.get("scope") : "";
  const id = found.get("id");
  state.id = byKey.has(id) ? id : null;
  sayMissing(state.id ? null : id);
  state.expanded = new Set(found.getAll("open").filter((key) => byKey.has(key)));
}

// What is not for sharing, but should survive a refresh.
function remembered() {
  const focused = document.activeElement;
  const log = panel.querySelector(".log");
  return {
    scroll: scrollY, panel: panel.scrollTop, log: log ? log.scrollTop : null, folded: [...folded], paused,
    focus: focused && focused.id ? focused.id : null,
    active: tree.active ? tree.active.key : null,
    caret: focused === box ? [box.selectionStart, box.selectionEnd] : null,
  };
}

let saving = 0;
// Browsers limit how often the address may change; a search changes it with each key.
function stateChanged() {
  clearTimeout(saving);
  saving = setTimeout(saveState, 250);
}
function saveState() {
  clearTimeout(saving);
  history.replaceState(remembered(), "", address());
}

// --- parts --------------------------------------------------------------------------------------------------

const VIEWS = [["list", "Instances", null], ["timeline", "Timeline", timelineView], ["graph", "Graph", graphView], ["trend", "Trend", trendView]];

const box = h("input", {
  id: "search", type: "search", autocomplete: "off", spellcheck: "false",
  placeholder: "Search: a name, a piece of a message, status:warning, horizon=2030",
});
const shown = h("span.shown", { id: "shown", role: "status" });
const unknown = h("p.unknown", { id: "unknown", role: "status" });
const missing = h("p.unknown", { id: "missing", role: "status" });
const copies = h("div.copies", { hidden: true, role: "group" });
const empty = h("p.empty", { hidden: true }, "Nothing matches. ", button("Show everything", () => reset()));
const list = h("div.tree", { id: "list", role: "tree", tabindex: "0", "aria-label": "Instances" });
const panel = h("aside.panel", { id: "panel", hidden: true, tabindex: "-1", "aria-label": "Instance" });
const tabs = h("div.tabs", { role: "tablist", "aria-label": "Views" }, VIEWS.map(([name, title]) => h("button.tab", {
  type: "button", role: "tab", id: "tab-" + name, "aria-controls": "view-" + name, click: () => showView(name), keydown: tabKey,
}, title)));
const views = VIEWS.map(([name]) => h("section.view", { id: "view-" + name, role: "tabpanel", "aria-labelledby": "tab-" + name, hidden: true }));
const tree = new Tree(list, state, openNode, stateChanged);

function tabKey(event) {
  const at = VIEWS.findIndex(([name]) => name === state.view);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: VIEWS.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  showView(VIEWS[(next + VIEWS.length) % VIEWS.length][0]);
  document.getElementById("tab-" + state.view).focus();
}

function sayMissing(id) {
  state.missing = id;
  missing.textContent = id ? id + " is not in this report." : "";
}

function help() {
  const row = (term, meaning) => h("div", h("dt", button(term, () => search(term), { class: "link" })), h("dd", meaning));
  // Examples that find something here, as far as there is something.
  const first = (found, otherwise) => { for (const node of roots) { const one = found(node); if (one) return one; } return otherwise; };
  return h("details.help", h("summary", "What can be searched"), h("dl",
    row(asTerm(first(({ row: { id } }) => id.slice(id.indexOf("/") + 1))), "a piece of a name, of a message or of a flow of a build"),
    row("status:error,blocked", "the status: " + VALUES.status.told.join(", ")),
    row("flow:" + asValue(first(({ row: { flow } }) => flow) + "*"), "the flow or build; * stands for anything"),
    row("tag:" + asValue(first(({ row: { tags } }) => tags && tags[0], "slow")), "a tag of _run"),
    row(first((node) => parametersOf(node).map(parameterTerm)[0], "horizon=2030"), "a parameter of the config, also nested: database.host or host"),
    row("cause:" + first(({ row: { cause } }) => cause, "timeout"), "why it failed: " + Object.keys(CAUSE).join(", ")),
    row("is:new", "an error that the last session with a result of it did not have"),
    row("is:session", "what this session touched; is:earlier for earlier results"),
    roots.some(({ row: { orphan } }) => orphan) ? row("is:orphan", "a run of nothing that is stored (any more); is:stored for all others") : null,
    head.failing ? row("is:failing", "its test fails although its run is good: a new warning, for example") : null,
    row("-status:success", "a minus: not this. Several terms must all fit; \"quotes\" keep words together")));
}

const FEW = innerWidth < 640 ? 2 : 4; // causes that are shown at first

function causesPart() {
  if (!head.causes.length) return null;
  const red = head.causes.reduce((total, cause) => total + cause.instances.length, 0);
  const items = h("ol", head.causes.slice(0, FEW).map(causeItem));
  const hiding = head.causes.length > FEW;
  const toggle = hiding ? button("", () => { show(items.childElementCount === FEW); stateChanged(); }, { class: "all", "aria-expanded": "false" }) : null;
  const show = (all) => {
    if (all) items.append(...head.causes.slice(items.childElementCount).map((cause, index) => causeItem(cause, FEW + index)));
    else while (items.childElementCount > FEW) items.lastElementChild.remove();
    if (all) folded.set("causes", false);
    else folded.delete("causes");
    toggle.setAttribute("aria-expanded", String(all));
    toggle.textContent = all ? "Show only the first " + FEW : "Show all " + head.causes.length.toLocaleString("en") + " causes";
  };
  if (hiding) {
    show(folded.has("causes"));
    let asked = false;
    addEventListener("beforeprint", () => { asked = folded.has("causes"); show(true); });
    addEventListener("afterprint", () => show(asked));
  }
  return h("section.causes", { "aria-labelledby": "causes" }, h("h2", { id: "causes" }, plural(red, "error") + ", " + plural(head.causes.length, "cause")), items, toggle);
}

function causeItem(cause, index) {
  const place = [cause.place || CAUSE[cause.cause] || "", cause.blocks ? "blocks " + cause.blocks : ""].filter(Boolean).join(" \u00b7 ");
  const sets = [cause.parameters, ...cause.alternatives].filter((set) => set.length);
  return h("li",
    h("button.cause-row", { type: "button", click: () => search("cause:" + (index + 1)), title: "Show these instances" },
      h("strong.many", cause.instances.length.toLocaleString("en")),
      h("span.what", h("span.cause-title", cause.title || CAUSE[cause.cause] || "no message"), h("span.cause-place", place))),
    sets.length ? h("p.shared", h("span.note", "all with"),
      sets.map((set, place) => [place ? h("span.note", "or") : null,
        button(set.map(([name, value]) => h("code", name + "=" + value)), () => searchParameters(set, cause, index), { title: "Show all instances with these parameters" })]),
      cause.alternatives_left_out ? h("span.note", "or " + plural(cause.alternatives_left_out, "other set")) : null,
      h("span.note", sets.every((set) => set.length === 1) ? "which no good one has" : "which no good one has together")) : null);
}

const parameterTerm = ([name, value]) => asTerm(name + "=" + value);

// Rows have their first parameters, and the beginning of long values: where that does not do, the cause's instances are shown.
function searchParameters(set, cause, index) {
  const query = set.map(parameterTerm).join(" ");
  const fits = searchTest(query);
  search(cause.instances.every((id) => fits(byKey.get(id))) ? query : "cause:" + (index + 1));
}

function proportions() {
  const bar = document.getElementById("bar");
  if (!bar) return;
  const scope = chips.some(({ dataset }) => dataset.scope === "known") ? "known" : "session";
  for (const element of chips.filter(({ dataset }) => dataset.scope === scope)) {
    const piece = h("span.s-" + element.dataset.status);
    piece.style.flexGrow = element.dataset.count;
    bar.append(piece);
  }
}

// --- what is shown ------------------------------------------------------------------------------------------

function apply() {
  const fits = searchTest(state.q);
  const isMeant = (node) => state.statuses.has(node.row.status) && (!state.scope || SCOPES[state.scope](node));
  const found = roots.filter((node) => (!state.statuses.size || isMeant(node)) && fits(node));
  const isOn = ({ status, scope }) => state.statuses.has(status) && (!state.scope || state.scope === scope);
  for (const element of chips) element.setAttribute("aria-pressed", String(isOn(element.dataset)));
  const filtered = state.statuses.size > 0 || state.q.trim() !== "";
  const words = filtered ? found.length.toLocaleString("en") + " of " + roots.length.toLocaleString("en") + " shown" : plural(roots.length, "instance");
  if (shown.textContent !== words) shown.textContent = words;
  const trouble = unknownTerms(state.q).map(({ token, known }) => "Unknown term " + token + "; known are " + known + ".").join(" ");
  if (unknown.textContent !== trouble) unknown.textContent = trouble;
  empty.hidden = found.length > 0 || roots.length === 0;
  list.hidden = found.length === 0;
  tree.show(found);
  showCopies(found.filter((node) => statusOf(node).is_error || node.row.status === "blocked" || node.row.fails), filtered);
}

function showCopies(failed, filtered) {
  copies.hidden = failed.length === 0;
  if (!failed.length) return;
  const stored = failed.filter((node) => node.row.nodeid);
  const blocked = failed.filter((node) => node.row.status === "blocked").length;
  const which = failed.length === 1 ? (blocked ? "what is blocked" : "this failure")
    : (filtered ? "the " + failed.length + " shown that " : "all " + failed.length + " that ")
      + (blocked === failed.length ? "are blocked" : blocked ? "failed or are blocked" : "failed");
  // Earlier results and rows of a conductor have no node id.
  const some = stored.length < failed.length ? " of " + stored.length : "";
  copies.setAttribute("aria-label", "Copy for " + which);
  copies.replaceChildren(...[h("span.note", "Copy for " + which + ":"),
    copyButton(() => rerunOfAll(failed), "Run again", plural(failed.length, "command")),
    stored.length ? copyButton(() => debugOfAll(stored), "Debug" + some, plural(stored.length, "command")) : null,
    stored.length ? copyButton(() => idsOfAll(stored), (stored.length === 1 ? "Node id" : "Node ids") + some, plural(stored.length, "node id")) : null,
  ].filter(Boolean));
}

function search(query) {
  state.q = query;
  state.statuses.clear();
  sayMissing(null);
  box.value = query;
  if (!WIDE.matches) closePanel(false);
  showView("list", false);
  apply();
  history.pushState(remembered(), "", address());
  announce(shown.textContent);
  box.focus({ preventScroll: true });
  document.querySelector(".tools").scrollIntoView({ block: "nearest" });
}

function reset() {
  state.q = box.value = "";
  state.statuses.clear();
  sayMissing(null);
  apply();
  stateChanged();
  box.focus();
}

function showView(name, focus = true) {
  state.view = name;
  VIEWS.forEach(([view, , make], index) => {
    const on = view === name;
    const tab = tabs.children[index];
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    views[index].hidden = !on;
    if (on && make && !views[index].childElementCount) views[index].append(...[make()].flat().filter(Boolean));
  });
  if (name === "list") tree.draw();
  if (focus) stateChanged();
}

// --- one instance -------------------------------------------------------------------------------------------

let pageScroll = 0;

// Open an instance. `followed`: the person moves through the list, so the focus stays there.
function openNode(node, followed = false) {
  const wasOpen = state.id !== null;
  if (!wasOpen) pageScroll = scrollY;
  state.id = node.key;
  sayMissing(null);
  for (let above = node.parent; above; above = above.parent) state.expanded.add(above.key);
  if (node.parent) tree.show(tree.found);
  tree.active = tree.rows.includes(node) ? node : tree.active;
  tree.drawn = "";
  if (followed) stateChanged();
  else history[wasOpen ? "replaceState" : "pushState"](remembered(), "", address());
  return showNode(node, !followed);
}

let showing = 0;
async function showNode(node, focus) {
  const turn = ++showing;
  document.body.classList.add("opened");
  panel.hidden = false;
  tree.draw();
  if (tree.active === node && WIDE.matches && !list.hidden) tree.reveal(node);
  let content;
  try {
    const details = await detailsOf(node);
    if (turn !== showing) return;
    content = detailOf(node, details);
  } catch (trouble) {
    if (turn !== showing) return;
    content = [h("p.note", "The details cannot be unpacked here: " + trouble.message + ". They are in conductor_status_report.json beside this page.")];
  }
  const at = tree.rows.indexOf(node);
  panel.className = "panel s-" + node.row.status;
  const name = wayTo(node);
  panel.setAttribute("aria-label", name);
  panel.replaceChildren(h("div.panel-head",
    h("div.panel-bar", badge(node.row.status), h("span.note", duration(node.row.seconds)),
      node.row.orphan ? h("span.tag.orphan", "not stored") : null,
      node.row.earlier ? h("span.tag.earlier", "earlier result") : null,
      h("span.fill"),
      button("\u2039", () => step(-1), { class: "icon", "aria-label": "Previous instance", disabled: at <= 0 }),
      button("\u203a", () => step(1), { class: "icon", "aria-label": "Next instance", disabled: at < 0 || at + 1 >= tree.rows.length }),
      copyButton(() => location.href.split("#")[0] + "#id=" + inAddress(node.key), "Link", "link to this instance"),
      button("\u00d7", () => closePanel(), { class: "icon", id: "close", "aria-label": "Close" })),
    h("h2", { id: "panel-name", tabindex: "-1" }, instanceName(name))),
  ...content.flat(Infinity).filter(Boolean));
  panel.scrollTop = 0;
  if (!WIDE.matches) scrollTo(0, 0);
  if (focus && !WIDE.matches) document.getElementById("panel-name").focus({ preventScroll: true });
  else if (focus) announce("Opened " + name + ", " + statusOf(node).word);
}

function step(by) {
  const at = tree.rows.indexOf(byKey.get(state.id));
  const next = tree.rows[at + by];
  if (!next) return;
  openNode(next, true);
  showNode(next, false).then(() => {
    const name = by < 0 ? "Previous instance" : "Next instance";
    const again = panel.querySelector(`[aria-label="${name}"]:not([disabled])`) || document.getElementById("close");
    again.focus();
  });
}

function closePanel(focus = true) {
  if (state.id === null) return;
  showing += 1;
  state.id = null;
  document.body.classList.remove("opened");
  panel.hidden = true;
  panel.replaceChildren();
  if (!WIDE.matches) scrollTo(0, pageScroll);
  tree.drawn = "";
  tree.draw();
  stateChanged();
  if (focus && !list.hidden) list.focus({ preventScroll: true });
}

// --- a session that still runs ------------------------------------------------------------------------------

let paused = false;

function banners() {
  const place = document.getElementById("banners");
  for (const note of head.notes || []) place.append(h("div.banner.s-warning", sign("warning"), h("span", note)));
  if (head.finished !== null || !head.alive) return;
  const { alive, summary } = head;
  const planned = totalOf(summary);
  const silent = (Date.now() - Date.parse(alive.written)) / 1000;
  if (silent > alive.within) {
    document.title = document.title.replace(/^Running: /, "Did not end: ");
    place.append(h("div.banner.s-error", { role: "status" }, sign("error"), h("span", h("strong", "This session did not end properly."),
      " Its last sign of life was " + duration(silent) + " ago (process " + alive.pid + " on " + alive.host + "); " + (planned - summary.not_run) + " of " + planned
      + " were done. ", h("code", "ductaflow report"), " makes the page anew from what is on disk.")));
    // The machine may only have slept: look again now and then.
    later(60);
    return;
  }
  const toggle = button("", () => { paused = !paused; name(); saveState(); }, {});
  const name = () => { toggle.textContent = paused ? "Refresh again" : "Pause the refresh"; };
  name();
  place.append(h("div.banner.running", h("span.pulse", { "aria-hidden": "true" }), h("span", h("strong", "Running"), ": " + (planned - summary.not_run) + " of " + planned + " done, as of " + moment(alive.written)), toggle));
  later(Math.max(Number(document.body.dataset.refresh), alive.next));
}

let touched = 0; // when a person last did something that a refresh would disturb
function later(seconds) {
  setTimeout(function look() {
    if (paused || String(getSelection()) || Date.now() - touched < 1500) { setTimeout(look, 1000); return; }
    saveState();
    location.reload();
  }, 1000 * seconds);
}

// --- start --------------------------------------------------------------------------------------------------

function fromAddress(kept) {
  readAddress();
  box.value = state.q;
  showView(state.view, false);
  apply();
  if (kept && kept.active && byKey.has(kept.active)) tree.active = byKey.get(kept.active);
  if (state.id) return showNode(byKey.get(state.id), false);
  if (!panel.hidden) { document.body.classList.remove("opened"); panel.hidden = true; }
  return Promise.resolve();
}

function listen() {
  for (const element of chips) {
    element.addEventListener("click", () => {
      const { status, scope } = element.dataset;
      if (state.statuses.size && state.scope && state.scope !== scope) state.statuses.clear();
      // Where there is nothing else, an address has only the status.
      state.scope = roots.some(({ row }) => row.earlier) ? scope : "";
      if (!state.statuses.delete(status)) state.statuses.add(status);
      if (state.view !== "list") showView("list", false);
      apply();
      stateChanged();
    });
  }
  for (const element of document.querySelectorAll(".chip[data-query]")) {
    element.addEventListener("click", () => search(element.dataset.query));
  }
  box.addEventListener("input", () => { touched = Date.now(); state.q = box.value; apply(); stateChanged(); });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && (state.q || state.statuses.size)) { event.stopPropagation(); reset(); }
    if (event.key === "ArrowDown" && !list.hidden) { event.preventDefault(); list.focus(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.id !== null) closePanel();
  });
  addEventListener("popstate", (event) => fromAddress(event.state));
  addEventListener("scroll", () => { touched = Math.max(touched, Date.now() - 1000); stateChanged(); }, { passive: true });
  panel.addEventListener("scroll", stateChanged, { passive: true });
  WIDE.addEventListener("change", () => { tree.drawn = ""; tree.draw(); });
  // Closed parts have to be on paper too.
  addEventListener("beforeprint", () => { for (const element of panel.querySelectorAll("details:not([open])")) { element.dataset.printed = ""; element.open = true; } });
  addEventListener("afterprint", () => { for (const element of panel.querySelectorAll("details[data-printed]")) { delete element.dataset.printed; element.open = false; } });
}

function start() {
  history.scrollRestoration = "manual";
  const kept = history.state;
  for (const [name, closed] of (kept && kept.folded) || []) folded.set(name, closed);
  paused = Boolean(kept && kept.paused);
  proportions();
  banners();
  if (!roots.length) return;
  views[0].append(...[causesPart(), h("div.tools", h("label.unseen", { for: "search" }, "Search"), box, shown, help()), unknown, copies, empty, list].filter(Boolean));
  app.append(missing, tabs, h("div.layout", h("div.left", views), panel));
  app.hidden = false;
  listen();
  fromAddress(kept).then(() => {
    if (!kept) return;
    scrollTo(0, kept.scroll || 0);
    panel.scrollTop = kept.panel || 0;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const log = panel.querySelector(".log");
      if (log && kept.log !== null && kept.log !== undefined) log.scrollTop = kept.log;
      const focused = kept.focus && document.getElementById(kept.focus);
      if (focused) focused.focus({ preventScroll: true });
      if (focused === box && kept.caret) box.setSelectionRange(...kept.caret);
      tree.draw();
    }));
  });
}

start();
