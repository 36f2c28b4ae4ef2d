// What was measured on what, and at a glance what was learned and what forgotten.

function showSummary(page) {
  const { feed, compared, simulations, more } = page;
  const home = section("summary", "Summary");
  const n = feed.label.length;
  const failed = more.causes.filter((cause) => cause[0] === "failed").reduce((sum, cause) => sum + cause[4].length, 0);
  const partly = more.causes.filter((cause) => cause[0] !== "failed").reduce((sum, cause) => sum + cause[4].length, 0);
  document.getElementById("counts").textContent = [
    n || feed.runs.length ? count(n, "checkpoint") + " in " + count(feed.lanes.length, "trajectory", "trajectories") : null,
    feed.components.length ? count(feed.components.length, "component") : null,
    simulations.all.length ? count(simulations.all.length, "simulation") : null,
    failed ? count(failed, "measurement") + " failed" : n ? "nothing failed" : null,
    partly ? count(partly, "measurement") + " in part" : null,
  ].filter(Boolean).join(" · ");
  for (const words of more.left_out) put(home, h("p", { class: "note" }, words));
  if (!n && !simulations.all.length) put(home, h("p", { class: "note" }, "Nothing is measured yet."));
  if (feed.components.length) {
    put(home, h("h3", null, compared.against === null ? "From the first checkpoint of a trajectory to its last" : "Against " + compared.labels[compared.against]), glance(page));
    put(home, h("h3", null, "What is measured"), components(page));
  }
  if (more.causes.length) {
    put(home, h("h3", null, "What failed"), h("ul", null, more.causes.slice(0, 5).map((cause) => h("li", null, h("span", { class: "bad" }, cause[1] + " " + cause[0]), " on " + count(cause[4].length, "checkpoint") + ": ", h("span", { class: "text" }, cause[2])))));
    if (more.causes.length > 5) put(home, h("p", null, h("a", { href: "#failures" }, "all " + more.causes.length + " causes")));
  }
  for (const run of feed.runs) put(home, facts(run, feed.runs.length > 1));
}

function components({ feed }) {
  const sources = new Map(feed.runs.flatMap((run) => Object.entries(run.sources)));
  const rows = feed.components.map((one) => {
    const source = Object.entries(sources.get(one.name) || {}).map(([key, value]) => key + " " + value).join(", ");
    return [one.name, one.kind, one.role, one.metric + (one.higher ? "" : " (lower is better)"), text(one.weight), one.n_items.toLocaleString("en"), [source, "text quiet"]];
  });
  return h("div", { class: "scroll" }, table([["component"], ["kind"], ["role"], ["metric"], ["weight", true], ["items", true], ["of"]], rows));
}

/** A row per trajectory with two compared checkpoints, a cell per component. */
function glance(page) {
  const { feed, compared } = page;
  const lanes = new Map();
  compared.places.forEach((place, at) => {
    if (place === null) return;
    const lane = feed.lane[place];
    lanes.set(lane, [...(lanes.get(lane) || []), at]);
  });
  const rows = [];
  for (const [lane, of] of lanes) {
    const to = of[of.length - 1];
    const from = compared.against === null ? of[0] : compared.against;
    if (from === to) continue;
    const cells = compared.names.map((name) => {
      const found = page.compare(name, from, to);
      if (!found || found.change === null) return [found ? found.status || "–" : "–", "quiet"];
      const [sign, look] = LOOKS[found.word] || ["", "quiet"];
      return [[sign + " " + found.word + " ", h("span", { class: "quiet" }, withError(found.change, found.stderr, true))], look];
    });
    const link = h("a", { href: "#compare?" + new URLSearchParams({ before: compared.labels[from], after: compared.labels[to] }) }, compared.labels[from] + " → " + compared.labels[to]);
    rows.push([[link], ...cells.map((cell) => [h("span", null, cell[0]), cell[1]])]);
  }
  if (!rows.length) return h("p", { class: "quiet" }, "No trajectory has two checkpoints yet.");
  return [
    h("div", { class: "scroll" }, table([["trajectory"], ...compared.names.map((name) => [name])], rows, { id: "glance" })),
    h("p", { class: "quiet" }, "▲ learned (a target component) or gained (a source), ▼ lost or forgotten: beyond the paired error, by Holm's p over the components of a row at most 0.05. “Within error” may be any change smaller than what could be detected."),
  ];
}

function facts(run, several) {
  const list = Object.entries(run.facts).map(([name, values]) => [name, [values.join(", "), "text"]]);
  if (run.first) list.push(["measured", run.first + " to " + run.last + ", " + text(run.seconds) + " s in all"]);
  list.push(["read from", [run.path, "text"]]);
  return h("details", { open: !several || null }, h("summary", null, several ? run.label + ": versions and settings" : "Versions and settings"), table([["setting"], ["value"]], list));
}
