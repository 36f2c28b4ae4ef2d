// What is chosen, and who is told of it. Starts the page.

function state(blocks) {
  const { feed, compared } = blocks;
  const told = { pair: [], component: [], theme: [], key: [], escape: [], address: [] };
  const tell = (what, ...words) => told[what].forEach((listener) => listener(...words));
  const n = compared.labels.length;
  const known = new Map(feed.components.map((one) => [one.name, one]));
  const index = simulationIndex(blocks);
  const boxes = { before: [], after: [], component: [] };
  const page = {
    ...blocks,
    transcript: transcripts(),
    pair: firstPair(blocks),
    component: compared.names[0] || null,
    known: (name) => known.get(name) || { role: "", higher: true },
    compare: (name, before, after) => comparison(compared.pairs.components[name], compared.pairs.words, compared.pairs.texts, n, before, after),
    compareScalar: (before, after) => comparison(compared.pairs.scalar, null, compared.pairs.texts, n, before, after),
    moved: (name, before, after) => moved(compared.items[name], before, after),
    transcriptsOf: (component) => blocks.simulations.groups.some((group) => group.component === component),
    transcriptOf(component, at, item) {
      const number = index.get(component + "\n" + compared.places[at] + "\n" + item);
      return number === undefined ? null : [compared.labels[at], number];
    },
    onPair(listener) { told.pair.push(listener); listener(); },
    onComponent(listener) { told.component.push(listener); listener(); },
    onTheme: (listener) => told.theme.push(listener),
    onKey: (listener) => told.key.push(listener),
    onEscape: (listener) => told.escape.push(listener),
    onAddress: (listener) => told.address.push(listener),
    tell,
    setPair(before, after, id) {
      page.pair = { before, after };
      for (const key of ["before", "after"]) for (const box of boxes[key]) box.value = String(page.pair[key]);
      tell("pair");
      page.link(id);
      if (id) document.getElementById(id).scrollIntoView();
    },
    setComponent(name, id) {
      page.component = name;
      for (const box of boxes.component) box.value = name;
      tell("component");
      page.link(id);
    },
    link(id) {
      if (!id) return;
      address.write(id, { before: compared.labels[page.pair.before], after: compared.labels[page.pair.after], component: page.component });
    },
    pairBar(bar) {
      const id = bar.parentElement.id;
      const options = compared.labels.map((label, at) => [String(at), label]);
      const set = () => page.setPair(Number(before.lastChild.value), Number(after.lastChild.value));
      const chosen = () => { set(); page.link(id); };
      const before = select("Before", options, String(page.pair.before), chosen);
      const after = select("After", options, String(page.pair.after), chosen);
      boxes.before.push(before.lastChild);
      boxes.after.push(after.lastChild);
      put(bar, before, after, h("button", { type: "button", onclick: () => { page.setPair(page.pair.after, page.pair.before); page.link(id); } }, "Swap"));
    },
    componentBar(bar) {
      const id = bar.parentElement.id;
      const box = select("Component", compared.names.map((name) => [name, name]), page.component, (name) => page.setComponent(name, id));
      boxes.component.push(box.lastChild);
      put(bar, box);
    },
  };
  return page;
}

/** The last checkpoint against the one that --against names, or against the first of its trajectory. */
function firstPair({ feed, compared }) {
  const own = compared.places.map((place, at) => [place, at]).filter(([place]) => place !== null);
  if (!own.length) return { before: 0, after: 0 };
  const [place, after] = own[own.length - 1];
  const first = own.find(([other]) => feed.lane[other] === feed.lane[place]);
  return { before: compared.against === null ? first[1] : compared.against, after };
}

/** Number of a simulation -> its transcript with texts for numbers; null where it was left out. Read when the first is asked for. */
function transcripts() {
  let known = null, texts = null;
  return (number) => {
    if (!known) {
      const read = block("transcripts");
      texts = read.texts;
      known = new Map(read.shown.map(([at, told, messages]) => [at, { told, messages }]));
    }
    const found = known.get(number);
    const said = (who, at) => (at ? texts[who][at] : "");
    return found === undefined ? null : {
      told: said(" told", found.told),
      messages: found.messages.map(([role, ofUser, content, calls, error, thought]) => ({
        role, ofUser, error, content: said(role, content), thought: said(" thought", thought),
        calls: calls.map(([name, args, byUser]) => [name, said(" called", args), byUser]),
      })),
    };
  };
}

/** (component, checkpoint, item) -> number of its simulation. */
function simulationIndex({ simulations }) {
  const found = new Map();
  simulations.all.forEach((one, at) => {
    const group = simulations.groups[one.group];
    for (const place of group.places) found.set(group.component + "\n" + place + "\n" + one.task + "-" + one.trial, at);
  });
  return found;
}

/** What an address chooses. Unknown names in it are passed over. */
function follow_address(page) {
  const { id, chosen } = address.read();
  const at = (label) => page.compared.labels.indexOf(label);
  if (chosen.component && page.compared.names.includes(chosen.component)) page.setComponent(chosen.component);
  if (at(chosen.before) >= 0 && at(chosen.after) >= 0) page.setPair(at(chosen.before), at(chosen.after));
  page.tell("address", id, chosen);
  const home = document.getElementById(id);
  if (home) home.scrollIntoView();
}

function listen(page) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const box = document.getElementById("theme");
  const theme = () => {
    root.dataset.theme = box.value || (system.matches ? "dark" : "light");
    page.tell("theme");
  };
  root.dataset.theme = system.matches ? "dark" : "light";
  box.addEventListener("change", theme);
  system.addEventListener("change", theme);
  window.addEventListener("beforeprint", () => { root.dataset.theme = "light"; page.tell("theme"); });
  window.addEventListener("afterprint", theme);
  const keys = document.getElementById("keys"), button = document.getElementById("keys-button");
  const toggle = () => { keys.hidden = !keys.hidden; button.setAttribute("aria-expanded", String(!keys.hidden)); };
  button.addEventListener("click", toggle);
  let going = false;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "Escape") page.tell("escape");
    else if (event.key === "?") toggle();
    else if (going && /^[1-9]$/.test(event.key) && SECTIONS[event.key - 1]) location.hash = SECTIONS[event.key - 1][0];
    else page.tell("key", event);
    going = event.key === "g";
  });
  window.addEventListener("hashchange", () => follow_address(page));
}

function navigation() {
  const nav = document.getElementById("sections");
  const links = new Map(SECTIONS.map(([id, title]) => [id, h("a", { href: "#" + id }, title)]));
  put(nav, [...links.values()]);
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const [id] of SECTIONS) seen.observe(document.getElementById(id));
}

function start() {
  const page = state(Object.fromEntries(["feed", "compared", "simulations", "more"].map((name) => [name, block(name)])));
  listen(page);
  showSummary(page);
  showCurves(page);
  showCompare(page);
  showMatrix(page);
  showQuestions(page);
  showSimulations(page);
  showFailures(page);
  navigation();
  if (location.hash) follow_address(page);
  window.report = page;
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

try {
  start();
} catch (error) {
  document.getElementById("main").append(h("p", { class: "note" }, "The page could not be drawn: " + error.message));
  document.documentElement.dataset.failed = error.message;
}
