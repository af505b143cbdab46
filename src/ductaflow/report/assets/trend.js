// What came of the last sessions, and what each of them changed.

const MAX_COLUMN = 90; // pixels, as in views.css
const SOME_IDS = 5; // ids of a cell at first

function trendView() {
  const sessions = [...head.history];
  if (head.finished === null) {
    sessions.push({ session_id: head.session_id, started: head.started, finished: null, seconds: 0, summary: head.summary, red: [], commit: head.commit });
  }
  if (sessions.length < 2) return [h("p.empty", "The trend begins with the second session."), sessions.length ? sessionTable(sessions, []) : null];
  const untouched = untouchedIn(sessions);
  const room = (innerWidth < 1000 ? innerWidth - 90 : Math.min(innerWidth, 1560) / 2 - 90) / sessions.length;
  const every = Math.ceil(90 / Math.min(room, MAX_COLUMN)); // how many columns one date takes
  const chart = (title, most, unit, piecesOf) => h("figure.trend", h("figcaption", title), h("div.plot", { "aria-hidden": "true" },
    h("div.scale", [most, most / 2, 0].map((value) => h("span", Number.isInteger(value) || unit ? value.toLocaleString("en") + unit : ""))),
    h("div.columns", sessions.map((session, index) => h("div.column", { title: [moment(session.started), commitOf(session)].filter(Boolean).join(", ") }, piecesOf(session, index).map(([name, value, words]) => {
      const piece = h("div.piece." + name, { title: words });
      piece.style.height = 100 * value / most + "%";
      return piece;
    }), index % every || index + every > sessions.length ? null : h("span.date", moment(session.started).slice(5, 16), session.commit ? h("span.commit", commitOf(session)) : null))))));
  const longest = Math.max(...sessions.map((session) => session.seconds));
  const [unit, length] = longest < 120 ? [" s", 1] : longest < 7200 ? [" min", 60] : [" h", 3600];
  const pieces = (counts, kind, words) => ORDER.filter((status) => counts[status]).map((status) => ["s-" + status + kind, counts[status], counts[status].toLocaleString("en") + " " + wordOf(status) + words]);
  const known = sessions.map(({ summary }, index) => totalOf(summary) + totalOf(untouched[index]));
  return [
    h("div.charts" + (sessions.some(({ commit }) => commit) ? ".with-commits" : ""),
      chart("Instances by status, session by session", roundedUp(Math.max(...known)), "",
        ({ summary }, index) => [...pieces(untouched[index], ".untouched", ", not touched"), ...pieces(summary, "", "")]),
      chart("Duration; the longest took " + duration(longest), roundedUp(longest / length), unit, ({ seconds }) => [["plain", seconds / length, duration(seconds)]])),
    untouched.some(totalOf) ? h("p.legend", h("span.swatch.untouched", { "aria-hidden": "true" }), " hatched: known from sessions before, and not touched by this one.") : null,
    sessionTable(sessions, untouched),
  ];
}

// The next number that has a round half.
function roundedUp(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 4, 6, 8, 10].find((one) => one * power >= value) * power;
}

const totalOf = (summary) => Object.values(summary).reduce((total, count) => total + count, 0);

// For each session the counts of what it did not touch, by what was known of it then. The page knows that of
// instances that it shows; the last one also of those that have no history.
function untouchedIn(sessions) {
  const found = sessions.map(() => ({}));
  const add = (place, status) => { found[place][status] = (found[place][status] || 0) + 1; };
  for (const node of roots.filter(({ row }) => row.past && !(row.orphan && row.earlier))) {
    let last = null;
    head.history.forEach((session, place) => {
      const letter = node.row.past[0][place] || ".";
      if (LETTERS[letter]) last = LETTERS[letter];
      // A question mark: it may have been touched.
      else if (last && letter === ".") add(place, last);
    });
  }
  const now = sessions.findIndex(({ session_id }) => session_id === head.session_id);
  if (now >= 0) found[now] = head.earlier_summary;
  return found;
}

// Ids, each of which opens its instance as far as it is on this page.
function idList(ids) {
  const one = (id) => (byKey.has(id) ? button(id, () => openNode(byKey.get(id)), { class: "link" }) : h("span", { title: "not in this report" }, id));
  const items = h("ul.ids", ids.slice(0, SOME_IDS).map((id) => h("li", one(id))));
  if (ids.length <= SOME_IDS) return items;
  return [items, restButton("Show all " + ids.length.toLocaleString("en"), items, () => ids.slice(SOME_IDS).map((id) => h("li", one(id))))];
}

function sessionTable(sessions, untouched) {
  const shown = ORDER.filter((status) => sessions.some((session) => session.summary[status]));
  const commits = sessions.some((session) => session.commit);
  const number = (name) => h("th.number", { scope: "col" }, name);
  const rest = untouched.some(totalOf);
  return region("div.scroll", "Sessions", h("table.runs.sessions",
    h("thead", h("tr", h("th", { scope: "col" }, "Started"), commits ? h("th", { scope: "col" }, "Commit") : null, shown.map((status) => number(wordOf(status))),
      rest ? number("Not touched") : null, number("Took"), h("th", { scope: "col" }, "New errors"), h("th", { scope: "col" }, "Fixed"))),
    h("tbody", sessions.map((session, index) => {
      const isNow = session.session_id === head.session_id;
      const before = sessions[index - 1];
      return h("tr", h("td.moment", moment(session.started), isNow ? h("span.tag", "this session") : null),
        commits ? h("td.moment", h("code", commitOf(session))) : null,
        shown.map((status) => h("td.number", String(session.summary[status] || 0))),
        rest ? h("td.number", totalOf(untouched[index]).toLocaleString("en")) : null,
        h("td.number", session.finished ? duration(session.seconds) : "running"),
        h("td", isNow ? idList([...head.new].sort()) : before ? idList(onlyIn(session, before)) : null),
        h("td", !before ? null : session.finished === null ? idList(roots.filter(isFixed).map(({ row }) => row.id)) : idList(onlyIn(before, session))));
    }).reverse())));
}
