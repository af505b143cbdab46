"use strict";
// Filter by status, search, copy buttons, and the refresh of a running page that keeps what is open.
// The page is complete without this script; it only ever reads and hides what is there.
(() => {
  const key = "ductaflow-report";
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const rows = all(".rows > .row").map((element) => ({
    element,
    status: element.dataset.status,
    text: null,
  }));
  const sections = all("main > section");
  const chips = all(".chip");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const nothing = document.getElementById("nothing");

  const textOf = (row) => {
    if (row.text === null) row.text = row.element.textContent.toLowerCase();
    return row.text;
  };

  function apply() {
    const wanted = chips.filter((c) => c.getAttribute("aria-pressed") === "true").map((c) => c.dataset.status);
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const fits =
        (wanted.length === 0 || wanted.includes(row.status)) && terms.every((term) => textOf(row).includes(term));
      row.element.hidden = !fits;
      if (fits) count += 1;
    }
    for (const section of sections) {
      section.hidden = !section.querySelector(".rows > .row:not([hidden])");
    }
    const filtered = wanted.length > 0 || terms.length > 0;
    shown.textContent = filtered ? count + " of " + rows.length + " shown" : "";
    nothing.hidden = !(filtered && count === 0);
  }

  function reset() {
    for (const chip of chips) chip.setAttribute("aria-pressed", "false");
    search.value = "";
    apply();
    search.focus();
  }

  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      apply();
    });
  }
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, rows.length > 500 ? 150 : 0);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") reset();
  });
  document.getElementById("reset").addEventListener("click", reset);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      search.focus();
    }
  });

  // When a row opens, its log is at its end, and gets a copy button: thousands of closed rows stay light.
  async function copy(button, code) {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch (refused) {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }
  document.addEventListener("toggle", (event) => {
    if (!event.target.open) return;
    for (const log of all(":scope > .body > figure > .log", event.target)) log.scrollTop = log.scrollHeight;
    const again = event.target.querySelector(":scope > .body > .again");
    if (!again || again.querySelector("button")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", () => copy(button, again.querySelector("code")));
    again.append(button);
  }, true);

  function openTarget() {
    let id;
    try { id = decodeURIComponent(location.hash.slice(1)); } catch (malformed) { id = location.hash.slice(1); }
    const row = id && document.getElementById(id);
    if (row && row.matches(".row")) { row.open = true; row.scrollIntoView(); }
  }
  window.addEventListener("hashchange", openTarget);

  // A page from disk may be denied storage; then a refresh starts afresh.
  function store(state) {
    try { sessionStorage.setItem(key, JSON.stringify(state)); } catch (denied) { return; }
  }
  function stored() {
    try {
      const state = JSON.parse(sessionStorage.getItem(key));
      sessionStorage.removeItem(key);
      return state;
    } catch (denied) { return null; }
  }
  const opened = () => all("details[open]").map((element) => {
    const row = element.closest(".rows > .row");
    return [row.id, all("details", row).indexOf(element)];
  });

  document.querySelector(".tools").hidden = false;
  const state = stored();
  if (state) {
    search.value = state.search;
    for (const chip of chips) chip.setAttribute("aria-pressed", String(state.chips.includes(chip.dataset.status)));
    for (const [id, index] of state.open) {
      const row = document.getElementById(id);
      const element = row && (index < 0 ? row : all("details", row)[index]);
      if (element) element.open = true;
    }
    apply();
    scrollTo(0, state.scroll);
    if (state.searching) search.focus();
  } else {
    openTarget();
  }
  const refresh = Number(document.body.dataset.refresh);
  if (refresh) {
    setTimeout(() => {
      store({
        search: search.value,
        searching: document.activeElement === search,
        chips: chips.filter((c) => c.getAttribute("aria-pressed") === "true").map((c) => c.dataset.status),
        open: opened(),
        scroll: scrollY,
      });
      location.reload();
    }, refresh * 1000);
  }
})();
