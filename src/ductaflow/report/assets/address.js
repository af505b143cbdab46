// What the page shows, which lives in its address, so that a link and a refresh keep it.

const state = { q: "", statuses: new Set(), scope: "", sort: "status", reversed: false, id: null, missing: null, view: "list", expanded: new Set(), options: new Map(), compared: new Set() };
// How a view shows what is shown: rows, part of the time, and flows of the timeline; boxes of the graph; flow, order, columns and axes of the table.
const OPTIONS = ["lanes", "span", "flows", "boxes", "flow", "sort", "cols", "same", "grid", "plot"];

// Which rows the counts of a group are of. An address without one means all.
const SCOPES = {
  session: ({ row }) => !row.earlier,
  known: ({ row }) => !(row.earlier && row.orphan),
};

const inAddress = (text) => encodeURIComponent(text).replace(/%2F/g, "/").replace(/%20/g, "+").replace(/%3A/g, ":").replace(/%3D/g, "=").replace(/%2C/g, ",");

function address() {
  const parts = [];
  // What is compared says by itself that it is compared.
  const usual = state.compared.size > 1 ? "compare" : firstView();
  if (state.view !== usual) parts.push("view=" + state.view);
  if (state.compared.size) parts.push("compare=" + [...state.compared].map(inAddress).join(","));
  if (state.statuses.size) parts.push("status=" + [...state.statuses].join(","));
  if (state.statuses.size && state.scope) parts.push("scope=" + state.scope);
  if (state.q) parts.push("q=" + inAddress(state.q));
  if (state.sort !== "status" || state.reversed) parts.push("order=" + (state.reversed ? "-" : "") + state.sort);
  for (const [name, value] of state.options) parts.push(name + "=" + inAddress(value));
  if (state.id || state.missing) parts.push("id=" + inAddress(state.id || state.missing));
  for (const key of state.expanded) parts.push("open=" + inAddress(key));
  return "#" + parts.join("&");
}

function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  state.q = found.get("q") || "";
  state.view = VIEWS.some(([name]) => name === found.get("view")) ? found.get("view") : (history.state && history.state.view) || firstView();
  state.options = new Map(OPTIONS.filter((name) => found.has(name)).map((name) => [name, found.get(name)]));
  state.statuses = new Set((found.get("status") || "").split(",").filter((status) => ORDER.includes(status)));
  state.scope = Object.hasOwn(SCOPES, found.get("scope")) ? found.get("scope") : "";
  const [, minus, sort] = /^(-?)(.*)$/.exec(found.get("order") || "");
  state.sort = Object.hasOwn(SORTS, sort) ? sort : "status";
  state.reversed = minus === "-" && state.sort === sort;
  // No name has a comma.
  state.compared = new Set((found.get("compare") || "").split(",").filter((key) => byKey.has(key)).slice(0, MAX_COMPARED));
  if (!found.get("view") && state.compared.size > 1) state.view = "compare";
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
    view: state.view, scroll: scrollY, sheet: table.sheet.where(), panel: panel.scrollTop, log: log ? log.scrollTop : null, folded: [...folded], paused,
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

let inStep = false;
// Do what the browser's Back takes back: a filter, a view, another instance.
function asStep(change) {
  if (inStep) return change();
  saveState();
  const left = address();
  inStep = true;
  try {
    return change();
  } finally {
    inStep = false;
    clearTimeout(saving);
    history[address() === left ? "replaceState" : "pushState"](remembered(), "", address());
  }
}

// --- what this browser remembers ----------------------------------------------------------------------------

// A wish of the person for every page: how high rows are, whether there are keys. A browser may keep nothing for files.
function recalled(name) {
  try {
    return localStorage.getItem("ductaflow." + name);
  } catch (refused) {
    return null;
  }
}
function remember(name, value) {
  try {
    localStorage.setItem("ductaflow." + name, value);
  } catch (refused) {
    announce("This browser keeps nothing for this page: the choice holds until it is closed");
  }
}
