// What came of the last sessions.

function trendView() {
  const sessions = [...head.history];
  if (head.finished === null) {
    sessions.push({ session_id: head.session_id, started: head.started, finished: null, seconds: 0, summary: head.summary, red: [] });
  }
  if (sessions.length < 2) return [h("p.empty", "The trend begins with the second session."), sessions.length ? sessionTable(sessions) : null];
  const room = (innerWidth < 1000 ? innerWidth - 90 : Math.min(innerWidth, 1560) / 2 - 90) / sessions.length;
  const every = Math.ceil(90 / Math.min(room, MAX_COLUMN)); // how many columns one date takes
  const chart = (title, most, unit, piecesOf) => h("figure.trend", h("figcaption", title), h("div.plot", { "aria-hidden": "true" },
    h("div.scale", [most, most / 2, 0].map((value) => h("span", Number.isInteger(value) || unit ? value.toLocaleString("en") + unit : ""))),
    h("div.columns", sessions.map((session, index) => h("div.column", { title: moment(session.started) }, piecesOf(session).map(([name, value]) => {
      const piece = h("div.piece." + name);
      piece.style.height = 100 * value / most + "%";
      return piece;
    }), index % every || index + every > sessions.length ? null : h("span.date", moment(session.started).slice(5, 16)))))));
  const longest = Math.max(...sessions.map((session) => session.seconds));
  const [unit, length] = longest < 120 ? [" s", 1] : longest < 7200 ? [" min", 60] : [" h", 3600];
  return [
    h("div.charts",
      chart("Instances by status, session by session", roundedUp(Math.max(...sessions.map((session) => totalOf(session.summary)))), "",
        ({ summary }) => ORDER.filter((status) => summary[status]).map((status) => ["s-" + status, summary[status]])),
      chart("Duration; the longest took " + duration(longest), roundedUp(longest / length), unit, ({ seconds }) => [["plain", seconds / length]])),
    sessionTable(sessions),
  ];
}

const MAX_COLUMN = 90; // pixels, as in views.css

// The next number that has a round half.
function roundedUp(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 4, 6, 8, 10].find((one) => one * power >= value) * power;
}

const totalOf = (summary) => Object.values(summary).reduce((total, count) => total + count, 0);

function sessionTable(sessions) {
  const shown = ORDER.filter((status) => sessions.some((session) => session.summary[status]));
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": "Sessions" }, h("table.runs",
    h("thead", h("tr", h("th", { scope: "col" }, "Started"), shown.map((status) => h("th.number", { scope: "col" }, wordOf(status))), h("th.number", { scope: "col" }, "Took"), h("th", { scope: "col" }, "New errors"))),
    h("tbody", sessions.map((session, index) => {
      const old = new Set(index ? sessions[index - 1].red : []);
      const fresh = index ? session.red.filter((id) => !old.has(id)) : [];
      return h("tr", h("td.moment", moment(session.started), session.session_id === head.session_id ? h("span.tag", "this session") : null),
        shown.map((status) => h("td.number", String(session.summary[status] || 0))), h("td.number", session.finished ? duration(session.seconds) : "running"),
        h("td", fresh.slice(0, 5).join(", ") + (fresh.length > 5 ? " and " + (fresh.length - 5) + " more" : "")));
    }).reverse())));
}
