// The panel of the opened instance: how it opens, closes and goes on to the next.

const panel = h("aside.panel", { id: "panel", hidden: true, tabindex: "-1", "aria-label": "Instance" });

let pageScroll = 0;

// Open an instance. `followed`: the person moves through the list, so the focus stays there.
function openNode(node, followed = false) {
  const change = () => {
    if (state.id === null) pageScroll = scrollY;
    state.id = node.key;
    sayMissing(null);
    for (let above = node.parent; above; above = above.parent) state.expanded.add(above.key);
    if (node.parent) tree.show(tree.found);
    tree.active = tree.rows.includes(node) ? node : tree.active;
    tree.drawn = "";
  };
  if (followed && state.id !== null) {
    change();
    stateChanged();
  } else {
    asStep(change);
  }
  return showNode(node, !followed);
}

const notUnpacked = (trouble) => h("p.note", "The details cannot be unpacked here: " + trouble.message + ". They are in conductor_status_report.json beside this page.");

let showing = 0;
async function showNode(node, focus) {
  const turn = ++showing;
  document.body.classList.add("opened");
  panel.hidden = false;
  tree.draw();
  table.mark();
  if (tree.active === node && WIDE.matches && !list.hidden) tree.reveal(node);
  let content;
  try {
    const details = await detailsOf(node);
    if (turn !== showing) return;
    content = detailOf(node, details);
  } catch (trouble) {
    if (turn !== showing) return;
    content = [notUnpacked(trouble)];
  }
  const rows = rowsShown();
  const at = rows.indexOf(node);
  panel.className = "panel s-" + node.row.status;
  const name = wayTo(node);
  panel.setAttribute("aria-label", name);
  panel.replaceChildren(h("div.panel-head",
    h("div.panel-bar", badgeOf(node.row), h("span.note", whichOf(node)), h("span.note", duration(node.row.seconds)),
      storedTags(node.row),
      h("span.fill"),
      button("\u2039", () => step(-1), { class: "icon", "aria-label": "Previous instance", disabled: at <= 0 }),
      button("\u203a", () => step(1), { class: "icon", "aria-label": "Next instance", disabled: at < 0 || at + 1 >= rows.length }),
      copyButton(() => linkTo(node), "Link", "link to this instance"),
      button("\u00d7", () => closePanel(), { class: "icon", id: "close", "aria-label": "Close" })),
    h("h2", { id: "panel-name", tabindex: "-1" }, instanceName(name))),
  ...content.flat(Infinity).filter(Boolean));
  panel.scrollTop = 0;
  if (!WIDE.matches) scrollTo(0, 0);
  if (focus && !WIDE.matches) document.getElementById("panel-name").focus({ preventScroll: true });
  else if (focus) announce("Opened " + name + ", " + statusOf(node).word);
}

// The place of an instance among those that are shown; of an error among the errors.
function whichOf(node) {
  const root = rootOf(node);
  const alike = statusOf(root).is_error ? found.filter((one) => statusOf(one).is_error) : found;
  const at = alike.indexOf(root);
  if (at < 0) return null;
  return (at + 1).toLocaleString("en") + " of " + (alike === found ? alike.length.toLocaleString("en") : plural(alike.length, "error"));
}

// An address on this machine leads nobody else anywhere, so the id goes with it.
function linkTo(node) {
  const link = location.href.split("#")[0] + "#id=" + inAddress(node.key);
  return location.protocol === "file:" ? node.key + "\n" + link : link;
}

// The instances in the order in which the view shows them.
const rowsShown = () => (state.view === "table" ? table.rows : tree.rows);

function step(by) {
  const rows = rowsShown();
  const next = rows[rows.indexOf(byKey.get(state.id)) + by];
  if (!next) return;
  openNode(next, true);
  showNode(next, false).then(() => {
    const name = by < 0 ? "Previous instance" : "Next instance";
    const again = panel.querySelector(`[aria-label="${name}"]:not([disabled])`) || document.getElementById("close");
    again.focus();
  });
}

function closePanel(focus = true) {
  if (state.id === null) return;
  showing += 1;
  asStep(() => {
    state.id = null;
    document.body.classList.remove("opened");
    panel.hidden = true;
    panel.replaceChildren();
    if (!WIDE.matches) scrollTo(0, pageScroll);
    tree.drawn = "";
    tree.draw();
  });
  table.mark();
  if (!focus) return;
  if (state.view === "table") table.focus();
  else if (!list.hidden) list.focus({ preventScroll: true });
}
