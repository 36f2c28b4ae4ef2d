// Checkpoints against checkpoints: above the diagonal the paired change, below it the smallest change that could be detected.

function showMatrix(page) {
  const { compared } = page;
  if (compared.labels.length < 2) return;
  const home = section("matrix", "Checkpoints against checkpoints");
  const bar = h("div", { class: "bar" });
  const body = h("div", { class: "scroll" });
  const detail = h("p", { class: "detail", "aria-live": "polite" });
  put(home, bar, body, detail, h("p", { class: "quiet" }, "Above the diagonal: the column's checkpoint minus the row's, over the same items; blue is better, orange worse, + and − beyond the 95% interval (of single cells: of 100 that show nothing five are). Below it, in grey: the smallest change that such a comparison finds in 80% of cases. Hatched: not compared."));
  page.componentBar(bar);
  const redraw = () => fill(body, matrix(page, detail));
  page.onComponent(redraw);
  page.onTheme(redraw);
}

function matrix(page, detail) {
  const { compared, component } = page;
  const n = compared.labels.length;
  const better = page.known(component).higher ? 1 : -1;
  const pairs = compared.pairs.components[component];
  const size = (of) => Math.max(1e-300, ...of.filter((x) => x !== null).map(Math.abs));
  const widest = size(pairs.change), coarsest = size(pairs.detectable);
  const cells = [];
  const head = h("tr", null, h("th", { scope: "col" }, h("span", { hidden: true }, "before")), compared.labels.map((label) => h("th", { scope: "col" }, h("span", null, label))));
  const body = h("tbody");
  for (let row = 0; row < n; row++) {
    const line = h("tr", null, h("th", { scope: "row" }, compared.labels[row]));
    cells.push([]);
    for (let column = 0; column < n; column++) {
      const cell = h("td", { tabindex: "-1" });
      const found = page.compare(component, row, column);
      const upper = column > row;
      if (row === column) cell.className = "self";
      else if (!found || found.change === null) cell.className = "none";
      else if (upper) {
        const gain = found.change * better;
        cell.style.background = "rgba(var(" + (gain >= 0 ? "--up" : "--down") + ")," + (0.06 + 0.54 * Math.abs(found.change) / widest).toFixed(3) + ")";
        const beyond = found.low !== null && (found.low > 0 || found.high < 0);
        if (beyond) cell.textContent = gain > 0 ? "+" : "−";
      } else if (found.detectable !== null) {
        cell.style.background = "color-mix(in srgb, var(--quiet) " + Math.round(6 + 44 * found.detectable / coarsest) + "%, transparent)";
      }
      const words = row === column ? compared.labels[row] : told(page, component, Math.min(row, column), Math.max(row, column));
      cell.setAttribute("aria-label", words);
      cell.addEventListener("mouseenter", () => { detail.textContent = words; });
      cell.addEventListener("focus", () => { detail.textContent = words; });
      cell.addEventListener("click", () => { if (row !== column) page.setPair(Math.min(row, column), Math.max(row, column), "compare"); });
      cell.addEventListener("keydown", (event) => step(event, cells, row, column));
      cells[row].push(cell);
      line.append(cell);
    }
    body.append(line);
  }
  cells[0][Math.min(1, n - 1)].tabIndex = 0;
  detail.textContent = pairs.change.some((x) => x !== null) ? "Deepest colour: a change of " + text(widest) + "; deepest grey: detectable " + text(coarsest) + "." : "Nothing is compared here.";
  return h("table", { class: "matrix", role: "grid", "aria-label": component + ": paired change between checkpoints" }, h("thead", null, head), body);
}

function told(page, component, before, after) {
  const { compared } = page;
  const found = page.compare(component, before, after);
  const names = component + ", " + compared.labels[before] + " → " + compared.labels[after] + ": ";
  if (!found || found.change === null) return names + (found ? found.status + ", " + found.reason : "not measured");
  return names + withError(found.change, found.stderr, true) + " " + limits(found.low, found.high) + ", p " + probability(found.p) + ", detectable " + text(found.detectable) + (found.n === null ? " (" + found.status + ")" : ", " + count(found.n, "item"));
}

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function step(event, cells, row, column) {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    cells[row][column].click();
  }
  const move = MOVES[event.key];
  const next = move && cells[row + move[0]] && cells[row + move[0]][column + move[1]];
  if (!next) return;
  event.preventDefault();
  cells[row][column].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
