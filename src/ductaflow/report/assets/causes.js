// Why there are failures: the causes, and the parameters that each has in common.

const FEW = innerWidth < 640 ? 2 : 4; // causes that are shown at first

function causesPart() {
  if (!head.causes.length) return null;
  const red = head.causes.reduce((total, cause) => total + cause.instances.length, 0);
  const items = h("ol", head.causes.slice(0, FEW).map(causeItem));
  const hiding = head.causes.length > FEW;
  const toggle = hiding ? button("", () => { show(items.childElementCount === FEW); stateChanged(); }, { class: "all", "aria-expanded": "false" }) : null;
  const show = (all) => {
    if (all) items.append(...head.causes.slice(items.childElementCount).map((cause, index) => causeItem(cause, FEW + index)));
    else while (items.childElementCount > FEW) items.lastElementChild.remove();
    if (all) folded.set("causes", false);
    else folded.delete("causes");
    toggle.setAttribute("aria-expanded", String(all));
    toggle.textContent = all ? "Show only the first " + FEW : "Show all " + head.causes.length.toLocaleString("en") + " causes";
  };
  if (hiding) {
    show(folded.has("causes"));
    let asked = false;
    addEventListener("beforeprint", () => { asked = folded.has("causes"); show(true); });
    addEventListener("afterprint", () => show(asked));
  }
  return h("section.causes", { "aria-labelledby": "causes" }, h("h2", { id: "causes" }, plural(red, "error") + ", " + plural(head.causes.length, "cause")), items, toggle);
}

function causeItem(cause, index) {
  const place = [cause.place || CAUSE[cause.cause] || "", cause.blocks ? "blocks " + cause.blocks : ""].filter(Boolean).join(" \u00b7 ");
  const sets = [cause.parameters, ...cause.alternatives].filter((set) => set.length);
  return h("li",
    h("button.cause-row", { type: "button", click: () => search("cause:" + (index + 1)), title: "Show these instances" },
      h("strong.many", cause.instances.length.toLocaleString("en")),
      h("span.what", h("span.cause-title", cause.title || CAUSE[cause.cause] || "no message"), h("span.cause-place", place))),
    sets.length ? h("p.shared", h("span.note", "all with"),
      sets.map((set, place) => [place ? h("span.note", "or") : null,
        button(set.map(([name, value]) => h("code", name + "=" + value)), () => searchParameters(set, cause, index), { title: "Show all instances with these parameters" })]),
      cause.alternatives_left_out ? h("span.note", "or " + plural(cause.alternatives_left_out, "other set")) : null,
      h("span.note", sets.every((set) => set.length === 1) ? "which no good one has" : "which no good one has together")) : null);
}

const parameterTerm = ([name, value]) => asTerm(name + "=" + value);

// Rows have their first parameters, and the beginning of long values: where that does not do, the cause's instances are shown.
function searchParameters(set, cause, index) {
  const query = set.map(parameterTerm).join(" ");
  const fits = searchTest(query);
  search(cause.instances.every((id) => fits(byKey.get(id))) ? query : "cause:" + (index + 1));
}
