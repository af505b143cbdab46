// One instance, in the order of the question: of an error why it failed, of a warning what was said, of all others what
// came of it.

// A part of the panel that folds, and stays as a person left it.
function part(name, title, content, { open = true, note = "" } = {}) {
  const known = folded.get(name);
  const element = h("details.part", { "data-part": name, open: known === undefined ? open : !known },
    h("summary", h("h3", title), note ? h("span.note", note) : null), content);
  element.addEventListener("toggle", () => {
    const isDefault = element.open === open;
    if (isDefault) folded.delete(name);
    else folded.set(name, !element.open);
    stateChanged();
  });
  return element;
}

const folded = new Map(); // name of a part -> whether a person closed it

const code = (label, ...content) => region("pre.code", label, content);

// All that is known of a node. What its row has too, in another shape, is that of its details.
function factsOf(node, details) {
  const { parameters, metrics: own, judged, warnings = [] } = details || {};
  return { ...node.row, ...details, line: node.row.message, warningCount: node.row.warnings || 0, warnings, parameters, metrics: own, judged };
}

// The flow that made a build fail, as its row names it; the node itself for all others.
function originOf(node) {
  let at = node;
  for (const id of (node.row.root && node.row.root.way) || []) {
    const next = at.flows.find((flow) => flow.row.id === id && statusOf(flow).is_error);
    if (!next) return at;
    at = next;
  }
  return at;
}

// The details of a flow at any depth below a node with known details.
function detailsBelow(node, details, flow) {
  if (flow === node) return details;
  const above = detailsBelow(node, details, flow.parent);
  return (above && above.flows && above.flows[flow.place]) || null;
}

function detailOf(node, details) {
  const it = factsOf(node, details);
  const origin = originOf(node);
  // Why a build failed is in one of its flows.
  const its = origin === node ? it : factsOf(origin, detailsBelow(node, details, origin));
  const of = origin === node ? "" : " of " + nameBelow(origin);
  const bar = commands(node, it, origin, its);
  const top = [strip(node), causeLine(node, it, origin, its), bar, details === null ? noDetails(node) : null];
  const shared = [relatives(node), files(it, false), pastPart(node), facts(it, node)];
  if (statusOf(node).is_error) {
    return [...top, notAsExpected(origin, its), source(its), traceback(its, of), sincePart(node, it),
      log(its, "Log" + of), config(it), metrics(it), figures(node, it), howItGotHere(node, origin, details), flowsOf(node), ...shared];
  }
  if (statusOf(node).needs_look || it.fails) {
    return [...top, flowsOf(node), warningKinds(it), log(it), metrics(it), figures(node, it), config(it), sincePart(node, it), judgedPart(it), ...shared];
  }
  return [...top, flowsOf(node), metrics(it), figures(node, it), files(it, true), config(it), sincePart(node, it), judgedPart(it), log(it),
    relatives(node), pastPart(node), facts(it, node)];
}

function noDetails(node) {
  if (!statusOf(node).has_run) return null;
  return h("p.note", "Nothing more is recorded of it.");
}

// --- what it is, and why ------------------------------------------------------------------------------------

const MAX_STRIP = 12; // parameters in one line

// The parameters that differ within the flow of an instance: a click searches.
function strip(node) {
  const differing = node.parent ? null : differingIn(node.row.flow);
  const own = parametersOf(node).filter(([name]) => differing && differing.has(name));
  if (!own.length) return null;
  return h("p.strip", { "aria-label": "Parameters that differ in " + node.row.flow }, own.slice(0, MAX_STRIP).map((pair) =>
    button([h("span.key", pair[0] + "="), pair[1]], () => search(parameterTerm(pair)), { title: "Show all with " + pair[0] + "=" + pair[1] })),
  own.length > MAX_STRIP ? h("span.note", "and " + (own.length - MAX_STRIP) + " more in the config") : null);
}

const placeOf = (failure) => (failure && failure.file ? failure.file + (failure.line ? ":" + failure.line : "") : "");

// How a flow is called inside its build: by its flow alone where both names are one.
const nameBelow = ({ row: { id, flow } }) => (id === flow + "/" + flow ? flow : id);

// The builds above a flow, as links, down to it.
function breadcrumb(node, origin) {
  const nodes = [];
  for (let at = origin; at !== node; at = at.parent) nodes.unshift(at);
  return h("nav.breadcrumb", { "aria-label": "The way to what failed" }, h("span", node.row.id),
    nodes.map((at) => [h("span", { "aria-hidden": "true" }, " \u203a "), button(nameBelow(at), () => openNode(at), { class: "link" })]));
}

function causeLine(node, it, origin, its) {
  const { failure } = its;
  // The message of a run with warnings only counts them; its row has the first one.
  const message = it.status === "warning" ? it.line : its.message || its.line;
  const said = [];
  if (it.fails) {
    said.push(h("strong", "Fails its test"), ": ", h("span.said", it.fails));
  } else if (its.cause && statusOf(node).is_error) {
    said.push(h("strong", CAUSE[its.cause] || its.cause));
    if (placeOf(failure)) said.push(" at ", h("code", placeOf(failure)));
    if (failure && failure.ename) said.push(": ", h("code", failure.ename), failure.evalue ? [": ", h("span.said", firstLine(failure.evalue))] : null);
    else if (message) said.push(": ", h("span.said", message));
  } else if (message) {
    said.push(h("span.said", message));
  }
  // The traceback has the whole text.
  const number = causesOf.get(it.id);
  const same = number ? head.causes[number - 1].instances.length - 1 : 0;
  const row = redInARow(it.id);
  const good = statusOf(node).is_error ? nearestGood(node) : null;
  const notes = [
    it.status === "warning" && it.warningCount > 1 ? h("span.note", "and " + plural(it.warningCount - 1, "more warning line")) : null,
    same > 0 ? button("The same cause in " + plural(same, "other"), () => search("cause:" + number), { class: "link" }) : null,
    good ? button("Compare with the nearest good one", () => compareNodes([good, node]), { class: "link", title: good.row.id }) : null,
    !statusOf(node).is_error || it.earlier || node.parent ? null
      : isNew(node) ? h("span.note", "New: no error in the last session that had a result of it.")
        : row.count === 0 ? null
          : h("span.note", "An error in the last " + (row.count === 1 ? "session" : row.count + " sessions") + " too" + (row.wasNot ? "; before that there was none." : ".")),
  ];
  return [
    origin === node ? null : breadcrumb(node, origin),
    said.length ? clamped(h("p.cause" + (its.cause === "expectation" ? ".differing" : ""), said)) : null,
    notes.some(Boolean) ? h("p.more", notes) : null,
  ];
}

// How the failure of a flow came up to its build: what each build on the way said.
function howItGotHere(node, origin, details) {
  if (origin === node) return null;
  const steps = [];
  for (let at = origin.parent; ; at = at.parent) {
    steps.unshift(at);
    if (at === node) break;
  }
  return part("way", "How it got here", h("ol.steps", steps.map((at) => {
    const its = factsOf(at, detailsBelow(node, details, at));
    return h("li", at === node ? h("strong", at.row.id) : chip(at), h("span.said", its.message || its.line || ""), source(its));
  })), { open: false, note: plural(steps.length, "step") });
}

// A text that is cut after some lines (detail.css), with a button for the rest where there is a rest.
function clamped(text) {
  const more = button("more", () => {
    const open = text.classList.toggle("whole");
    more.textContent = open ? "less" : "more";
    more.setAttribute("aria-expanded", String(open));
  }, { class: "link", hidden: true, "aria-expanded": "false" });
  new ResizeObserver(() => { more.hidden = text.scrollHeight <= text.clientHeight + 1 && !text.classList.contains("whole"); }).observe(text);
  return [text, more];
}

// --- what can be done with one ------------------------------------------------------------------------------

const allCommands = { open: false }; // whether a person wants to see the commands

// One bar: what is copied most, the rest on demand, and the files.
function commands(node, it, origin, its) {
  const root = rootOf(node);
  const rerun = rerunOf(root);
  const own = !node.parent && it.debug;
  const flow = origin === node ? it : its;
  const isFlow = Boolean(origin.parent && flow.target);
  const all = h("div.commands", { hidden: !allCommands.open, id: "commands" },
    commandLine(rerun, node.parent ? "Run its build again" : "Run again"),
    isFlow ? commandLine("ductaflow run " + quoted(flow.target), "Run this flow alone") : null,
    own ? commandLine(own, "Debug") : null,
    isFlow ? commandLine("ductaflow debug " + quoted(flow.target), own ? "Debug the flow" : "Debug") : null,
    it.since_good ? commandLine("ductaflow diff " + quoted(it.target || it.id), "Since the last good run") : null,
    it.nodeid ? commandLine(it.nodeid, "Node id") : null);
  const more = button("All commands", () => {
    allCommands.open = !allCommands.open;
    all.hidden = !allCommands.open;
    more.setAttribute("aria-expanded", String(allCommands.open));
  }, { class: "copy", "aria-expanded": String(allCommands.open), "aria-controls": "commands" });
  return [h("div.actions",
    copyButton(rerun, node.parent ? "Copy run its build again" : "Copy run again", rerun),
    own ? copyButton(own, "Copy debug", own) : isFlow ? copyButton("ductaflow debug " + quoted(flow.target), "Copy debug", "ductaflow debug " + flow.target) : null,
    statusOf(node).is_error ? copyButton(() => issueOf(node, it, origin, its), "Copy as issue", "Markdown for an issue") : null,
    more,
    links(flow.links || flow.bundle ? flow : it)), all];
}

const firstLine = (text) => text.split("\n", 1)[0];

const LINKS = [["log", "Log"], ["html", "HTML", "The notebook as HTML"], ["notebook", "Notebook"], ["config", "Config"]];

// Why a bundle lacks a file, by the name of its link or the path of an output; empty for all other pages.
const whyMissing = ({ bundle }, kind, name) => (bundle ? bundle.why || bundle[kind][name] || "" : "");

function links(it) {
  const found = LINKS.filter(([key]) => it.links && it.links[key]);
  const missing = new Map(); // why -> names
  for (const [key, name] of LINKS) {
    const why = found.some(([known]) => known === key) ? "" : whyMissing(it, "links", key);
    if (why) missing.set(why, [...(missing.get(why) || []), name]);
  }
  if (!found.length && !missing.size) return null;
  return h("span.links", found.map(([key, name, title]) => h("a", { href: it.links[key], title: title || "In the run folder beside this page" }, name)),
    [...missing].map(([why, names]) => h("span.note.missing", names.join(", ") + " not in this bundle: " + why)));
}

// --- source and traceback -----------------------------------------------------------------------------------

function source(it) {
  const failure = it.failure;
  if (!failure || !failure.source.length) return null;
  const place = placeOf(failure);
  return h("figure.source", h("figcaption", place || "Source"),
    code("Source around " + (place || "the failure"), failure.source.map((line) => numbered(line.line, line.text || "", line.line === failure.line ? "here" : ""))));
}

function numbered(number, text, kind) {
  const mark = { here: "\u25b6", warn: "\u26a0" }[kind] || "";
  return h("span.line" + (kind ? "." + kind : ""), { "data-line": number || null },
    h("span.number", { "aria-hidden": "true" }, mark + " " + (number === null ? "" : number)), text, "\n");
}

const FRAME = /^ {2}File "(.+)", line \d+/;
const INSTALLED = /[\\/](?:site|dist)-packages[\\/]([^\\/]+)|^([\w.]+)\/.*\.(?:pyx|pxi|pxd)$/;
const OF_PYTHON = /[\\/]lib[\\/]python3[^\\/]*[\\/]|^<frozen /;

// The package that a frame is of; empty for code of the project.
function packageOf(file) {
  const found = INSTALLED.exec(file);
  return found ? (found[1] || found[2]).replace(/\.py$/, "") : OF_PYTHON.test(file) ? "Python" : "";
}

// A traceback in pieces: lines as they are, and frames in packages that stand one behind the other.
function tracebackPieces(text) {
  const pieces = [];
  let last = null;
  for (const line of text.replace(/\n$/, "").split("\n")) {
    const frame = FRAME.exec(line);
    if (frame || !line.startsWith("    ")) {
      const name = frame ? packageOf(frame[1]) : "";
      if (!last || Boolean(name) !== last.packages.length > 0) pieces.push(last = { packages: [], frames: 0, lines: [] });
      if (name && !last.packages.includes(name)) last.packages.push(name);
      last.frames += Boolean(name);
    }
    last.lines.push(line);
  }
  return pieces;
}

// The traceback, with frames in packages folded where there are several.
function traceback(it, of = "") {
  const text = it.failure && it.failure.traceback;
  if (!text) return null;
  return part("traceback", "Traceback" + of, region("div.code", "Traceback",
    tracebackPieces(text).map(({ packages, frames, lines }) => (frames < 2 ? lines.join("\n") + "\n"
      : h("details.frames", h("summary", plural(frames, "frame") + " in " + listed(packages, 3)), lines.join("\n"))))));
}

// --- since the last good run --------------------------------------------------------------------------------

function sincePart(node, it) {
  const since = it.since_good;
  if (!since) return statusOf(node).is_error && it.started ? part("since", "Since the last good run", h("p.note", "No good run before this one is kept here.")) : null;
  const { changes, unknown, finished } = since;
  const isGood = statusOf(node).is_good;
  const command = "ductaflow diff " + quoted(it.target || it.id);
  return part("since", isGood ? "Since the good run before" : "Since the last good run", [
    changes.length ? h("ul.changes", changes.map((text) => h("li", text))) : h("p", "No change is known."),
    h("p.note", finished ? "It ended " + moment(finished) + ". " : "", unknown.length ? "Not known here: " + unknown.join("; ") + ". " : "", "Every value and line of code: ", h("code", command), " ", copyButton(command, "Copy", command)),
  ], { note: changes.length ? plural(changes.length, "change") : "no change is known", open: !isGood || changes.length > 0 });
}

// --- config -------------------------------------------------------------------------------------------------

function config(it) {
  if (!it.config) return null;
  const columns = [["This run", it.config]];
  if (it.base_config) columns.push(["Base", it.base_config]);
  if (it.good_config) columns.push([STATUS.get(it.status).is_good ? "Good run before" : "Last good run", it.good_config]);
  const keys = [...new Set(columns.flatMap(([, values]) => Object.keys(values)))];
  const differs = (key) => columns.filter(([, values]) => values[key] !== it.config[key]).map(([name]) => name);
  const different = keys.filter((key) => differs(key).length);
  const onlyBox = h("input", { type: "checkbox", checked: different.length > 0 && keys.length > 15, change: fill });
  const body = h("tbody");
  function fill() {
    body.replaceChildren(...(onlyBox.checked ? different : keys).map((key) => {
      const others = differs(key);
      return h("tr" + (others.length ? ".differs" : ""),
        h("th", { scope: "row" }, key, others.length ? h("span.mark", " \u2260", h("span.unseen", " differs from " + others.join(" and "))) : null),
        columns.map(([, values]) => h("td", key in values ? h("span", values[key]) : h("span.note", "not given"))));
    }));
  }
  fill();
  const summary = columns.length === 1 ? plural(keys.length, "key") : different.length ? different.length + " of " + keys.length + " differ" : "no difference";
  return part("config", "Config", [
    columns.length > 1 && different.length ? h("label.only", onlyBox, " Only what differs") : null,
    region("div.scroll", "Config", h("table.config", headOf(["Key", ...columns.map(([name]) => name)]), body)),
    it.config_left_out ? h("p.note", plural(it.config_left_out, "more key") + " in the config.") : null,
  ], { note: summary });
}

// --- metrics ------------------------------------------------------------------------------------------------

// Metrics with what they were in the last good run before, where that is another value.
function metrics(it) {
  const found = Object.entries(it.metrics || {});
  if (!found.length) return null;
  const before = it.metrics_before || {};
  const gone = Object.keys(before).filter((name) => !Object.hasOwn(it.metrics, name));
  const spelled = (value) => (value === null ? "NaN" : String(value));
  const moved = found.filter(([name]) => Object.hasOwn(before, name));
  return part("metrics", "Metrics", [
    region("div.scroll", "Metrics", h("table.config.metrics",
      moved.length ? headOf(["Metric", "This run", "Good run before", "Difference"]) : null,
      h("tbody", found.map(([name, value]) => {
        const isMoved = Object.hasOwn(before, name);
        return h("tr" + (isMoved ? ".differs" : ""), h("th", { scope: "row" }, name), h("td", spelled(value)),
          moved.length ? [h("td", isMoved ? spelled(before[name]) : h("span.note", "the same")), h("td", isMoved ? differenceText(before[name], value) : "")] : null);
      })))),
    gone.length ? h("p.note", "Gone since: " + listed(gone, 8) + ".") : null,
    it.metrics_left_out ? h("p.note", plural(it.metrics_left_out, "more metric") + " in the result.") : null,
  ], { note: String(found.length + (it.metrics_left_out || 0)) + (moved.length ? ", " + moved.length + " moved" : "") });
}

// `+0.41 (+12.3 %)`: new minus old; empty where one of them is no number.
function differenceText(old, now) {
  if (typeof old !== "number" || typeof now !== "number") return "";
  const signed = (number, text) => (number > 0 ? "+" : number < 0 ? "\u2212" : "") + text;
  const by = now - old;
  const share = old ? 100 * by / Math.abs(old) : 0;
  return signed(by, numberText(Math.abs(by))) + (share ? " (" + signed(share, Number(Math.abs(share).toPrecision(3))) + " %)" : "");
}

// --- flows, upstreams, files, facts -------------------------------------------------------------------------

const chip = (node) => button([sign(isDiffering(node.row) ? DIFFERS.sign : node.row.status), h("span", node.row.id), h("span.unseen", ", " + statusOf(node).word)],
  () => openNode(node), { class: "ref s-" + node.row.status });

function flowsOf(node) {
  if (!node.flows.length) return null;
  return part("flows", "Flows of this build", h("ul.refs", node.flows.map((flow) => h("li", chip(flow),
    h("span.note", duration(flow.row.seconds)), flow.row.message ? h("span.message", flow.row.message) : null))), { note: String(node.flows.length) });
}

function relatives(node) {
  const list = (title, items) => (items.length
    ? h("div", h("h4", title), h("p.refs", items.slice(0, 30), items.length > 30 ? h("span.note", "and " + (items.length - 30) + " more") : null)) : null);
  const above = (node.row.upstreams || []).map((id) => (byKey.has(id) ? chip(byKey.get(id)) : h("code", id)));
  const below = node.parent ? [] : (readers.get(node.row.id) || []).map(chip);
  const partOf = node.parent ? [chip(node.parent)] : [];
  if (!above.length && !below.length && !partOf.length) return null;
  return part("relatives", "Around it", [list("Flow of", partOf), list("Reads from", above), list("Is read by", below)]);
}

function files(it, open) {
  const inputs = it.inputs || [];
  const outputs = it.outputs || [];
  if (!inputs.length && !outputs.length) return null;
  const list = (title, found, more, linked) => (found.length ? h("div", h("h4", title), h("ul.files", found.map((file) => h("li",
    linked(file.path) ? h("a", { href: linked(file.path) }, file.path) : h("code", file.path || ""), " ", h("span.note", size(file.size),
      linked !== unlinked && whyMissing(it, "outputs", file.path) ? ", not in this bundle: " + whyMissing(it, "outputs", file.path) : ""))),
  more ? h("li.note", "and " + more + " more") : null)) : null);
  const folder = it.folder && !it.folder.startsWith("/") && !it.folder.includes(":") ? it.folder : null;
  const inFolder = (path) => (folder + "/" + path).split("/").map(encodeURIComponent).join("/");
  const unlinked = () => null;
  return part("files", "Files", [
    list("Written", outputs, it.outputs_left_out, it.bundle ? (path) => it.bundle.held[path] : folder ? inFolder : unlinked),
    list("Read", inputs, it.inputs_left_out, unlinked),
  ], { note: [inputs.length ? inputs.length + " read" : "", outputs.length ? outputs.length + " written" : ""].filter(Boolean).join(", "), open });
}

function facts(it, node) {
  const cells = it.cells || {};
  const environment = it.environment || {};
  const git = environment.git || {};
  const failed = it.failure && it.failure.cell ? ", stopped in cell " + it.failure.cell : "";
  const said = [
    ["Status of its last run", it.former_status && wordOf(it.former_status)], ["Run folder", it.folder], ["Started", it.started && when(it.started)], ["Duration", duration(it.seconds)],
    ["Cells", cells.total ? cells.run + " of " + cells.total + " ran" + failed : ""],
    ["Exit code", it.exit_code === undefined || it.exit_code === null ? "" : String(it.exit_code)],
    ["Signal", it.signal], ["Peak memory", size(it.peak_memory)], ["Worker", it.worker],
    ["Tags", (it.tags || []).join(", ")], ["Config hash", it.config_hash && it.config_hash.slice(0, 16)],
    ["Python", environment.python], ["Platform", environment.platform], ["Host", environment.host],
    ["Commit", git.commit ? git.commit.slice(0, 12) + (git.dirty ? ", with changes" : "") : ""],
    ...Object.entries(it.parameters || {}),
  ].filter(([, value]) => value);
  if (!said.length) return null;
  const packages = Object.entries(environment.packages || {});
  return part("facts", "Run", [
    h("dl", said.map(([name, value]) => h("div", h("dt", name), h("dd", value instanceof Node ? value : String(value))))),
    packages.length ? h("details.packages", h("summary", plural(packages.length, "package")), h("p", packages.map(([name, version]) => h("code", name + " " + version + " ")))) : null,
  ]);
}

// --- what can be typed --------------------------------------------------------------------------------------

const rootOf = (node) => (node.parent ? rootOf(node.parent) : node);

const rerunOf = ({ row }) => row.rerun || (row.nodeid ? "ductaflow run " + quoted(row.id) : "");

// One command for all that one can run, else one a line. Of some blocked ones, it first runs what they wait for.
function rerunOfAll(found) {
  const lines = found.map(rerunOf);
  const isTest = (line) => line.startsWith("pytest --ductaflow ");
  const stored = found.filter((node) => node.row.nodeid && !isTest(rerunOf(node)));
  const tests = found.filter((node) => node.row.nodeid && isTest(rerunOf(node)));
  const joined = (command, parts) => (parts.length ? [[command, ...parts.map(quoted)].join(" \\\n  ")] : []);
  const first = lines.some((line) => line.startsWith("ductaflow run --upstream ")) ? "ductaflow run --upstream" : "ductaflow run";
  return [
    ...joined(first, stored.map((node) => node.row.id)),
    ...joined("pytest --ductaflow", tests.map((node) => node.row.nodeid)),
    ...found.filter((node) => !node.row.nodeid).map(rerunOf),
  ].join("\n");
}

// Of stored instances.
const debugOfAll = (stored) => stored.map((node) => "ductaflow debug " + quoted(node.row.id)).join("\n");
const idsOfAll = (stored) => stored.map((node) => node.row.nodeid).join("\n");
