// Why there are failures: the causes, and the parameters that each has in common.

const FEW = innerWidth < 640 ? 2 : 4; // causes that are shown at first

// The box of the causes. With a filter it is one line, and the cause that is shown by itself.
const causes = {
  made: null, items: h("ol"), toggle: null, fold: null,
  all: false, // whether a person asked for all of many
  asked: null, // whether a person opened or closed the box; a filter that comes or goes takes it back
  filtered: false,
  pressed: new Set(), // numbers of the causes that the search asks for

  part() {
    if (!head.causes.length) return null;
    this.all = folded.has("causes");
    const red = head.causes.reduce((total, cause) => total + cause.instances.length, 0);
    this.fold = button(plural(red, "error") + ", " + plural(head.causes.length, "cause"), () => { this.asked = !this.isOpen; this.draw(); }, { class: "fold" });
    this.toggle = button("", () => {
      this.all = !this.all;
      if (this.all) folded.set("causes", false);
      else folded.delete("causes");
      this.draw();
      stateChanged();
    }, { class: "all" });
    const early = head.causes.flatMap((cause) => cause.instances).filter((id) => byKey.get(id).row.earlier).length;
    const earlier = early ? h("span.note", (early === red ? "all" : early.toLocaleString("en")) + " from earlier sessions") : null;
    addEventListener("beforeprint", () => this.draw(true));
    addEventListener("afterprint", () => this.draw());
    this.made = h("section.causes", { "aria-labelledby": "causes" }, h("div.causes-head", h("h2", { id: "causes" }, this.fold), earlier, this.toggle), this.items);
    this.draw();
    return this.made;
  },

  get isOpen() { return this.asked === null ? !this.filtered : this.asked; },

  // Follow the search.
  follow(query, filtered) {
    if (!this.made) return;
    if (filtered !== this.filtered) this.asked = null;
    this.filtered = filtered;
    this.pressed = new Set(termsOf(query).filter(({ field, negated }) => field === "cause" && !negated).map(({ value }) => Number(value)));
    this.draw();
  },

  draw(printed = false) {
    const open = printed || this.isOpen;
    const few = printed || this.all ? head.causes.length : FEW;
    const wanted = head.causes.flatMap((cause, index) => ((open && index < few) || this.pressed.has(index + 1) ? [index] : []));
    const drawn = [...this.items.children];
    if (wanted.join() !== drawn.map(({ value }) => value - 1).join()) this.items.replaceChildren(...wanted.map((index) => drawn.find(({ value }) => value === index + 1) || causeItem(head.causes[index], index)));
    for (const item of this.items.children) item.firstChild.setAttribute("aria-pressed", String(this.pressed.has(item.value)));
    this.items.hidden = !wanted.length;
    this.made.classList.toggle("closed", !open);
    this.fold.setAttribute("aria-expanded", String(open));
    this.toggle.hidden = !open || head.causes.length <= FEW;
    this.toggle.setAttribute("aria-expanded", String(this.all));
    this.toggle.textContent = this.all ? "Show only the first " + FEW : "Show all " + head.causes.length.toLocaleString("en") + " causes";
  },
};

// Show the instances of a cause; pressed again, what was shown without it.
function pressCause(number) {
  if (causes.pressed.has(number)) search(termsOf(state.q).filter(({ field, value }) => field !== "cause" || Number(value) !== number).map(({ token }) => token).join(" "));
  else search("cause:" + number);
}

function causeItem(cause, index) {
  const place = [cause.place || CAUSE[cause.cause] || "", cause.blocks ? "blocks " + cause.blocks : ""].filter(Boolean).join(" \u00b7 ");
  const sets = [cause.parameters, ...cause.alternatives].filter((set) => set.length);
  const title = cause.title || CAUSE[cause.cause] || "no message";
  return h("li", { value: index + 1 },
    h("button.cause-row", { type: "button", click: () => pressCause(index + 1), title: "Show these instances: " + title },
      h("strong.many", cause.instances.length.toLocaleString("en")),
      isDiffering(cause) ? h("span.tag.differs", sign(DIFFERS.sign), DIFFERS.word) : null,
      h("span.what", h("span.cause-title", title), h("span.cause-place", place))),
    sets.length ? h("p.shared", h("span.note", "all with"),
      sets.map((set, place) => [place ? h("span.note", "or") : null,
        button(set.map(([name, value]) => h("code", name + "=" + value)), () => searchParameters(set, cause, index), { title: "Show all instances with these parameters" })]),
      cause.alternatives_left_out ? h("span.note", "or " + plural(cause.alternatives_left_out, "other set")) : null,
      h("span.note.which", sets.every((set) => set.length === 1) ? "which no good one has" : "which no good one has together")) : null);
}

const parameterTerm = ([name, value]) => asTerm(name + "=" + value);

// Rows have their first parameters, and the beginning of long values: where that does not do, the cause's instances are shown.
function searchParameters(set, cause, index) {
  const query = set.map(parameterTerm).join(" ");
  const fits = searchTest(query);
  search(cause.instances.every((id) => fits(byKey.get(id))) ? query : "cause:" + (index + 1));
}
