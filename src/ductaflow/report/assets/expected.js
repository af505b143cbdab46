// What a run found beside what is expected of it, and the commands that look and accept.

const differencesOf = (it) => ((it.judged && it.judged.differences) || []);

// Differences of metrics as a table, of files as a table for each.
function notAsExpected(node, it) {
  const all = differencesOf(it);
  if (!all.length) return null;
  const { judged } = it;
  const values = all.flatMap(({ metric }) => (metric ? [metric] : []));
  const changed = all.flatMap(({ file }) => (file ? [file] : []));
  return part("expected", "Not as expected", [
    values.length ? valueTable(values, "Metric", "Metrics that are not as expected") : null,
    changed.map(fileDifference),
    judged.differences_left_out ? h("p.note", plural(judged.differences_left_out, "more difference") + " in the result.") : null,
    h("p.note", howMuch(judged)),
    acceptCommands(node, it, values),
  ], { note: judged.summary || judged.message || "" });
}

function howMuch({ metrics: judgedMetrics, files: judgedFiles, additional }) {
  return "Judged: " + plural(judgedMetrics, "metric") + ", " + plural(judgedFiles, "file") + (additional ? "; " + plural(additional, "other metric") + (additional === 1 ? " is" : " are") + " not" : "") + ".";
}

// Expected, found, difference and what was allowed, of metrics or of cells of a file.
function valueTable(values, what, label) {
  const cells = (one) => {
    const found = one.kind === "gone" ? h("span.note", "nothing") : valueText(one.new);
    const expected = one.kind === "bound" ? one.limit.replace(/^> max/, "at most").replace(/^< min/, "at least") : one.kind === "added" ? h("span.note", "nothing") : valueText(one.old);
    const difference = one.kind === "other" ? differenceText(one.old, one.new) : "";
    return [h("th", { scope: "row" }, [one.name, one.column].filter(Boolean).join(", ")), h("td", expected), h("td", found), h("td", difference), h("td", one.kind === "bound" ? "bound" : one.limit || (one.kind === "other" ? "exact" : ""))];
  };
  return region("div.scroll", label, h("table.config", headOf([what, "Expected", "Found", "Difference", "Allowed"]), h("tbody", values.map((one) => h("tr", cells(one))))));
}

function fileDifference(file) {
  const counts = file.differing ? file.differing.toLocaleString("en") + " of " + file.compared.toLocaleString("en") + " " + file.unit + " differ" : "";
  const columns = file.columns.length === 1 ? ["all in column " + file.columns[0].column] : file.columns.map(({ column, differing }) => column + " " + differing.toLocaleString("en"));
  return h("div.file", h("h4", file.file),
    h("p", [file.fault, counts, listed(columns, 5), ...file.notes].filter(Boolean).join(", ") || "other content"),
    file.worst.length ? valueTable(file.worst, file.worst.length < file.differing ? "Worst" : "Place", "What differs in " + file.file) : null);
}

// As the terminal names them: `unexpected_lines` of store/expected.py.
function acceptCommands(node, it, values) {
  const target = it.target || it.id;
  const held = values.filter(({ kind }) => kind === "bound").map(({ name }) => name);
  return h("div.commands",
    // Where only bounds are passed, nothing else may be expected.
    it.judged.is_acceptable ? commandLine("ductaflow diff " + quoted(target + "@expected") + " " + quoted(target), "Look") : null,
    it.judged.is_acceptable ? commandLine("ductaflow accept " + quoted(rootOf(node).row.id), "Accept") : null,
    held.length ? h("p.note", "A bound is not accepted (" + listed(held, 3) + "): change it in _run.expect of the config.") : null);
}

// How much of a good run was judged.
function judgedPart(it) {
  const { judged } = it;
  if (!judged || differencesOf(it).length || !(judged.metrics + judged.files)) return null;
  return part("expected", "As expected", [h("p", howMuch(judged)), h("p.note", "With what is in ", h("code", "expected/" + it.id + "/"), " and the bounds of _run.expect.")], { open: false, note: judged.summary || "" });
}
