// The figures of a run: pictures, which open in full size, and links to the interactive ones in its notebook.

function figures(node, it) {
  const found = it.figures || [];
  const interactive = it.interactive || [];
  const count = found.length + (it.figures_left_out || 0) + (it.interactive_left_out || 0) + interactive.filter(({ picture }) => !picture).length;
  if (!count && !it.notebook_too_large) return null;
  return part("figures", "Figures", [
    found.length ? h("div.figures", found.map((figure) => h("figure",
      figureButton(node, figure),
      h("figcaption", "Cell " + figure.cell)))) : null,
    interactive.length ? h("ul.interactive", interactive.map((one) => h("li", interactiveLink(it, one),
      one.picture ? h("span.note", "shown above as a picture") : null))) : null,
    it.interactive_left_out ? h("p.note", plural(it.interactive_left_out, "more interactive figure") + " in the notebook.") : null,
    it.figures_left_out ? h("p.note", plural(it.figures_left_out, "figure") + (found.length ? " more" : "") + " in the notebook; this page holds a limited number.") : null,
    it.notebook_too_large ? h("p.note", "The notebook is too large to look for figures in it.") : null,
  ], { note: count ? String(count) : "" });
}

const picture = (figure) => h("img", { src: "data:" + figure.type + ";base64," + figure.data, alt: "Figure of cell " + figure.cell + (figure.text ? ": " + figure.text : ""), loading: "lazy" });

const figureButton = (node, figure) => button(picture(figure), () => showFigure(node, figure), { class: "figure", title: "Show it in full size" });

// A page from disk cannot show them: their libraries, and often their data, are in the page of the notebook.
function interactiveLink(it, { cell, library, anchor }) {
  const name = "Cell " + cell + ": interactive figure of " + library;
  const { html, notebook } = it.links || {};
  if (html && anchor) return h("a", { href: html + "#" + inAddress(anchor) }, name);
  if (notebook) return [h("a", { href: notebook }, name), h("span.note", html ? "its cell is hidden in the page of the notebook" : "in the notebook, which has no page")];
  return name;
}

// --- in full size -------------------------------------------------------------------------------------------

const MAX_LOOKED = 200; // instances that are looked through for the next figure of a cell

const largeFigure = h("dialog.large", { id: "figure", "aria-labelledby": "figure-name" });
largeFigure.addEventListener("keydown", (event) => {
  event.stopPropagation(); // keys mean the figure, not the page below
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const arrow = by && largeFigure.querySelector(by < 0 ? ".before" : ".after");
  if (arrow && !arrow.disabled) { event.preventDefault(); arrow.click(); }
});
largeFigure.addEventListener("click", (event) => { if (event.target === largeFigure) largeFigure.close(); });

// Show a figure in full size, with arrows to the figure of the same cell in the next instance of the same flow.
function showFigure(node, figure) {
  const place = [...(figuresIn.get(node) || []), figure].filter((one) => one.cell === figure.cell).indexOf(figure);
  const arrow = (by, sign, name, kind) => {
    const made = button(sign, async () => {
      made.disabled = true;
      const found = await nextFigure(node, figure.cell, Math.max(place, 0), by);
      if (found) { showFigure(...found); largeFigure.querySelector("." + kind).focus(); } else announce("No other instance that is shown has a figure of this cell");
    }, { class: "icon " + kind, "aria-label": name });
    return made;
  };
  largeFigure.replaceChildren(h("div.panel-bar",
    h("h2", { id: "figure-name" }, wayTo(node) + ", cell " + figure.cell), h("span.fill"),
    arrow(-1, "\u2039", "The same figure of the previous instance", "before"), arrow(1, "\u203a", "The same figure of the next instance", "after"),
    button("\u00d7", () => largeFigure.close(), { class: "icon", "aria-label": "Close the figure" })), picture(figure));
  if (!largeFigure.isConnected) document.body.append(largeFigure);
  if (!largeFigure.open) largeFigure.showModal();
}

const figuresIn = new WeakMap(); // node -> the figures that were found in it

// The next instance in the order of the list with a figure of a cell, and that figure.
async function nextFigure(node, cell, place, by) {
  const alike = tree.found.filter(({ row }) => row.flow === node.row.flow);
  const flows = node.parent ? alike.length ? alike : node.parent.flows.filter(({ row }) => row.flow === node.row.flow) : alike;
  let at = flows.indexOf(node);
  for (let looked = 0; looked < MAX_LOOKED; looked += 1) {
    at += by;
    if (at < 0 || at >= flows.length) return null;
    const details = await detailsOf(flows[at]);
    const own = ((details && details.figures) || []).filter((figure) => figure.cell === cell);
    figuresIn.set(flows[at], own);
    if (own.length) return [flows[at], own[Math.min(place, own.length - 1)]];
  }
  return null;
}
