// The log of a run: its head, its tail, what is around each warning line; and the warning lines by kind.

function log(it, title = "Log") {
  const { warnings, warningCount: count } = it;
  if (!it.log_tail && !warnings.length) return null;
  const warned = new Set(warnings.map((warning) => warning.line));
  const pieces = logPieces(it);
  const trace = ((it.failure && it.failure.traceback) || "").trim().split("\n");
  const lines = [];
  let at = 1;
  for (const piece of pieces) {
    if (piece.line === null || piece.line > at) lines.push(gap(piece.line === null ? null : piece.line - at, it.links));
    const texts = piece.text.replace(/\n$/, "").split("\n");
    const row = (text, index) => {
      const number = piece.line === null ? null : piece.line + index;
      return numbered(number, text, number !== null ? (warned.has(number) ? "warn" : "") : looksWarned(text, warnings) ? "warn" : "");
    };
    const begin = placeOfLines(trace, texts);
    const rows = texts.map(row);
    const again = rows.slice(begin, begin + trace.length);
    // What stands above has not to be read twice; a warning in it has to be seen.
    if (begin >= 0 && !again.some((line) => line.matches(".warn"))) {
      rows.splice(begin, trace.length, h("details.frames", h("summary", "The traceback above, " + plural(trace.length, "line")), again));
    }
    lines.push(...rows);
    at = piece.line === null ? Infinity : piece.line + texts.length;
  }
  const element = code("Log", lines);
  element.classList.add("log");
  const jumps = warnings.length || count ? jumper(element, warnings, count) : null;
  const shownLog = it.log_tail ? [jumps, element] : null;
  const note = [size(it.log_size), count ? plural(count, "warning line") : ""].filter(Boolean).join(", ");
  queueMicrotask(() => requestAnimationFrame(() => { if (!jumps) element.scrollTop = element.scrollHeight; }));
  return part("log", title, shownLog || warningList(warnings), { note });
}

// Where some lines stand among others, one behind the other; -1 for nowhere.
function placeOfLines(wanted, lines) {
  if (wanted.length < 2) return -1;
  return lines.findIndex((_, index) => wanted.every((line, place) => (lines[index + place] || "").trimEnd() === line.trimEnd()));
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
    hidden.length && places.every((place) => place.dataset.line) ? warningList(hidden) : null);
}

function warningList(warnings) {
  return h("details.hidden-warnings", h("summary", plural(warnings.length, "warning line") + " outside of what is shown"),
    code("Other warning lines", warnings.map((warning) => numbered(warning.line, warning.text, "warn"))));
}

// Numbers differ from line to line of one kind.
const kindOf = (text) => text.trim().replace(/\d+(?:[.,:_-]\d+)*/g, "#");

// Warning lines that differ in their numbers alone are one kind; a click leads to the first of them in the log.
function warningKinds(it) {
  const { warnings, warningCount: count } = it;
  if (warnings.length < 2) return null;
  const kinds = new Map();
  for (const one of warnings) {
    const kind = kindOf(one.text);
    if (!kinds.has(kind)) kinds.set(kind, []);
    kinds.get(kind).push(one);
  }
  const sorted = [...kinds.values()].sort((a, b) => b.length - a.length);
  return part("warnings", "Warnings", [
    h("ul.kinds", sorted.map(([first, ...others]) => h("li", h("strong.many", String(others.length + 1)),
      button(first.text, () => toLogLine(first.line), { class: "link said" }),
      h("span.note", others.length ? "lines " + first.line + " to " + others[others.length - 1].line : "line " + first.line)))),
    count > warnings.length ? h("p.note", "Of the first " + warnings.length + " of " + count.toLocaleString("en") + " warning lines; the log has them all.") : null,
  ], { note: plural(count, "line") + ", " + plural(sorted.length, "kind") });
}

// Show a line of the log, if the page has it.
function toLogLine(number) {
  const opened = panel.querySelector("[data-part=log]");
  const line = opened && opened.querySelector(`.line[data-line="${number}"]`);
  if (!line) { announce("Line " + number + " is not in the part of the log that is shown"); return; }
  opened.open = true;
  for (const other of opened.querySelectorAll(".current")) other.classList.remove("current");
  line.classList.add("current");
  line.scrollIntoView({ block: "center" });
}
