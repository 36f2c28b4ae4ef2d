// Two checkpoints, component by component: paired change, interval, what became of it.

function showCompare(page) {
  const { compared } = page;
  if (compared.labels.length < 2) return;
  const home = section("compare", "Change between two checkpoints");
  const bar = h("div", { class: "bar" });
  const body = h("div");
  put(home, bar, body);
  page.pairBar(bar);
  page.onPair(() => fill(body, pairTable(page)));
}

function pairTable(page) {
  const { compared, pair } = page;
  const { before, after } = pair;
  if (before === after) return h("p", { class: "note" }, "Both are the same checkpoint; choose another.");
  const rows = compared.names.map((name) => {
    const found = page.compare(name, before, after);
    const one = page.known(name);
    const raw = compared.raw[name];
    if (!found || found.status === null) return [name, "–", text(raw[before]), text(raw[after]), "–", "–", "", "–", "–", "–", ""];
    const [sign, look] = LOOKS[found.word] || ["", "quiet"];
    const remark = found.status === "paired" ? (found.up === null ? "" : "▲ " + found.up + " ▼ " + found.down) : found.status;
    return [name, [(sign + " " + found.word).trim(), look], text(raw[before]), text(raw[after]), withError(found.change, found.stderr, true), limits(found.low, found.high), intervalBar(found),
      probability(found.holm), text(found.detectable), found.n === null ? "–" : found.n.toLocaleString("en") + (found.clusters && found.clusters !== found.n ? "/" + found.clusters : ""),
      h("span", { title: found.reason || null }, [one.role, one.higher ? "" : "lower is better", remark].filter(Boolean).join(" · "))];
  });
  const whole = page.compareScalar(before, after);
  if (whole && whole.change !== null) rows.push(["scalar", "", "", "", withError(whole.change, whole.stderr, true), limits(whole.low, whole.high), intervalBar(whole), "", text(whole.detectable), "", ""]);
  const columns = [["component"], ["became"], ["before", true], ["after", true], ["change ± error", true], ["95% interval", true], [""], ["Holm p", true], ["detectable", true], ["items", true], [""]];
  const at = before < after ? pairIndex(compared.labels.length, before, after) : pairIndex(compared.labels.length, after, before);
  const remarks = compared.pairs.remarks[at].map((number) => compared.pairs.texts[number]);
  const reasons = compared.names.map((name) => [name, page.compare(name, before, after)]).filter(([, found]) => found && found.reason);
  return [
    h("div", { class: "scroll" }, table(columns, rows, { id: "changes" })),
    remarks.map((words) => h("p", { class: "note" }, words)),
    reasons.map(([name, found]) => h("p", { class: "quiet" }, name + ": " + (found.status === "unpaired" ? "unpaired, as of two samples, so the error is too wide: " : "") + found.reason)),
    whole && whole.reason ? h("p", { class: "quiet" }, "scalar: " + whole.reason) : null,
    h("p", { class: "quiet" }, "After minus before over the items that both scored. Beyond error: Holm's p over these components is at most 0.05. Detectable: a true change of this size is found in 80% of such comparisons. ▲ ▼: answers that became right, and wrong."),
  ];
}

/** The interval around the change, 0 as a line, the detectable change as ticks; each row by its own measure. */
function intervalBar(found) {
  if (found.low === null || found.low === undefined) return "";
  const most = Math.max(Math.abs(found.low), Math.abs(found.high), found.detectable || 0) * 1.1 || 1;
  const x = (value) => 70 + (value / most) * 66;
  const look = found.low > 0 || found.high < 0 ? "var(--ink)" : "var(--still)";
  const line = (from, to, top, bottom, width, colour) => {
    const made = svg("line", { x1: from, x2: to, y1: top, y2: bottom, "stroke-width": width });
    made.style.stroke = colour;
    return made;
  };
  const dot = svg("circle", { cx: x(found.change), cy: 8, r: 3.5 });
  dot.style.fill = look;
  const ticks = found.detectable ? [-found.detectable, found.detectable].map((value) => line(x(value), x(value), 5, 11, 1, "var(--quiet)")) : [];
  return svg("svg", { width: 140, height: 16, role: "img", "aria-label": "interval " + limits(found.low, found.high) }, line(70, 70, 0, 16, 1, "var(--line)"), ticks, line(x(found.low), x(found.high), 8, 8, 2, look), dot);
}
