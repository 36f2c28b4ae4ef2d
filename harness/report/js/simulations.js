// tau2 simulations: a list with verdict and cause, and the transcript of one beside it.

const ROWS = 300;
const NAMES = new Map([["assistant", "agent"], ["user", "user"], ["system", "system"], ["tool", "answer"], ["unreadable", "unreadable"]]);

function verdictOf(one) {
  if (one.excluded) return "left out";
  if (one.reward === null) return "no reward";
  return one.reward >= 1 - 1e-6 ? "solved" : "failed";
}

function showSimulations(page) {
  const { simulations } = page;
  if (!simulations.all.length && !simulations.groups.length) return;
  const home = section("simulations", "Simulations");
  if (!simulations.all.length) return void put(home, h("p", { class: "quiet" }, "None is finished yet."));
  const view = { verdict: "", cause: "", group: "", search: "", rows: [], open: null };
  const options = (values, all) => [["", all], ...[...new Set(values)].sort().map((value) => [value, value])];
  const search = h("input", { type: "search", size: 16, oninput: () => { view.search = search.value.toLowerCase(); redraw(); } });
  const bar = h("div", { class: "bar" },
    select("Of", [["", "all"], ...simulations.groups.map((group, at) => [String(at), group.name])], "", (value) => { view.group = value; redraw(); }),
    select("Verdict", options(simulations.all.map(verdictOf), "all"), "", (value) => { view.verdict = value; redraw(); }),
    select("Cause", options(simulations.all.filter((one) => one.fault).map((one) => one.fault[0]), "all"), "", (value) => { view.cause = value; redraw(); }),
    h("label", null, "Task ", search));
  const tally = h("p", { class: "quiet", "aria-live": "polite" });
  const body = h("tbody");
  const columns = ["task", "trial", "reward", "verdict", "cause", "ended by", "turns"];
  const several = simulations.groups.length > 1;
  if (several) columns.push("of");
  const list = h("div", { class: "simlist", id: "simlist" }, h("table", null, h("thead", null, h("tr", null, columns.map((name) => h("th", { scope: "col" }, name)))), body));
  const shown = h("div", { class: "transcript", id: "transcript", tabindex: "-1", role: "region", "aria-label": "Transcript" }, h("p", { class: "quiet" }, "Choose a simulation: click, or Enter on a row; j and k go on to the next."));
  put(home, bar, tally, h("div", { class: "sims" }, list, shown));

  function redraw() {
    const found = simulations.all.map((_, at) => at).filter((at) => {
      const one = simulations.all[at];
      return (!view.verdict || verdictOf(one) === view.verdict) && (!view.cause || (one.fault && one.fault[0] === view.cause)) && (!view.group || String(one.group) === view.group) && (!view.search || one.task.toLowerCase().includes(view.search));
    });
    view.found = found;
    const tallies = new Map();
    for (const at of found) tallies.set(verdictOf(simulations.all[at]), (tallies.get(verdictOf(simulations.all[at])) || 0) + 1);
    tally.textContent = count(found.length, "simulation") + ": " + [...tallies].map(([word, n]) => n + " " + word).join(", ");
    body.replaceChildren();
    view.rows = [];
    grow();
  }

  function grow() {
    const from = view.rows.length;
    for (const at of view.found.slice(from, from + ROWS)) {
      const row = listRow(simulations, at, several);
      row.addEventListener("click", () => open(at, false));
      row.addEventListener("keydown", (event) => {
        const place = view.rows.indexOf(row);
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(at, true); }
        if (event.key === "ArrowDown" || event.key === "ArrowUp") {
          event.preventDefault();
          const next = view.rows[place + (event.key === "ArrowDown" ? 1 : -1)];
          if (next) { row.tabIndex = -1; next.tabIndex = 0; next.focus(); }
        }
      });
      row.tabIndex = view.rows.length ? -1 : 0;
      row.setAttribute("aria-selected", String(at === view.open));
      view.rows.push(row);
      body.append(row);
    }
    if (view.rows.length < view.found.length) {
      const more = h("tr", null, h("td", { colspan: columns.length }, h("button", { type: "button", onclick: () => { more.remove(); grow(); } }, "show " + ROWS + " more of " + view.found.length)));
      body.append(more);
    }
  }

  function open(at, focus) {
    if (!simulations.all[at]) return;
    view.open = at;
    view.rows.forEach((row, place) => row.setAttribute("aria-selected", String(view.found[place] === at)));
    fill(shown, transcript(simulations, at, page.transcript(at)));
    shown.scrollTop = 0;
    address.write("simulations", { show: at });
    if (focus) shown.focus({ preventScroll: false });
  }

  page.onKey((event) => {
    if (event.key !== "j" && event.key !== "k") return;
    const place = view.open === null ? -1 : view.found.indexOf(view.open);
    const next = view.found[place + (event.key === "j" ? 1 : -1)];
    if (next === undefined) return;
    if (view.open === null) home.scrollIntoView();
    open(next, true);
    const row = view.rows[view.found.indexOf(next)];
    if (row) row.scrollIntoView({ block: "nearest" });
  });
  page.onEscape(() => {
    const row = view.rows[view.found.indexOf(view.open)];
    if (row && shown.contains(document.activeElement)) { view.rows.forEach((other) => { other.tabIndex = -1; }); row.tabIndex = 0; row.focus(); }
  });
  page.onAddress((id, chosen) => {
    if (id === "simulations" && chosen.show !== undefined) open(Number(chosen.show), true);
  });
  redraw();
}

function listRow(simulations, at, several) {
  const one = simulations.all[at];
  const verdict = verdictOf(one);
  const look = { solved: "better", failed: "worse", "no reward": "bad" }[verdict] || "quiet";
  const cells = [one.task, one.trial === null ? "–" : String(one.trial), one.reward === null ? "–" : String(one.reward), h("span", { class: look }, verdict), one.fault ? h("span", { title: one.fault[1] || null }, one.fault[0]) : "", one.end, String(one.n)];
  if (several) cells.push(simulations.groups[one.group].name);
  return h("tr", { "aria-label": "task " + one.task + ", " + verdict }, cells.map((cell) => h("td", { class: "text" }, cell)));
}

function transcript(simulations, at, kept) {
  const one = simulations.all[at];
  const { strings } = simulations;
  const said = (number) => strings[number];
  const failed = one.checks.filter((check) => !check[2]);
  const gates = new Set(one.basis);
  const parts = Object.entries(one.parts).map(([name, value]) => name + " " + value + (gates.has(name) ? " (gates the reward)" : ""));
  const facts = [
    h("h3", { class: "text" }, "Task " + one.task + (one.trial === null ? "" : ", trial " + one.trial)),
    h("p", null, h("strong", null, verdictOf(one) + (one.reward === null ? "" : ", reward " + one.reward)), " · ended by " + one.end + " · " + count(one.n, "message") + " · ", h("span", { class: "quiet" }, simulations.groups[one.group].name)),
    one.fault ? h("p", { class: "text" }, h("span", { class: "bad" }, "Cause: " + one.fault[0]), " (" + one.fault[1] + (one.fault[3] === null ? "" : ", turn " + one.fault[3]) + "): " + said(one.fault[2]), one.replayed ? h("span", { class: "quiet" }, " (found by replaying; the file names none)") : null) : one.reward !== null && verdictOf(one) === "failed" ? h("p", { class: "quiet" }, "The file names no cause; `harness tau2 rescore` finds it.") : null,
    one.reason ? h("p", { class: "text" }, said(one.reason)) : null,
    parts.length ? h("p", null, "Components: " + parts.join(", ")) : null,
    failed.length ? [h("h4", null, "What failed"), h("ul", { class: "checks" }, failed.map((check) => checkLine(check, said, gates)))] : null,
    one.records && one.records.length ? [h("h4", null, "Records that differ at the end"), h("ul", { class: "checks" }, one.records.map((number) => h("li", { class: "text mono" }, said(number))))] : null,
    one.checks.length > failed.length ? h("details", null, h("summary", null, count(one.checks.length - failed.length, "check") + " met"), h("ul", { class: "checks" }, one.checks.filter((check) => check[2]).map((check) => checkLine(check, said, gates)))) : null,
    kept && kept.told ? h("details", null, h("summary", null, "What the user was told"), h("div", { class: "text" }, kept.told)) : null,
  ];
  if (!kept) return [facts, h("p", { class: "note" }, one.n ? "Its transcript was left out of this page (--simulations, --max-mb)." : "There is no transcript.")];
  return [facts, h("h4", null, "Transcript"), kept.messages.map((message, turn) => messageBox(message, turn, one))];
}

function checkLine([component, what, met, judge], said, gates) {
  return h("li", { class: "text" }, h("span", { class: met ? "better" : "worse" }, met ? "met " : "not met "), component + (gates.has(component) ? ": " : " (does not gate): ") + said(what), judge ? h("span", { class: "quiet" }, " — " + said(judge)) : null);
}

function messageBox({ role, ofUser, content, calls, error, thought }, turn, one) {
  const faulty = one.fault && one.fault[3] === turn;
  const who = (NAMES.get(role) || role) + (role === "tool" && ofUser ? " to the user" : "") + (error ? ", an error" : "");
  return h("div", { class: "message " + (NAMES.has(role) ? role : "") + (faulty ? " fault" : "") },
    h("div", { class: "who" }, turn + " " + who, faulty ? h("span", { class: "bad" }, " ← " + one.fault[0] + " at fault") : null),
    thought ? h("details", { class: "thought" }, h("summary", { class: "quiet" }, "thought"), h("div", { class: "text quiet" }, thought)) : null,
    content ? h("div", { class: "text" + (role === "tool" ? " mono" : "") }, content) : calls.length ? null : h("div", { class: "quiet" }, "(empty)"),
    calls.map(([name, args, byUser]) => h("div", { class: "text mono" }, (byUser ? "user calls " : "calls ") + name + " " + args)));
}
