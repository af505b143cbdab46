// Some instances side by side: what differs in their configs and metrics, their figures, the lines of their logs.

const MAX_COMPARED = 4;
const MAX_LOG_LINES = 2000; // of each log

// --- what is compared ---------------------------------------------------------------------------------------

// Choose an instance, or let it go.
function toggleCompared(node) {
  if (!state.compared.delete(node.key)) {
    if (state.compared.size === MAX_COMPARED) {
      announce("At most " + MAX_COMPARED + " can be compared");
      return;
    }
    state.compared.add(node.key);
  }
  comparedChanged();
  announce(node.row.id + (state.compared.has(node.key) ? " is chosen" : " is not chosen any more") + "; " + state.compared.size + " to compare");
  stateChanged();
}

function comparedChanged() {
  const chosen = comparedNodes();
  const view = document.getElementById("view-compare");
  const [inBar, inView] = [compareBar, view].map((one) => one.contains(document.activeElement));
  compareBar.hidden = chosen.length === 0 || state.view === "compare";
  compareBar.replaceChildren(h("span.note", chosen.length < 2 ? "Choose one more to compare:" : "To compare:"),
    ...chosen.map((node) => h("span.chosen", wayTo(node), button("\u00d7", () => toggleCompared(node), { class: "icon", "aria-label": "Do not compare " + node.row.id }))),
    button("Compare " + chosen.length, () => goTo("compare"), { class: "copy primary", disabled: chosen.length < 2 }),
    button("Clear", () => { state.compared.clear(); comparedChanged(); stateChanged(); }, { class: "copy" }));
  document.getElementById("tab-compare").hidden = chosen.length < 2 && state.view !== "compare";
  fadeTabs();
  madeOf.delete("compare");
  if (state.view === "compare") makeView();
  tree.drawn = "";
  tree.draw();
  // What had the focus is not there any more.
  if (inBar) (compareBar.querySelector("button:not(:disabled)") || list).focus({ preventScroll: true });
  if (inView) document.getElementById("tab-compare").focus({ preventScroll: true });
}

const comparedNodes = () => [...state.compared].map((key) => byKey.get(key));

const compareBar = h("div.compare-bar", { hidden: true, role: "region", "aria-label": "What is to be compared" });

// Compare just these, from wherever one is.
function compareNodes(chosen) {
  asStep(() => {
    state.compared = new Set(chosen.map((node) => node.key));
    goTo("compare");
    comparedChanged();
  });
  document.getElementById("tab-compare").focus({ preventScroll: true });
  scrollTo(0, 0);
}

// The good instance of the same flow with the most parameters of the same value; the first of several.
function nearestGood(node) {
  if (node.parent) return null;
  const own = new Map(parametersOf(node));
  let [best, most] = [null, -1];
  for (const other of roots) {
    if (other === node || other.row.flow !== node.row.flow || !statusOf(other).is_good) continue;
    const same = parametersOf(other).filter(([name, value]) => own.get(name) === value).length;
    if (same > most) [best, most] = [other, same];
  }
  return best;
}

// --- the view -----------------------------------------------------------------------------------------------

function compareView() {
  const nodes = comparedNodes();
  if (nodes.length < 2) return h("p.empty", "Choose two to four instances in the list: with the box at the end of a row, Shift and a click, or the key x.");
  const place = h("div.compare", h("p.note", "Unpacking."));
  Promise.all(nodes.map(detailsOf)).then((all) => place.replaceChildren(...comparison(nodes, nodes.map((node, index) => factsOf(node, all[index])))),
    (trouble) => place.replaceChildren(notUnpacked(trouble)));
  return place;
}

function comparison(nodes, all) {
  return [
    comparedTable(nodes, all, "Runs", runRows(nodes, all), { always: true, note: commitNote(all) }),
    comparedTable(nodes, all, "Metrics", rowsOf(all.map(({ metrics: own }) => own || {}), (value) => valueText(value), differenceText)),
    comparedTable(nodes, all, "Config", rowsOf(all.map(({ config: own }) => own || {}), String)),
    figuresBeside(nodes, all),
    logsBeside(nodes, all),
    diffCommands(nodes, all),
  ].filter(Boolean);
}

const commitTold = ({ environment }) => (environment && environment.git ? environment.git.commit.slice(0, 10) + (environment.git.dirty ? ", with changes" : "") : "");
const areSame = (texts) => texts.every((text) => text === texts[0]);

// Facts of the runs. Time and memory are never the same, so that they are no difference.
function runRows(nodes, all) {
  const rows = [
    ["Status", (it) => it.status + " " + isDiffering(it), (node) => h("span.s-" + node.row.status, badgeOf(node.row))], ["Message", (it) => it.message || it.line || ""],
    ["Duration", (it) => duration(it.seconds), null], ["Memory", (it) => size(it.peak_memory), null], ["Warnings", (it) => String(it.warningCount)],
    ["Started", (it) => moment(it.started), null], ["Commit", commitTold],
  ];
  return rows.map(([name, textOfIt, shownAs]) => {
    const texts = all.map(textOfIt);
    return { name, cells: shownAs ? nodes.map(shownAs) : texts, differs: shownAs !== null && !areSame(texts), isKnown: texts.some(Boolean) };
  }).filter(({ isKnown }) => isKnown);
}

// Runs of different commits may differ for their code; what was changed and not committed is in no commit.
function commitNote(all) {
  const commits = all.map(commitTold);
  const known = commits.filter(Boolean);
  if (!areSame(known.map((told) => told.slice(0, 10)))) return "The runs were made by different commits: their code may differ too.";
  if (!areSame(known)) return "Some runs were made with changes that are in no commit: their code may differ too.";
  return known.length && known.length < commits.length ? "The commit of some runs is not known: their code may differ too." : "";
}

// A row for each key of some objects: what is not the same, and how far from the first.
function rowsOf(objects, text, difference) {
  const keys = [...new Set(objects.flatMap(Object.keys))];
  return keys.map((name) => {
    const differs = objects.some((own) => Object.hasOwn(own, name) !== Object.hasOwn(objects[0], name) || own[name] !== objects[0][name]);
    const cells = objects.map((own, index) => {
      if (!Object.hasOwn(own, name)) return h("span.note", "not given");
      const by = difference && index && Object.hasOwn(objects[0], name) ? difference(objects[0][name], own[name]) : "";
      return [text(own[name]), by && own[name] !== objects[0][name] ? h("span.by", " " + by) : null];
    });
    return { name, cells, differs };
  });
}

// A table with a column for each run; rows that differ, and the others on demand.
function comparedTable(nodes, all, title, rows, { always = false, note: said = "" } = {}) {
  if (!rows.length) return null;
  const different = rows.filter(({ differs }) => differs);
  const alike = rows.length - different.length;
  const box = h("input", { type: "checkbox", change: fill });
  const body = h("tbody");
  const beside = h("table.config.beside",
    h("thead", h("tr", h("th", { scope: "col" }, always ? h("span.unseen", "Fact") : title === "Config" ? "Key" : "Metric"), nodes.map((node) => h("th", { scope: "col" }, button(instanceName(wayTo(node)), () => openNode(node), { class: "link" }),
      always && nodes.length > 2 ? button("\u00d7", () => toggleCompared(node), { class: "icon small", "aria-label": "Do not compare " + wayTo(node) }) : null)))), body);
  beside.style.setProperty("--runs", nodes.length);
  function fill() {
    body.replaceChildren(...(always || box.checked ? rows : different).map(({ name, cells, differs }) => h("tr" + (differs ? ".differs" : ""), h("th", { scope: "row" }, name), cells.map((cell) => h("td", cell)))));
  }
  fill();
  const note = always ? "" : different.length ? different.length + " of " + rows.length + " differ" : "no difference in " + rows.length;
  return h("section", h("h2", title, note ? h("span.note", " " + note) : null),
    said ? h("p.note", said) : null,
    !always && alike ? h("label.only", box, " Also " + plural(alike, "row") + " without a difference") : null,
    region("div.scroll", title, beside));
}

function figuresBeside(nodes, all) {
  const cells = [...new Set(all.flatMap((it) => (it.figures || []).map(({ cell }) => cell)))].sort((a, b) => a - b);
  if (!cells.length) return null;
  return h("section", h("h2", "Figures"), cells.map((cell) => h("div.beside-figures", { "data-cell": cell }, h("h3", "Cell " + cell),
    h("div.side-by-side", nodes.map((node, index) => {
      const own = (all[index].figures || []).filter((figure) => figure.cell === cell);
      return h("figure", h("figcaption", wayTo(node)), own.length ? own.map((figure) => figureButton(node, figure))
        : h("p.note", all[index].figures_left_out ? "not in this page" : "no figure of this cell"));
    })))));
}

function diffCommands(nodes, all) {
  const [first, ...others] = all.map((it) => quoted(it.target || it.id));
  return h("section", h("h2", "Everything"), h("p.note", "Tables and other files are not in this page; these commands compare every value in them:"),
    h("div.commands", others.map((other) => commandLine("ductaflow diff " + first + " " + other))));
}

// --- logs ---------------------------------------------------------------------------------------------------

// The lines of a log that the page has, as text; where some are missing one line says so.
function logLines(it) {
  const lines = [];
  let at = 1;
  for (const piece of logPieces(it)) {
    if (!piece.text) continue;
    if (piece.line === null || piece.line > at) lines.push("\u22ef");
    const own = piece.text.replace(/\n$/, "").split("\n");
    lines.push(...own);
    at = piece.line === null ? Infinity : piece.line + own.length;
  }
  return { lines: lines.slice(0, MAX_LOG_LINES), isCut: lines.length > MAX_LOG_LINES || lines.includes("\u22ef") };
}

function logsBeside(nodes, all) {
  const logs = all.map(logLines);
  if (logs.every(({ lines }) => !lines.length)) return null;
  return h("section", h("h2", "Logs"), logs.slice(1).map((log, index) => {
    const [old, now] = [nodes[0], nodes[index + 1]];
    const steps = lineSteps(logs[0].lines, log.lines);
    const changed = steps.filter(({ kind }) => kind !== "same").length;
    const cut = logs[0].isCut || log.isCut;
    return h("div.log-diff", h("h3", wayTo(old) + " \u2192 " + wayTo(now)),
      h("p.note", changed ? plural(steps.filter(({ kind }) => kind === "gone").length, "line") + " only in the first, " + plural(steps.filter(({ kind }) => kind === "added").length, "line") + " only in the second." : "No line differs.",
        cut ? " Of what this page has of the logs, " + MAX_LOG_LINES.toLocaleString("en") + " lines at most; the rest is in: " : " ",
        cut ? [all[0], all[index + 1]].filter(({ links: own }) => own && own.log).map((it, place) => [place ? ", " : "", h("a", { href: it.links.log }, "log of " + it.id)]) : null),
      changed ? code("Lines that differ from " + wayTo(old) + " to " + wayTo(now), withContext(steps)) : null);
  }));
}

// The shortest way from one list of lines to another: { kind: same, gone or added, text }.
function lineSteps(old, now) {
  let begin = 0;
  while (begin < old.length && begin < now.length && old[begin] === now[begin]) begin += 1;
  let [a, b] = [old.length, now.length];
  while (a > begin && b > begin && old[a - 1] === now[b - 1]) { a -= 1; b -= 1; }
  // The length of the longest common part behind each pair of places.
  const width = b - begin + 1;
  const lengths = new Uint16Array((a - begin + 1) * width);
  for (let row = a - begin - 1; row >= 0; row -= 1) {
    for (let column = width - 2; column >= 0; column -= 1) {
      lengths[row * width + column] = old[begin + row] === now[begin + column] ? lengths[(row + 1) * width + column + 1] + 1
        : Math.max(lengths[(row + 1) * width + column], lengths[row * width + column + 1]);
    }
  }
  const steps = old.slice(0, begin).map((text) => ({ kind: "same", text }));
  let [row, column] = [0, 0];
  while (begin + row < a || begin + column < b) {
    if (begin + row < a && begin + column < b && old[begin + row] === now[begin + column]) {
      steps.push({ kind: "same", text: old[begin + row] });
      row += 1;
      column += 1;
    } else if (begin + column >= b || (begin + row < a && lengths[(row + 1) * width + column] >= lengths[row * width + column + 1])) {
      steps.push({ kind: "gone", text: old[begin + row] });
      row += 1;
    } else {
      steps.push({ kind: "added", text: now[begin + column] });
      column += 1;
    }
  }
  return [...steps, ...old.slice(a).map((text) => ({ kind: "same", text }))];
}

const LOG_CONTEXT = 2; // lines that are the same, around those that are not

function withContext(steps) {
  const shownSteps = new Set();
  steps.forEach(({ kind }, index) => { if (kind !== "same") for (let near = index - LOG_CONTEXT; near <= index + LOG_CONTEXT; near += 1) shownSteps.add(near); });
  const found = [];
  let skipped = 0;
  const gapLine = () => { if (skipped) found.push(h("span.gap", "\u22ef " + plural(skipped, "line") + " in both \u22ef\n")); skipped = 0; };
  steps.forEach(({ kind, text }, index) => {
    if (!shownSteps.has(index)) { skipped += 1; return; }
    gapLine();
    const sign = { gone: "\u2212", added: "+", same: " " }[kind];
    found.push(h("span.line." + kind, h("span.number", sign + " "), text, "\n"));
  });
  gapLine();
  return found;
}
