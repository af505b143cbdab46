// The search box, the chips of statuses, and what both let through.

const chips = [...document.querySelectorAll(".chip[data-status]")];
const box = h("input", {
  id: "search", type: "search", autocomplete: "off", spellcheck: "false", "aria-label": "Search",
  role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": "suggestions",
  placeholder: "Search: a name, a piece of a message, status:warning, horizon=2030",
});
const shown = h("span.shown", { id: "shown", role: "status" });
const unknown = h("p.unknown", { id: "unknown", role: "status" });
const terms = h("div.terms", { role: "group", "aria-label": "Terms of the search", hidden: true });
const copies = h("div.copies", { hidden: true, role: "group" });
const nothingMatches = (attributes = {}) => h("p.empty", attributes, "Nothing matches. ", button("Show everything", () => reset()));
const empty = nothingMatches({ hidden: true });

let found = roots; // what search and chips let through, in the order of the list
let isFiltered = false;

function apply() {
  const fits = searchTest(state.q);
  const isMeant = (node) => state.statuses.has(node.row.status) && (!state.scope || SCOPES[state.scope](node));
  found = inOrder(state).filter((node) => (!state.statuses.size || isMeant(node)) && fits(node));
  const isOn = ({ status, scope }) => state.statuses.has(status) && (!state.scope || state.scope === scope);
  for (const element of chips) element.setAttribute("aria-pressed", String(isOn(element.dataset)));
  isFiltered = state.statuses.size > 0 || state.q.trim() !== "";
  const words = isFiltered ? found.length.toLocaleString("en") + " of " + roots.length.toLocaleString("en") + " shown" : plural(roots.length, "instance");
  if (shown.textContent !== words) shown.textContent = words;
  const trouble = unknownTerms(state.q).map(({ said }) => said).join(" ");
  if (unknown.textContent !== trouble) unknown.textContent = trouble;
  showTerms();
  causes.follow(state.q, isFiltered);
  empty.hidden = found.length > 0 || roots.length === 0;
  list.hidden = found.length === 0;
  listBar.hidden = found.length === 0;
  tree.show(found);
  makeView();
  showCopies(found.filter((node) => statusOf(node).is_error || node.row.status === "blocked" || node.row.fails), isFiltered);
}

// The terms that are on, each to be taken away.
function showTerms() {
  const tokens = termsOf(state.q).map(({ token }) => token);
  terms.hidden = !tokens.length;
  if (terms.dataset.shown === tokens.join(" ")) return;
  terms.dataset.shown = tokens.join(" ");
  const without = (index) => asStep(() => {
    setQuery(tokens.filter((_, place) => place !== index).join(" "));
    announce(shown.textContent);
    const left = terms.querySelectorAll("button")[Math.min(index, tokens.length - 2)];
    (left || box).focus();
  });
  terms.replaceChildren(...tokens.map((token, index) => h("span.term", h("code", token), button("\u00d7", () => without(index), { "aria-label": "Remove " + token }))));
}

function setQuery(query) {
  state.q = box.value = query;
  apply();
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
  copies.replaceChildren(...[h("span.note", "Copy", h("span.which", " for " + which), ":"),
    copyButton(() => rerunOfAll(failed), "Run again", plural(failed.length, "command")),
    // A debugger takes one at a time.
    failed.length === 1 && stored.length ? copyButton(() => debugOfAll(stored), "Debug", "1 command") : null,
    stored.length ? copyButton(() => idsOfAll(stored), (stored.length === 1 ? "Node id" : "Node ids") + some, plural(stored.length, "node id")) : null,
  ].filter(Boolean));
}

function search(query) {
  asStep(() => {
    state.statuses.clear();
    sayMissing(null);
    if (!WIDE.matches) closePanel(false);
    if (!isFollowing(state.view)) showView("list");
    setQuery(query);
  });
  announce(shown.textContent);
  box.focus({ preventScroll: true });
  document.querySelector(".ways").scrollIntoView({ block: "nearest" });
}

// Add a term to the search, and stay in the view.
function narrow(term) {
  if (termsOf(state.q).some(({ token }) => token === term)) return;
  asStep(() => setQuery((state.q + " " + term).trim()));
  announce(shown.textContent);
}

function reset() {
  asStep(() => {
    state.statuses.clear();
    sayMissing(null);
    setQuery("");
  });
  box.focus();
}

function pressChip({ status, scope }) {
  asStep(() => {
    if (state.statuses.size && state.scope && state.scope !== scope) state.statuses.clear();
    // Where there is nothing else, an address has only the status.
    state.scope = roots.some(({ row }) => row.earlier) ? scope : "";
    if (!state.statuses.delete(status)) state.statuses.add(status);
    if (!isFollowing(state.view)) showView("list");
    apply();
  });
}

let isTyping = false; // a search that is typed is one step back
function typed() {
  touched = Date.now();
  const change = () => setQuery(box.value);
  if (isTyping) {
    change();
    stateChanged();
  } else {
    isTyping = true;
    asStep(change);
  }
}

function help() {
  const row = (term, meaning) => h("div", h("dt", button(term, () => { element.open = false; search(term); }, { class: "link" })), h("dd", meaning));
  // Examples that find something here, as far as there is something.
  const first = (found, otherwise) => { for (const node of roots) { const one = found(node); if (one) return one; } return otherwise; };
  const element = h("details.help", h("summary", "What can be searched"), h("dl",
    row(asTerm(first(({ row: { id } }) => id.slice(id.indexOf("/") + 1))), "a piece of a name, of a message or of a flow of a build"),
    row("status:error,blocked", "the status: " + VALUES.status.told.join(", ")),
    row("flow:" + asValue(first(({ row: { flow } }) => flow) + "*"), "the flow or build; * stands for anything"),
    row("id:" + asValue(first(({ row: { id } }) => id)), "the whole name; * stands for anything"),
    row("kind:" + first(({ row: { kind } }) => kind, "flow"), "flow or build"),
    row("tag:" + asValue(first(({ row: { tags } }) => tags && tags[0], "slow")), "a tag of _run"),
    row(first((node) => parametersOf(node).map(parameterTerm)[0], "horizon=2030"), "a parameter of the config, also nested: database.host or host"),
    row("seconds>" + first(({ row: { seconds } }) => seconds && String(Math.floor(seconds)), "1"), "a number: <, <=, >, >=, a..b; of a parameter or metric by its name, of seconds>2min, memory>2GB, warnings>0, started>11:30 (UTC)"),
    row("cause:" + first(({ row: { cause } }) => cause, "timeout"), "why it failed: " + Object.keys(CAUSE).join(", ")),
    row("is:new", "an error that the last session with a result of it did not have; is:fixed for those that are good now, is:flaky for good and error by turns, is:slower for more than twice the usual seconds"),
    first(({ row: { worker } }) => worker) ? row("worker:" + asValue(first(({ row: { worker } }) => worker)), "the worker that ran it") : null,
    row("is:session", "what this session touched; is:earlier for earlier results"),
    roots.some(({ row: { orphan } }) => orphan) ? row("is:orphan", "a run of nothing that is stored (any more); is:stored for all others") : null,
    roots.some(({ row: { judged } }) => judged) ? row("is:judged", "compared with what is expected of it; is:unexpected for those that differ") : null,
    roots.some(({ row: { moved } }) => moved) ? row("is:moved", "a metric is not what it was in the last good run before; moved.NAME>0 for how much") : null,
    head.failing ? row("is:failing", "its test fails although its run is good: a new warning, for example") : null,
    row("-status:success", "a minus: not this. Several terms must all fit; \"quotes\" keep words together")));
  // It lies over the page: Escape and a press beside it close it.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !element.open) return;
    event.stopPropagation();
    element.open = false;
    element.firstChild.focus();
  }, true);
  for (const moment of ["pointerdown", "focusin"]) document.addEventListener(moment, (event) => { if (!element.contains(event.target)) element.open = false; });
  return element;
}
