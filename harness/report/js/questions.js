// The items whose answer changed between the two chosen checkpoints, with what was asked, what was answered, what is right.

const LISTED = 100;

function showQuestions(page) {
  const { compared } = page;
  if (compared.labels.length < 2) return;
  const home = section("questions", "Questions whose answer changed");
  const bar = h("div", { class: "bar" });
  const body = h("div");
  let which = "all";
  put(home, bar, body);
  page.pairBar(bar);
  page.componentBar(bar);
  put(bar, select("Show", [["all", "all that changed"], ["right", "became right"], ["wrong", "became wrong"]], "all", (value) => { which = value; redraw(); }));
  const redraw = () => fill(body, changed(page, which));
  page.onPair(redraw);
  page.onComponent(redraw);
}

function changed(page, which) {
  const { compared, component, pair } = page;
  const item = compared.items[component];
  const { before, after } = pair;
  if (before === compared.against || after === compared.against) return h("p", { class: "note" }, "The items of " + compared.labels[compared.against] + " are not on this page; name its run beside the others to see them.");
  if (!item || item.why) return h("p", { class: "note" }, component + " has no items to show: " + (item ? item.why : "it was not measured") + ".");
  const whole = page.compare(component, before, after);
  if (whole && whole.status === "refused") return h("p", { class: "note" }, component + " is not compared between these: " + whole.reason + ".");
  const every = moved(item, before, after);
  const found = every.filter((one) => which === "all" || one.better === (which === "right"));
  const head = item.answers
    ? count(every.filter((one) => one.better).length, "answer") + " became right and " + every.filter((one) => one.better === false).length + " wrong, of " + count(item.n, "item") + "."
    : "Values, not answers: the items that moved most, of " + count(item.n, "item") + ".";
  const lacks = !item.prompt && !item.answer && !item.target && !page.transcriptsOf(component);
  const cut = item.answers && whole && whole.up !== null && (whole.up + whole.down > every.length);
  const list = h("div");
  const grow = (from) => {
    found.slice(from, from + LISTED).forEach((one) => list.append(entry(page, item, one)));
    if (from + LISTED < found.length) {
      const more = h("button", { type: "button", onclick: () => { more.remove(); grow(from + LISTED); } }, "show more of " + found.length);
      list.append(more);
    }
  };
  grow(0);
  return [
    h("p", { id: "moved" }, head),
    cut ? h("p", { class: "note" }, "By all items " + whole.up + " became right and " + whole.down + " wrong; listed are the " + item.ids.length + " that differ most between the compared checkpoints.") : null,
    lacks ? h("p", { class: "note" }, component + " keeps no prompts, answers or targets: its items are listed by id.") : null,
    found.length ? list : h("p", { class: "quiet" }, "None."),
  ];
}

/** The number of what an item has in common under all checkpoints that were asked the same as this one; 0 for none. */
function common(item, column, at, i) {
  return item[column] ? item[column][item.kind[at]][i] : 0;
}

/** The last words that were asked, or where there are none the first of what is right. */
function snippet(item, at, i, strings) {
  const asked = strings[common(item, "prompt", at, i)], right = strings[common(item, "target", at, i)];
  const words = asked && asked.trim().length > 8 ? "…" + asked.trim().slice(-90) : right ? right.trim().slice(0, 90) : "";
  return words ? h("span", { class: "snippet text quiet" }, words.replace(/\s+/g, " ")) : null;
}

function entry(page, item, { i, was, now, better }) {
  const { strings } = page.compared;
  const { before, after } = page.pair;
  const mark = better === null ? ["", "still"] : better ? ["▲ became right", "better"] : ["▼ became wrong", "worse"];
  const made = h("details", { class: "qa" }, h("summary", null, h("span", { class: "mono text" }, item.ids[i]), " ", h("span", { class: mark[1] }, mark[0]), " ", h("span", { class: "quiet" }, short(was) + " → " + short(now) + (better === null ? " (" + short(now - was, true) + ")" : "")), snippet(item, after, i, strings)));
  const box = (title, number, wide) => (number ? h("div", { class: "box" + (wide ? " wide" : "") }, h("h4", null, title), h("div", { class: "text mono" }, strings[number])) : null);
  const of = (column, at) => (item[column] ? item[column][at][i] : 0);
  made.addEventListener("toggle", () => {
    if (!made.open || made.children.length > 1) return;
    const links = [before, after].map((at) => page.transcriptOf(page.component, at, item.ids[i])).filter(Boolean);
    const content = [
      box("asked", common(item, "prompt", after, i), true),
      box("answer of " + page.compared.labels[before], of("answer", before)), box("answer of " + page.compared.labels[after], of("answer", after)),
      box("why it has no value, " + page.compared.labels[before], of("reason", before)), box("why it has no value, " + page.compared.labels[after], of("reason", after)),
      box("right", common(item, "target", after, i), true),
      links.length ? h("p", { class: "wide" }, links.map(([label, number]) => [h("a", { href: "#simulations?show=" + number }, "transcript of " + label), " "])) : null,
    ].filter(Boolean);
    put(made, h("div", { class: "body" }, content.length ? content : h("p", { class: "quiet wide" }, "No texts are kept of this item.")));
  });
  return made;
}
