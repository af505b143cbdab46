// The page: its parts, its views, and its start.

const app = document.getElementById("app");
const WIDE = matchMedia("(min-width: 1000px)");

const VIEWS = [["list", "Instances", null], ["timeline", "Timeline", timelineView], ["graph", "Graph", graphView], ["trend", "Trend", trendView]];

const missing = h("p.unknown", { id: "missing", role: "status" });
const list = h("div.tree", { id: "list", role: "tree", tabindex: "0", "aria-label": "Instances" });
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
