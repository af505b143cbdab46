// A session that still runs, or did not end: its banner, and the page that loads itself again.

let paused = false;

function banners() {
  const place = document.getElementById("banners");
  for (const note of head.notes || []) place.append(h("div.banner.s-warning", sign("warning"), h("span", note)));
  if (head.finished !== null || !head.alive) return;
  const { alive, summary } = head;
  const planned = totalOf(summary);
  const silent = (Date.now() - Date.parse(alive.written)) / 1000;
  if (silent > alive.within) {
    document.title = document.title.replace(/^Running: /, "Did not end: ");
    place.append(h("div.banner.s-error", { role: "status" }, sign("error"), h("span", h("strong", "This session did not end properly."),
      " Its last sign of life was " + duration(silent) + " ago (process " + alive.pid + " on " + alive.host + "); " + (planned - summary.not_run) + " of " + planned
      + " were done. ", h("code", "ductaflow report"), " makes the page anew from what is on disk.")));
    // The machine may only have slept: look again now and then.
    later(60);
    return;
  }
  const toggle = button("", () => { paused = !paused; name(); saveState(); }, {});
  const name = () => { toggle.textContent = paused ? "Refresh again" : "Pause the refresh"; };
  name();
  place.append(h("div.banner.running", h("span.pulse", { "aria-hidden": "true" }), h("span", h("strong", "Running"), ": " + (planned - summary.not_run) + " of " + planned + " done" + countedDone(summary) + (alive.left ? ", about " + duration(alive.left) + " left" : "") + ", as of " + moment(alive.written) + ".", atWork(alive)), toggle));
  later(Math.max(Number(document.body.dataset.refresh), alive.next));
}

// `, 9 success, 1 error`: what came of those that are done.
const countedDone = (summary) => ORDER.filter((name) => name !== "not_run" && summary[name]).map((name) => ", " + summary[name] + " " + wordOf(name)).join("");

// What was at work when the page was written: ids that open their instances, and since when.
function atWork({ written, running = [], running_left_out: more }) {
  if (!running.length) return null;
  const since = (one) => " for " + duration(Math.max(0, (Date.parse(written) - Date.parse(one.since)) / 1000));
  return h("span.at-work", " At work: ", running.map((one, place) => [place ? ", " : "",
    byKey.has(one.id) ? button(one.id, () => openNode(byKey.get(one.id)), { class: "link" }) : one.id, since(one)]), more ? " and " + more + " more" : "");
}

let touched = 0; // when a person last did something that a refresh would disturb
function later(seconds) {
  setTimeout(function look() {
    if (paused || String(getSelection()) || Date.now() - touched < 1500) { setTimeout(look, 1000); return; }
    saveState();
    location.reload();
  }, 1000 * seconds);
}
