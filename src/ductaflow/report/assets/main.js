// The page: its parts, its views, and its start.

const app = document.getElementById("app");
const WIDE = matchMedia("(min-width: 1000px)");

const VIEWS = [["list", "Instances", null], ["table", "Table", () => table.show(found), true], ["timeline", "Timeline", () => timeline.show(found), true], ["graph", "Graph", () => graph.show(found), true], ["trend", "Trend", trendView], ["compare", "Compare", compareView]];

const missing = h("p.unknown", { id: "missing", role: "status" });
const list = h("div.tree", { id: "list", role: "tree", tabindex: "0", "aria-label": "Instances" });
const tabs = h("div.tabs", { role: "tablist", "aria-label": "Views" }, VIEWS.map(([name, title]) => h("button.tab", {
  type: "button", role: "tab", id: "tab-" + name, "aria-controls": "view-" + name, click: () => goTo(name), keydown: tabKey,
}, title)));
const views = VIEWS.map(([name]) => h("section.view", { id: "view-" + name, role: "tabpanel", "aria-labelledby": "tab-" + name, hidden: true }));
const tree = new Tree(list, state, openNode, stateChanged);
const table = new TableView();
const timeline = new Timeline();
const graph = new Graph();

function tabKey(event) {
  const names = VIEWS.map(([name]) => name).filter((name) => !document.getElementById("tab-" + name).hidden);
  const at = names.indexOf(state.view);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  goTo(names[(next + names.length) % names.length]);
  document.getElementById("tab-" + state.view).focus();
}

function sayMissing(id) {
  state.missing = id;
  missing.textContent = id ? id + " is not in this report." : "";
}

const isView = (name) => VIEWS.some(([view]) => view === name);
// Whether a view shows what the search finds; search and chips lead from the others to the list.
const isFollowing = (name) => name === "list" || VIEWS.some(([view, , , follows]) => view === name && follows);

const madeOf = new Map(); // view -> what was found when it was made

function showView(name) {
  state.view = name;
  VIEWS.forEach(([view], index) => {
    const on = view === name;
    const tab = tabs.children[index];
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    views[index].hidden = !on;
  });
  compareBar.hidden = name === "compare" || !state.compared.size;
  document.getElementById("tab-compare").hidden = name !== "compare" && state.compared.size < 2;
  revealTab();
  makeView();
  if (name === "list") tree.draw();
  stateChanged();
}

// Go to a view, as a step that Back takes back. To compare needs the room of the panel.
function goTo(name) {
  asStep(() => {
    if (name === "compare") closePanel(false);
    showView(name);
  });
}

// On a narrow screen the tabs scroll: the one of the view is seen, and an edge behind which there are more fades.
function revealTab() {
  const tab = document.getElementById("tab-" + state.view);
  const [from, to] = [tab.offsetLeft - tabs.offsetLeft, tab.offsetLeft - tabs.offsetLeft + tab.offsetWidth];
  if (from < tabs.scrollLeft + TAB_EDGE || to > tabs.scrollLeft + tabs.clientWidth - TAB_EDGE) tabs.scrollLeft = from - (tabs.clientWidth - tab.offsetWidth) / 2;
  fadeTabs();
}
const TAB_EDGE = 32; // pixels that fade, as in list.css

function fadeTabs() {
  tabs.toggleAttribute("data-before", tabs.scrollLeft > 1);
  tabs.toggleAttribute("data-behind", tabs.scrollLeft + tabs.clientWidth < tabs.scrollWidth - 1);
}

function makeView() {
  const index = VIEWS.findIndex(([name]) => name === state.view);
  const [name, , make, follows] = VIEWS[index];
  if (!make || (madeOf.has(name) && (!follows || madeOf.get(name) === found))) return;
  madeOf.set(name, found);
  const made = [make()].flat().filter(Boolean);
  // One element that follows by itself stays, with its focus and its scroll.
  if (made.length !== 1 || made[0] !== views[index].firstChild) views[index].replaceChildren(...made);
}

// With which view the page opens: with the failures, and where there are none with what the runs found.
const firstView = once(() => {
  const isGood = head.finished !== null && !roots.some((node) => statusOf(node).is_error || node.row.status === "blocked" || node.row.fails);
  return isGood && roots.some(({ row }) => row.metrics) ? "table" : "list";
});

function proportions() {
  const bar = document.getElementById("bar");
  if (!bar) return;
  const scope = chips.some(({ dataset }) => dataset.scope === "known") ? "known" : "session";
  for (const { dataset } of chips) if (dataset.scope === scope) bar.append(share(dataset.status, dataset.count));
}

// Above the list: how it is sorted and how high its rows are.
const sortBy = h("select", { id: "sort", change: () => asStep(() => { state.sort = sortBy.value; state.reversed = false; apply(); }) },
  Object.entries(SORTS).map(([name, { told }]) => h("option", { value: name }, told)));
const turn = button("\u21c5", () => asStep(() => { state.reversed = !state.reversed; apply(); }), { class: "icon", "aria-label": "The other way round", title: "The other way round" });
const density = button("", () => {
  tree.setDensity(tree.density === "compact" ? "comfortable" : "compact");
  remember("rows", tree.density);
  nameDensity();
}, { class: "copy" });
const listBar = h("div.list-bar", h("label", { for: "sort" }, "Sorted by"), sortBy, turn, density, copies);

function nameDensity() {
  const isCompact = tree.density === "compact";
  density.textContent = isCompact ? "Comfortable" : "Compact";
  density.title = isCompact ? "Higher rows, with the message below the name" : "Lower rows, so that more of them are on the screen";
}

// Of the errors those that are red for their numbers alone.
function differing() {
  const group = document.querySelector(".top .chips");
  const count = roots.filter(({ row }) => isDiffering(row) && !row.earlier).length;
  if (!count || !group) return;
  group.append(h("button.chip.s-error", { type: "button", title: "Of the errors: they ran, and what they found is not as expected", click: () => search("cause:expectation is:session") },
    sign(DIFFERS.sign), h("strong", count.toLocaleString("en")), " ", h("span", count === 1 ? "differs" : "differ")));
}

function fromAddress(kept) {
  readAddress();
  sortBy.value = state.sort;
  showView(state.view);
  comparedChanged();
  setQuery(state.q);
  const opened = state.id && byKey.get(state.id);
  const active = kept && byKey.get(kept.active);
  if (active || opened) tree.active = tree.rows.find((node) => node === (active || opened)) || null;
  tree.drawn = "";
  if (opened) return showNode(opened, false);
  if (!panel.hidden) { showing += 1; document.body.classList.remove("opened"); panel.hidden = true; panel.replaceChildren(); tree.draw(); }
  return Promise.resolve();
}

// What was on the screen when this step was left.
function showAgain(kept) {
  scrollTo(0, kept.scroll || 0);
  if (kept.sheet) table.sheet.goBack(kept.sheet);
  panel.scrollTop = kept.panel || 0;
}

function listen() {
  for (const element of chips) element.addEventListener("click", () => pressChip(element.dataset));
  for (const element of document.querySelectorAll(".chip[data-query]")) {
    element.addEventListener("click", () => search(element.dataset.query));
  }
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the fragment has what is shown
    const view = views[VIEWS.findIndex(([name]) => name === state.view)];
    (state.view === "list" && !list.hidden ? list : view.querySelector("button, a, input, select, [tabindex='0']") || tabs.children[0]).focus();
  });
  box.addEventListener("input", () => { typed(); suggesting.soon(); });
  box.addEventListener("click", () => { if (!box.value) suggesting.open(); });
  box.addEventListener("blur", () => { isTyping = false; suggesting.close(); });
  box.addEventListener("keydown", (event) => {
    if (suggesting.key(event)) return;
    if (event.key === "Escape" && (state.q || state.statuses.size)) { event.stopPropagation(); reset(); }
    if (event.key === "ArrowDown" && state.view === "list" && !list.hidden) { event.preventDefault(); list.focus(); }
  });
  document.addEventListener("keydown", pressKey);
  addEventListener("popstate", (event) => fromAddress(event.state).then(() => { if (event.state) showAgain(event.state); }));
  addEventListener("scroll", () => { touched = Math.max(touched, Date.now() - 1000); stateChanged(); }, { passive: true });
  panel.addEventListener("scroll", stateChanged, { passive: true });
  tabs.addEventListener("scroll", fadeTabs, { passive: true });
  new ResizeObserver(revealTab).observe(tabs);
  WIDE.addEventListener("change", () => { tree.drawn = ""; tree.draw(); });
  // Closed parts have to be on paper too.
  addEventListener("beforeprint", () => { for (const element of panel.querySelectorAll("details:not([open])")) { element.dataset.printed = ""; element.open = true; } });
  addEventListener("afterprint", () => { for (const element of panel.querySelectorAll("details[data-printed]")) { delete element.dataset.printed; element.open = false; } });
}

// The search reads all texts; they are made before somebody asks, a piece at a time.
function makeTexts(from) {
  const to = Math.min(from + 400, roots.length);
  for (let index = from; index < to; index += 1) textOf(roots[index]);
  if (to < roots.length) setTimeout(makeTexts, 0, to);
}

function start() {
  history.scrollRestoration = "manual";
  const kept = history.state;
  for (const [name, closed] of (kept && kept.folded) || []) folded.set(name, closed);
  paused = Boolean(kept && kept.paused);
  proportions();
  differing();
  document.querySelectorAll("time").forEach(inPlace);
  banners();
  if (!roots.length) return;
  const wish = recalled("rows");
  tree.setDensity(Object.hasOwn(HEIGHTS, wish) ? wish : innerWidth < 640 ? "comfortable" : "compact");
  nameDensity();
  const moved = movedButton();
  views[0].append(...[causes.part(), moved ? h("p.moved-box", moved) : null, listBar, empty, list].filter(Boolean));
  const keys = button("Keys", () => showSheet(), { class: "link keys", "aria-haspopup": "dialog" });
  app.append(missing, h("div.ways", tabs, h("div.tools", h("div.finder", box, suggestions), shown, help(), keys)), hint, unknown, terms,
    h("div.layout", h("div.left", views), panel), compareBar, sheet);
  app.hidden = false;
  listen();
  setTimeout(makeTexts, 400, 0);
  fromAddress(kept).then(() => {
    if (!kept) return;
    showAgain(kept);
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
