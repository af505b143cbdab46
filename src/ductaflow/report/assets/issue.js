// A failure as Markdown, for the issue that somebody writes about it.

const MAX_ISSUE_LINES = 10; // of the source
const MAX_ISSUE_TRACEBACK = 60; // lines

// A block of code, fenced by more backticks than it has in a row.
function fenced(text, language = "") {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([found]) => found.length));
  const fence = "`".repeat(longest + 1);
  return [fence + language, text.replace(/\n$/, ""), fence].join("\n");
}

// A text in one line of Markdown, as code.
function inCode(text) {
  const line = text.replace(/\s+/g, " ").trim();
  return line.includes("`") ? "`` " + line + " ``" : "`" + line + "`";
}

function issueOf(node, it, origin, its) {
  const { failure } = its;
  const own = failure && failure.ename ? failure.ename + (failure.evalue ? ": " + firstLine(failure.evalue) : "") : its.message || its.line || CAUSE[its.cause] || "";
  const git = (it.environment && it.environment.git) || {};
  const differing = node.parent ? null : differingIn(node.row.flow);
  const pairs = parametersOf(node).filter(([name]) => differing && differing.has(name));
  const facts = [
    ["Place", placeOf(failure) && placeOf(failure) + (failure.cell ? ", cell " + failure.cell : "")],
    ["Way", origin === node ? "" : wayTo(origin)],
    ["Parameters", pairs.map((pair) => pair.join("=")).join(" ")],
    ["Commit", git.commit ? git.commit + (git.dirty ? ", with changes that are not committed" : "") : ""],
    ["Python", it.environment && it.environment.python],
    ["Started", it.started && moment(it.started)],
    ["Run again", rerunOf(rootOf(node))],
  ].filter(([, value]) => value);
  const source = failure ? failure.source.slice(-MAX_ISSUE_LINES) : [];
  const width = String(source.length ? source[source.length - 1].line : "").length;
  const differences = differencesOf(its);
  const trace = ((failure && failure.traceback) || "").replace(/\n$/, "").split("\n");
  const left = trace.length - MAX_ISSUE_TRACEBACK;
  return [
    "### " + wayTo(node) + ": " + own,
    facts.map(([name, value]) => "- " + name + ": " + inCode(String(value))).join("\n"),
    source.length ? fenced(source.map((line) => (line.line === failure.line ? "> " : "  ") + String(line.line).padStart(width) + "  " + (line.text || "")).join("\n"), "python") : "",
    trace[0] ? fenced((left > 0 ? [...trace.slice(0, 10), "... " + left + " lines left out ...", ...trace.slice(left + 10)] : trace).join("\n")) : "",
    differences.length ? fenced(differences.map(differenceLine).join("\n")) : "",
    it.since_good && it.since_good.changes.length ? "Since the last good run:\n\n" + it.since_good.changes.map((text) => "- " + inCode(text)).join("\n") : "",
  ].filter(Boolean).join("\n\n") + "\n";
}

function differenceLine({ metric, file }) {
  if (file) return file.file + ": " + (file.fault || (file.differing ? file.differing + " of " + file.compared + " " + file.unit + " differ" : "other content"));
  if (metric.kind === "bound") return metric.name + ": found " + valueText(metric.new) + ", " + metric.limit;
  return metric.name + ": expected " + valueText(metric.old) + ", found " + valueText(metric.new) + " " + differenceText(metric.old, metric.new);
}
