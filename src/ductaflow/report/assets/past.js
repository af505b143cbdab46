// What came of an instance in the last sessions: how this session differs from them, and how that is drawn.

const LETTERS = { e: "error", w: "warning", s: "success", u: "unchanged", b: "blocked", n: "not_run" };
const LETTER_OF = Object.fromEntries(Object.entries(LETTERS).map(([letter, status]) => [status, letter]));

// The place of this session in the history, which has it as soon as it has ended.
const placeNow = head.history.findIndex((session) => session.session_id === head.session_id);

// What this session made of an instance; a dot for one that it did not touch, or that still waits for its turn.
function letterNow({ row }) {
  return row.earlier || (head.finished === null && row.status === "not_run") ? "." : LETTER_OF[row.status];
}

// One letter for each session of the history before this one, the oldest first. What the line of a session does
// not tell, as of older versions, is nothing to show either.
function lettersBefore(node) {
  const letters = node.parent || !node.row.past ? "" : node.row.past[0].replaceAll("?", ".");
  return placeNow < 0 ? letters : letters.slice(0, placeNow);
}

const isGoodLetter = (letter) => letter === "s" || letter === "w" || letter === "u";
// Blocked and not run are no results.
const isResult = (letter) => letter === "e" || isGoodLetter(letter);

// --- is:fixed, is:flaky, is:slower; docs/report.md has the rules --------------------------------------------

function isFixed(node) {
  if (!isGoodLetter(letterNow(node))) return false;
  const letters = lettersBefore(node);
  let place = letters.length - 1;
  while (place >= 0 && !isResult(letters[place])) place -= 1;
  return letters[place] === "e";
}

const RESULTS_JUDGED = 10, CHANGES = 3;

function isFlaky(node) {
  const letters = lettersBefore(node) + letterNow(node);
  let [results, changes, after] = [0, 0, ""];
  for (let place = letters.length - 1; place >= 0 && results < RESULTS_JUDGED; place -= 1) {
    const letter = letters[place];
    if (!isResult(letter)) continue;
    if (after && isGoodLetter(letter) !== isGoodLetter(after)) changes += 1;
    after = letter;
    results += 1;
  }
  return changes >= CHANGES;
}

const TIMES_SLOWER = 2, SECONDS_SLOWER = 1, RUNS_COMPARED = 3;

// The median of sorted or unsorted numbers.
function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// The usual seconds of a run: the median of its good ones before this session; undefined for fewer than three.
function usualSeconds(node) {
  const letters = lettersBefore(node);
  const seconds = node.row.past ? node.row.past[1].filter((one, place) => one !== null && (letters[place] === "s" || letters[place] === "w")) : [];
  return seconds.length >= RUNS_COMPARED ? median(seconds) : undefined;
}

const hasRunNow = (node) => "ews".includes(letterNow(node)) && !node.parent;

// How many times as long as usual the run of this session took; 0 where that is no news.
function timesSlower(node) {
  if (!hasRunNow(node) || !node.row.past) return 0;
  const now = node.row.seconds || 0;
  const usual = now > SECONDS_SLOWER ? usualSeconds(node) : undefined;
  return usual && now > TIMES_SLOWER * usual && now >= usual + SECONDS_SLOWER ? now / usual : 0;
}

// --- what changed from one session to the next --------------------------------------------------------------

// Of a line that had no room for all ids, which are sorted: whether it would have named one.
const wouldName = (session, id) => !session.red_left_out || !session.red.length || id < session.red[session.red.length - 1];

// The ids that are in the errors of one session and not in those of another one.
function onlyIn(session, other) {
  const known = new Set(other.red);
  return session.red.filter((id) => !known.has(id) && wouldName(other, id));
}

// --- drawn --------------------------------------------------------------------------------------------------

const DOT = 10; // pixels from one dot to the next
const DOTS = Math.min(RESULTS_JUDGED, Math.max(head.history.length + (placeNow < 0 ? 1 : 0), 2)); // for so many there is room
// The shape of each status, around a middle: told apart without colours.
const SHAPES = {
  error: (x, y) => `M${x - 4} ${y - 2}l2-2 2 2 2-2 2 2-2 2 2 2-2 2-2-2-2 2-2-2 2-2z`,
  warning: (x, y) => `M${x} ${y - 4}l4 7h-8z`,
  success: (x, y) => `M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0-6 0z`,
  unchanged: (x, y) => `M${x - 3} ${y - 1}h6v2h-6z`,
  blocked: (x, y) => `M${x - 3} ${y - 3}h6v6h-6z`,
  not_run: (x, y) => `M${x - 1} ${y - 1}h2v2h-2z`,
};

// The last letters as dots in one small picture, which says in words what it shows.
function pastDots(node) {
  const letters = (lettersBefore(node) + letterNow(node)).replaceAll(".", "").slice(-RESULTS_JUDGED);
  if (letters.length < 2) return null;
  const places = new Map();
  [...letters].forEach((letter, index) => {
    const status = LETTERS[letter];
    places.set(status, (places.get(status) || "") + SHAPES[status](DOT * (index + 0.5), 5));
  });
  return s("svg.dots", { role: "img", width: DOT * DOTS, height: DOT, viewBox: [DOT * (letters.length - DOTS), 0, DOT * DOTS, DOT].join(" ") },
    s("title", "Last " + letters.length + " sessions, the newest at the right: " + inWords(letters)),
    [...places].map(([status, d]) => s("path.s-" + status, { d })));
}

// `3 success, error, 2 unchanged`: runs of the same, the oldest first.
function inWords(letters) {
  return [...letters.matchAll(/(.)\1*/g)].map(([same, letter]) => (same.length > 1 ? same.length + " " : "") + wordOf(LETTERS[letter])).join(", ");
}

// Words for a row: what its past makes of it.
function pastTags(node) {
  const times = timesSlower(node);
  return [
    isFixed(node) ? h("span.tag.fixed", "fixed") : null,
    isFlaky(node) ? h("span.tag.flaky", "flaky") : null,
    times ? h("span.tag.slower", { title: "It took " + times.toFixed(1) + " times as long as the median of its good runs" }, times.toFixed(1) + " x slower") : null,
  ];
}

// What is known of each session, the oldest first; sessions without a word of the instance are left out.
function pastOf(node) {
  const found = [...lettersBefore(node)].map((letter, place) => ({ session: head.history[place], letter, seconds: node.row.past[1][place] }));
  const now = letterNow(node);
  found.push({ session: head.history[placeNow] || head, letter: now, seconds: hasRunNow(node) ? node.row.seconds || null : null });
  return found.filter(({ letter }) => letter !== ".");
}

const commitOf = ({ commit }) => (commit ? commit.slice(0, 9) : "");

// The part of the panel: dots, the seconds of the runs, and both as a table.
function pastPart(node) {
  if (node.parent || !node.row.past) return null;
  const past = pastOf(node);
  if (past.length < 2) return null;
  const [usual, times] = [usualSeconds(node), timesSlower(node)];
  const said = [
    isFixed(node) ? "Fixed: an error in the last session before that had a result of it." : "",
    isFlaky(node) ? "Flaky: good and error by turns in its last results." : "",
    times ? "It took " + times.toFixed(1) + " times as long as usual." : "",
    usual === undefined ? "" : "Its good runs before took " + duration(usual) + " in the median.",
  ].filter(Boolean).join(" ");
  const commits = past.some(({ session }) => session.commit);
  return part("past", "History", [
    said ? h("p.note", said) : null,
    region("div.scroll", "Dots and seconds of the last sessions", pastChart(past, usual)),
    h("details", h("summary", "As a table"), region("div.scroll", "History as a table", h("table.runs",
      headOf(["Session", commits ? "Commit" : null, "Status", "Took"].filter(Boolean)),
      h("tbody", [...past].reverse().map(({ session, letter, seconds }) => h("tr.s-" + LETTERS[letter], h("td.moment", moment(session.started)),
        commits ? h("td.moment", h("code", commitOf(session))) : null, h("td", badge(LETTERS[letter])), h("td.number", seconds === null ? "" : duration(seconds)))))))),
  ], { note: "last " + past.length + " sessions" });
}

const SESSION_STEP = 18, SPARK = 44; // pixels: from one session to the next, and the height of the seconds

function pastChart(past, usual) {
  const longest = Math.max(...past.map(({ seconds }) => seconds || 0), usual || 0);
  const high = longest ? SPARK : 0;
  const at = (place) => SESSION_STEP * (place + 0.5);
  const y = (seconds) => 6 + (SPARK - 12) * (1 - seconds / longest);
  const points = past.flatMap(({ seconds }, place) => (seconds === null ? [] : [[at(place), y(seconds)]]));
  const width = SESSION_STEP * past.length;
  const chart = s("svg.past", { role: "img", "aria-label": "Oldest first: " + inWords(past.map(({ letter }) => letter).join("")), width, height: high + 16, viewBox: [0, 0, width, high + 16].join(" ") },
    high && usual ? s("path.usual", { d: `M0 ${y(usual)}H${width}` }) : null,
    high ? s("polyline.seconds", { points: points.map((point) => point.join(",")).join(" ") }) : null,
    points.map(([cx, cy]) => s("circle.second", { cx, cy, r: 2 })),
    past.map(({ session, letter, seconds }, place) => s("g",
      s("title", [moment(session.started), commitOf(session), wordOf(LETTERS[letter]), seconds === null ? "" : duration(seconds)].filter(Boolean).join(", ")),
      s("rect.target", { x: SESSION_STEP * place, y: 0, width: SESSION_STEP, height: high + 16 }),
      s("path.s-" + LETTERS[letter], { d: SHAPES[LETTERS[letter]](at(place), high + 8) }))));
  return h("div.past-chart", high ? h("span.note", { "aria-hidden": "true" }, duration(longest)) : null, chart);
}
