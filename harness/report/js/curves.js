// Reward against step: a panel per component, the scalar, and the mixture beside them. Cursors, zoom and focus go together.

const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
const N_COLOURS = 6;
const SHOWN_IN_READOUT = 5;
const BANDS_AT_MOST = 6;
const DOMAINS = 12;

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function dash(lane) {
  return DASHES[Math.floor(lane / N_COLOURS) % DASHES.length];
}

function showCurves(page) {
  const { feed } = page;
  if (!feed.label.length) return;
  const home = section("curves", "Reward against step");
  const view = { pinned: new Set(), hovered: null, band: "between", x: "step", colours: [], plots: [] };
  const readColours = () => { view.colours = feed.lanes.map((_, lane) => css("--lane-" + (lane % N_COLOURS))); };
  readColours();
  const lit = (lane) => (view.hovered !== null ? view.hovered === lane : !view.pinned.size || view.pinned.has(lane));
  const redraw = () => view.plots.forEach((plot) => plot.redraw());
  const buttons = feed.lanes.map((name, lane) => {
    const stroke = { x1: 0, y1: 5, x2: 26, y2: 5, "stroke-width": 2.5, "stroke-dasharray": dash(lane).join(" ") || null, style: null };
    const line = svg("line", stroke);
    line.style.stroke = "var(--lane-" + (lane % N_COLOURS) + ")";
    const button = h("button", { type: "button", "aria-pressed": "false" }, svg("svg", { width: 26, height: 10, "aria-hidden": "true" }, line), name);
    const hover = (value) => () => { view.hovered = value; redraw(); };
    button.addEventListener("mouseenter", hover(lane));
    button.addEventListener("mouseleave", hover(null));
    button.addEventListener("click", () => {
      if (!view.pinned.delete(lane)) view.pinned.add(lane);
      button.setAttribute("aria-pressed", String(view.pinned.has(lane)));
      view.hovered = null;
      redraw();
    });
    return button;
  });
  const legend = h("div", { class: "lanes", role: "group", "aria-label": "Trajectories in focus" }, buttons);
  const bar = h("div", { class: "bar" },
    select("Bands", [["between", "± error between steps (paired)"], ["sample", "± error over other items"], ["", "none"]], "between", (value) => { view.band = value; rebuild(); }),
    feed.tokens.every((tokens) => tokens !== null) ? select("Against", [["step", "step"], ["tokens", "tokens seen"]], "step", (value) => { view.x = value; rebuild(); }) : null,
    h("button", { type: "button", onclick: () => zoomOut(view) }, "Whole range"),
    feed.lanes.length > 12 ? filterBox(buttons, feed.lanes) : null);
  const explain = h("p", { class: "quiet" }, "Drag to zoom, all panels follow; a click on a trajectory puts it in focus. The paired band is one standard error of the difference between neighbouring steps, shared by the two: the items are common to all checkpoints, so what they have in common is no error of a difference. The other band is for another sample of items.");
  const panels = h("div", { class: "panels" });
  const mixture = h("div", { class: "panels" });
  put(home, legend, bar, panels, feed.domains.length ? [h("h3", null, "Mixture that each step was trained on"), mixture, feed.domains.length > DOMAINS ? h("p", { class: "quiet" }, "The " + DOMAINS + " domains whose share varies most, of " + feed.domains.length + "; the table has all.") : null] : null, explain);
  const shown = [
    { name: "scalar", sub: "Σ weight × component", raw: feed.scalar.raw, between: feed.scalar.between, sample: feed.scalar.sample, into: panels },
    ...feed.components.map((one) => ({ ...one, sub: one.unit + " · " + one.role + (one.higher ? "" : " · lower is better"), into: panels })),
    ...widest(feed.shares).map((at) => ({ name: "share of " + feed.domains[at], sub: "mixture", raw: feed.shares[at], into: mixture })),
  ];
  const frames = shown.map((one) => {
    const readout = h("div", { class: "readout" });
    const plot = h("div", { class: "plot" });
    const frame = h("div", { class: "panel", tabindex: "0", role: "group", "aria-label": one.name + " against " + view.x + ", " + count(feed.lanes.length, "line") + "; left and right move the cursor" },
      h("h3", null, one.name + " ", h("span", { class: "quiet" }, one.sub)), one.remark ? h("p", { class: "bad" }, one.remark) : null, one.varied ? h("p", { class: "quiet" }, one.varied) : null, readout, plot);
    one.into.append(frame);
    return { one, frame, plot, readout };
  });
  put(home, valuesTable(page));

  function rebuild() {
    for (const plot of view.plots) plot.destroy();
    view.plots = [];
    const grid = alignment(feed, view.x);
    for (const frame of frames) view.plots.push(draw(frame, grid, view, feed, lit));
    page.plots = view.plots;
  }
  rebuild();
  const resize = () => view.plots.forEach((plot, at) => plot.setSize({ width: Math.max(200, frames[at].plot.clientWidth), height: 200 }));
  new ResizeObserver(resize).observe(panels);
  page.onTheme(() => { readColours(); rebuild(); });
  page.onEscape(() => zoomOut(view));
  window.addEventListener("beforeprint", resize);
}

/** Which domains have a panel, in their order: those whose share varies most. */
function widest(shares) {
  const range = (share) => {
    const known = share.filter((x) => x !== null);
    return known.length ? known.reduce((a, b) => Math.max(a, b)) - known.reduce((a, b) => Math.min(a, b)) : 0;
  };
  const order = shares.map((_, at) => at).sort((a, b) => range(shares[b]) - range(shares[a]));
  return order.slice(0, DOMAINS).sort((a, b) => a - b);
}

function filterBox(buttons, names) {
  const box = h("input", { type: "search", size: 14, oninput: () => buttons.forEach((button, at) => { button.hidden = !names[at].includes(box.value); }) });
  return h("label", null, "Find ", box);
}

/** The x values of all trajectories in order, and of every checkpoint its row among them. */
function alignment(feed, by) {
  const inLane = new Map();
  const xs = feed.label.map((_, at) => {
    const position = inLane.get(feed.lane[at]) || 0;
    inLane.set(feed.lane[at], position + 1);
    const x = by === "tokens" ? feed.tokens[at] : feed.step[at];
    return x === null ? position : x;
  });
  const all = [...new Set(xs)].sort((a, b) => a - b);
  const row = new Map(all.map((x, at) => [x, at]));
  return { xs: all, rows: xs.map((x) => row.get(x)) };
}

/** A column per trajectory; undefined where it has no checkpoint, null (a gap) where the value is missing. */
function byLane(feed, grid, values) {
  const columns = feed.lanes.map(() => new Array(grid.xs.length));
  values.forEach((value, at) => { columns[feed.lane[at]][grid.rows[at]] = value; });
  return columns;
}

function draw({ one, frame, plot, readout }, grid, view, feed, lit) {
  const values = byLane(feed, grid, one.raw);
  const errors = view.band && one[view.band] ? byLane(feed, grid, one[view.band]) : null;
  const widest = errors ? one[view.band].reduce((most, e) => Math.max(most, e === null ? 0 : e), 0) : 0;
  const ink = css("--quiet"), lines = css("--grid");
  const axis = { stroke: ink, grid: { stroke: lines, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const alpha = (lane) => (lit(lane) ? 1 : 0.12);
  const made = new uPlot({
    width: Math.max(200, plot.clientWidth), height: 200, padding: [6, 8, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "steps", setSeries: false }, drag: { x: true, y: false }, points: { show: feed.lanes.length <= 12, size: 6 }, y: false },
    scales: { x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
      y: { range: (_, low, high) => (low === null ? [0, 1] : uPlot.rangeNum(low - widest, high + widest, 0.06, true)) } },
    axes: [{ ...axis, size: 24, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? (tick >= 1e5 ? tick.toExponential() : String(tick)) : "")) }, { ...axis, size: 52 }],
    series: [{}, ...feed.lanes.map((name, lane) => ({
      label: name, width: 1.6, dash: dash(lane), spanGaps: false,
      stroke: () => shade(view.colours[lane], alpha(lane)),
      points: { show: grid.xs.length <= 60 && feed.lanes.length <= 12, size: 4, stroke: () => shade(view.colours[lane], alpha(lane)), fill: () => shade(view.colours[lane], alpha(lane)) },
    }))],
    hooks: {
      drawClear: [(u) => errors && bands(u, values, errors, view, lit)],
      setCursor: [(u) => { readout.textContent = reading(u, values, errors, view, feed, lit); }],
      setScale: [(u, key) => key === "x" && !view.zooming && follow(u, view)],
    },
  }, [grid.xs, ...values], plot);
  let at = -1;
  frame.onkeydown = (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    at = Math.min(grid.xs.length - 1, Math.max(0, at + (event.key === "ArrowRight" ? 1 : -1)));
    made.setCursor({ left: made.valToPos(grid.xs[at], "x"), top: 90 }, true, true);
  };
  return made;
}

function shade(colour, alpha) {
  return colour + Math.round(alpha * 255).toString(16).padStart(2, "0");
}

/** One standard error on both sides of each line in focus; of many lines only of those in focus. */
function bands(u, values, errors, view, lit) {
  const focused = values.map((_, lane) => lane).filter(lit);
  if (focused.length > BANDS_AT_MOST) return;
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const lane of focused) {
    let run = [];
    const close = () => {
      if (run.length > 1) {
        ctx.beginPath();
        run.forEach(([x, low, high], at) => (at ? ctx.lineTo(x, high) : ctx.moveTo(x, high)));
        for (const [x, low] of [...run].reverse()) ctx.lineTo(x, low);
        ctx.fillStyle = shade(view.colours[lane], 0.2);
        ctx.fill();
      }
      run = [];
    };
    values[lane].forEach((value, at) => {
      if (value === undefined) return;
      const error = errors[lane][at];
      if (value === null || error === null || error === undefined) return close();
      run.push([u.valToPos(u.data[0][at], "x", true), u.valToPos(value - error, "y", true), u.valToPos(value + error, "y", true)]);
    });
    close();
  }
  ctx.restore();
}

function reading(u, values, errors, view, feed, lit) {
  const at = u.cursor.idx;
  if (at === null || at === undefined) return "";
  const here = values.map((_, lane) => lane).filter((lane) => lit(lane) && values[lane][at] !== undefined);
  const shown = here.slice(0, SHOWN_IN_READOUT).map((lane) => feed.lanes[lane] + " " + withError(values[lane][at], errors && errors[lane][at]));
  return view.x + " " + u.data[0][at] + ":  " + shown.join("   ") + (here.length > SHOWN_IN_READOUT ? "   and " + (here.length - SHOWN_IN_READOUT) + " more" : "");
}

function follow(u, view) {
  view.zooming = true;
  const { min, max } = u.scales.x;
  for (const other of view.plots) if (other !== u && min !== null) other.setScale("x", { min, max });
  view.zooming = false;
}

function zoomOut(view) {
  view.zooming = true;
  for (const plot of view.plots) {
    const xs = plot.data[0];
    plot.setScale("x", { min: xs[0], max: xs[xs.length - 1] });
  }
  view.zooming = false;
}

/** The same values as a table, made when it is opened. */
function valuesTable({ feed }) {
  const made = h("details", { class: "values" }, h("summary", null, "The values as a table"));
  made.addEventListener("toggle", () => {
    if (!made.open || made.children.length > 1) return;
    const most = 2000;
    const columns = [["checkpoint"], ["scalar", true], ...feed.components.map((one) => [one.name, true]), ...feed.domains.map((name) => ["share of " + name, true])];
    const rows = feed.label.slice(0, most).map((label, at) => [label, withError(feed.scalar.raw[at], feed.scalar.sample[at]), ...feed.components.map((one) => withError(one.raw[at], one.sample[at])), ...feed.shares.map((share) => (share[at] === null ? "–" : String(share[at])))]);
    put(made, feed.label.length > most ? h("p", null, "the first " + most + "; `harness export` writes all") : null, h("div", { class: "scroll" }, table(columns, rows)));
  }, { once: false });
  return made;
}
