// One instance: why it is as it is, and what to type.

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

const code = (label, ...content) => h("pre.code", { tabindex: "0", role: "region", "aria-label": label }, content);

function detailOf(node, details) {
  // A row has these too, in another shape.
  const whole = details || {};
  const it = { ...details, ...node.row, parameters_said: whole.parameters, metrics: whole.metrics, judged: whole.judged };
  const known = details !== null;
  return [
    causeLine(node, it, details),
    commands(node, it),
    known ? null : noDetails(node),
    flowsOf(node),
    source(it),
    it.failure && it.failure.traceback
      ? part("traceback", "Traceback", code("Traceback", it.failure.traceback)) : null,
    known ? log(it, details) : null,
    metrics(it),
    figures(it),
    known ? config(it) : null,
    relatives(node),
    files(it),
    pastPart(node),
    facts(it, node),
  ];
}

function noDetails(node) {
  if (!statusOf(node).has_run) return null;
  return h("p.note", "Nothing more is recorded of it.");
}

function causeLine(node, it, details) {
  const failure = it.failure;
  // The message of a run with warnings only counts them; its row has the first one.
  const message = it.status === "warning" ? it.message : (details && details.message) || it.message;
  const said = [];
  if (it.fails) {
    said.push(h("strong", "Fails its test"), ": ", h("span.said", it.fails));
  } else if (it.cause && statusOf(node).is_error) {
    said.push(h("strong", CAUSE[it.cause] || it.cause));
    if (failure && failure.file) said.push(" at ", h("code", failure.file + (failure.line ? ":" + failure.line : "")));
    if (failure && failure.ename) said.push(": ", h("code", failure.ename), failure.evalue ? [": ", h("span.said", firstLine(failure.evalue))] : null);
    else if (message) said.push(": ", h("span.said", message));
  } else if (message) {
    said.push(h("span.said", message));
  }
  // The traceback has the whole text.
  const number = causesOf.get(it.id);
  const same = number ? head.causes[number - 1].instances.length - 1 : 0;
  const row = redInARow(it.id);
  const notes = [
    it.status === "warning" && it.warnings > 1 ? h("span.note", "and " + plural(it.warnings - 1, "more warning line")) : null,
    same > 0 ? button("The same cause in " + plural(same, "other"), () => search("cause:" + number), { class: "link" }) : null,
    !statusOf(node).is_error || it.earlier || node.parent ? null
      : isNew(node) ? h("span.note", "New: no error in the last session that had a result of it.")
        : row.count === 0 ? null
          : h("span.note", "An error in the last " + (row.count === 1 ? "session" : row.count + " sessions") + " too" + (row.wasNot ? "; before that there was none." : ".")),
  ];
  return [said.length ? clamped(h("p.cause", said)) : null, notes.some(Boolean) ? h("p.more", notes) : null];
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

function commands(node, it) {
  const root = rootOf(node);
  const rerun = rerunOf(root);
  const line = (label, text) => h("div.command", h("span.label", label), h("code", text), copyButton(text, "Copy", label));
  return h("div.commands",
    line(node.parent ? "Run its build again" : "Run again", rerun),
    !node.parent && it.debug ? line("Debug", it.debug) : null,
    it.nodeid ? line("Node id", it.nodeid) : null,
    links(it));
}

const firstLine = (text) => text.split("\n", 1)[0];

const LINKS = [["log", "Log"], ["html", "Notebook as HTML"], ["notebook", "Notebook"], ["config", "Config"]];

function links(it) {
  const found = LINKS.filter(([key]) => it.links && it.links[key]);
  return found.length ? h("p.links", found.map(([key, name]) => h("a", { href: it.links[key] }, name))) : null;
}

function source(it) {
  const failure = it.failure;
  if (!failure || !failure.source.length) return null;
  const place = failure.file ? failure.file + (failure.line ? ":" + failure.line : "") : "";
  return h("figure.source", h("figcaption", place || "Source"),
    code("Source around " + (place || "the failure"), failure.source.map((line) => numbered(line.line, line.text || "", line.line === failure.line ? "here" : ""))));
}

function numbered(number, text, kind) {
  const mark = { here: "\u25b6", warn: "\u26a0" }[kind] || "";
  return h("span.line" + (kind ? "." + kind : ""), { "data-line": number || null },
    h("span.number", { "aria-hidden": "true" }, mark + " " + (number === null ? "" : number)), text, "\n");
}

// --- log ----------------------------------------------------------------------------------------------------

function log(it, details) {
  if (!details.log_tail && !details.warnings) return null;
  const warnings = details.warnings || [];
  const count = it.warnings || 0;
  const warned = new Set(warnings.map((warning) => warning.line));
  const pieces = logPieces(details);
  const lines = [];
  let at = 1;
  for (const piece of pieces) {
    if (piece.line === null || piece.line > at) lines.push(gap(piece.line === null ? null : piece.line - at, it.links));
    const texts = piece.text.replace(/\n$/, "").split("\n");
    texts.forEach((text, index) => {
      const number = piece.line === null ? null : piece.line + index;
      lines.push(numbered(number, text, number !== null ? (warned.has(number) ? "warn" : "") : looksWarned(text, warnings) ? "warn" : ""));
    });
    at = piece.line === null ? Infinity : piece.line + texts.length;
  }
  const element = code("Log", lines);
  element.classList.add("log");
  const jumps = warnings.length || count ? jumper(element, warnings, count) : null;
  const shownLog = details.log_tail ? [jumps, element] : null;
  const note = [size(details.log_size), count ? plural(count, "warning line") : ""].filter(Boolean).join(", ");
  queueMicrotask(() => requestAnimationFrame(() => { if (!jumps) element.scrollTop = element.scrollHeight; }));
  return part("log", "Log", shownLog || warningList(warnings, null), { note });
}

const looksWarned = (text, warnings) => warnings.some((warning) => warning.text && text.trim() === warning.text);

// The parts of the log that are shown, each with the number of its first line, null where that is not known.
function logPieces(details) {
  const pieces = [];
  if (details.log_head) pieces.push({ line: 1, text: details.log_head });
  pieces.push(...(details.log_middle || []));
  pieces.push({ line: details.log_tail_line || null, text: details.log_tail || "" });
  return pieces;
}

function gap(lines, linked) {
  const text = lines === null ? "part of the log is not shown here" : plural(lines, "line") + " not shown here";
  return h("span.gap", "\u22ef " + text, linked && linked.log ? [", ", h("a", { href: linked.log }, "open the log")] : null, " \u22ef\n");
}

function jumper(element, warnings, count) {
  const places = [...element.querySelectorAll(".line.warn")];
  let at = -1;
  const where = h("span.where", { role: "status" }, places.length
    ? plural(places.length, "warning line") + (count > places.length ? " shown of " + count : "")
    : plural(count, "warning line") + ", not in the part that is shown");
  const go = (step) => {
    at = Math.min(Math.max(at + step, 0), places.length - 1);
    for (const place of places) place.classList.remove("current");
    places[at].classList.add("current");
    element.scrollTop += places[at].getBoundingClientRect().top - element.getBoundingClientRect().top - 60;
    where.textContent = "Warning " + (at + 1) + " of " + places.length;
  };
  // People open a run with warnings for the first of them.
  if (places.length) requestAnimationFrame(() => { go(1); where.textContent += count > places.length ? ", " + count + " in all" : ""; });
  const hidden = warnings.filter((warning) => !places.some((place) => Number(place.dataset.line) === warning.line));
  return h("div.jumps", where,
    places.length > 1 ? [button("Previous", () => go(-1), { "aria-label": "Previous warning" }), button("Next", () => go(1), { "aria-label": "Next warning" })] : null,
    hidden.length && places.every((place) => place.dataset.line) ? warningList(hidden, count) : null);
}

function warningList(warnings) {
  return h("details.hidden-warnings", h("summary", plural(warnings.length, "warning line") + " outside of what is shown"),
    code("Other warning lines", warnings.map((warning) => numbered(warning.line, warning.text, "warn"))));
}

// --- figures ------------------------------------------------------------------------------------------------

function figures(it) {
  const found = it.figures || [];
  if (!found.length && !it.figures_left_out) return null;
  return part("figures", "Figures", [
    h("div.figures", found.map((figure) => h("figure",
      h("img", { src: "data:" + figure.type + ";base64," + figure.data, alt: "Figure of cell " + figure.cell + (figure.text ? ": " + figure.text : ""), loading: "lazy" }),
      h("figcaption", "Cell " + figure.cell)))),
    it.figures_left_out ? h("p.note", plural(it.figures_left_out, "figure") + (found.length ? " more" : "") + " in the notebook; this page holds a limited number.") : null,
  ], { note: found.length ? String(found.length) : "" });
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
  const onlyBox = h("input", { type: "checkbox" });
  const body = h("tbody");
  const fill = () => body.replaceChildren(...(onlyBox.checked ? different : keys).map((key) => {
    const others = differs(key);
    return h("tr" + (others.length ? ".differs" : ""),
      h("th", { scope: "row" }, key, others.length ? h("span.mark", " \u2260", h("span.unseen", " differs from " + others.join(" and "))) : null),
      columns.map(([, values]) => h("td", key in values ? h("span", values[key]) : h("span.note", "not given"))));
  }));
  onlyBox.checked = different.length > 0 && keys.length > 15;
  onlyBox.addEventListener("change", fill);
  fill();
  const summary = columns.length === 1 ? plural(keys.length, "key") : different.length ? different.length + " of " + keys.length + " differ" : "no difference";
  return part("config", "Config", [
    it.good_finished && it.good_config ? h("p.note", "The last good run before this one ended " + moment(it.good_finished) + ".") : null,
    columns.length > 1 && different.length ? h("label.only", onlyBox, " Only what differs") : null,
    h("div.scroll", { tabindex: "0", role: "region", "aria-label": "Config" }, h("table.config",
      h("thead", h("tr", h("th", { scope: "col" }, "Key"), columns.map(([name]) => h("th", { scope: "col" }, name)))), body)),
    it.config_left_out ? h("p.note", plural(it.config_left_out, "more key") + " in the config.") : null,
  ], { note: summary });
}

// --- metrics ------------------------------------------------------------------------------------------------

function metrics(it) {
  const found = Object.entries(it.metrics || {});
  if (!found.length) return null;
  return part("metrics", "Metrics", [
    h("dl", found.map(([name, value]) => h("div", h("dt", name), h("dd", value === null ? "NaN" : String(value))))),
    it.metrics_left_out ? h("p.note", plural(it.metrics_left_out, "more metric") + " in the result.") : null,
  ], { note: String(found.length + (it.metrics_left_out || 0)) });
}

// --- flows, upstreams, files, facts -------------------------------------------------------------------------

const chip = (node) => button([sign(node.row.status), h("span", node.row.id), h("span.unseen", ", " + statusOf(node).word)],
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

function files(it) {
  const inputs = it.inputs || [];
  const outputs = it.outputs || [];
  if (!inputs.length && !outputs.length) return null;
  const list = (title, found, more, linked) => (found.length ? h("div", h("h4", title), h("ul.files", found.map((file) => h("li",
    linked ? h("a", { href: linked(file.path) }, file.path) : h("code", file.path || ""), " ", h("span.note", size(file.size)))),
  more ? h("li.note", "and " + more + " more") : null)) : null);
  const folder = it.folder && !it.folder.startsWith("/") && !it.folder.includes(":") ? it.folder : null;
  const inFolder = (path) => (folder + "/" + path).split("/").map(encodeURIComponent).join("/");
  return part("files", "Files", [
    list("Read", inputs, it.inputs_left_out, null),
    list("Written", outputs, it.outputs_left_out, folder ? inFolder : null),
  ], { note: [inputs.length ? inputs.length + " read" : "", outputs.length ? outputs.length + " written" : ""].filter(Boolean).join(", "), open: false });
}

function facts(it, node) {
  const cells = it.cells || {};
  const environment = it.environment || {};
  const git = environment.git || {};
  const failed = it.failure && it.failure.cell ? ", stopped in cell " + it.failure.cell : "";
  const said = [
    ["Status of its last run", it.former_status && wordOf(it.former_status)], ["Run folder", it.folder], ["Started", moment(it.started)], ["Duration", duration(it.seconds)],
    ["Cells", cells.total ? cells.run + " of " + cells.total + " ran" + failed : ""],
    ["Exit code", it.exit_code === undefined || it.exit_code === null ? "" : String(it.exit_code)],
    ["Signal", it.signal], ["Peak memory", size(it.peak_memory)], ["Worker", it.worker],
    ["Tags", (it.tags || []).join(", ")], ["Config hash", it.config_hash && it.config_hash.slice(0, 16)],
    ["Python", environment.python], ["Platform", environment.platform], ["Host", environment.host],
    ["Commit", git.commit ? git.commit.slice(0, 12) + (git.dirty ? ", with changes" : "") : ""],
    ...Object.entries(it.parameters_said || {}),
  ].filter(([, value]) => value);
  if (!said.length) return null;
  const packages = Object.entries(environment.packages || {});
  return part("facts", "Run", [
    h("dl", said.map(([name, value]) => h("div", h("dt", name), h("dd", String(value))))),
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
