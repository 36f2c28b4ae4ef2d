// Numbers as text. The statistics are the file's; here they are only written, and turned round.

/** Four decimals, or more digits for what is small. */
function text(x, sign) {
  if (x === null || x === undefined) return "–";
  const size = Math.abs(x);
  const shown = size !== 0 && (size < 0.001 || size >= 1e6) ? x.toPrecision(3) : x.toFixed(4);
  return (sign && x > 0 ? "+" : "") + shown.replace("-", "−");
}

/** Three digits, as the values of single items have them. */
function short(x, sign) {
  return x === null || x === undefined ? "–" : (sign && x > 0 ? "+" : "") + String(Number(x.toPrecision(3))).replace("-", "−");
}

function withError(x, error, sign) {
  return text(x, sign) + (error === null || error === undefined ? "" : " ± " + text(error));
}

function limits(low, high) {
  return low === null || low === undefined ? "–" : "[" + text(low, true) + ", " + text(high, true) + "]";
}

function probability(p) {
  return p === null || p === undefined ? "–" : p < 0.0001 ? "<0.0001" : p.toFixed(4);
}

function count(n, one, many) {
  return n.toLocaleString("en") + " " + (n === 1 ? one : many || one + "s");
}

/** What became of a component, the other way round. */
const REVERSED = { learned: "lost", lost: "learned", gained: "forgotten", forgotten: "gained" };
const LOOKS = { learned: ["▲", "better"], gained: ["▲", "better"], forgotten: ["▼", "worse"], lost: ["▼", "worse"], "within error": ["·", "still"] };

/** Where the pair (a, b), a before b, stands among all pairs of n. */
function pairIndex(n, a, b) {
  return a * n - (a * (a + 1)) / 2 + (b - a - 1);
}

/** Later against earlier as the file has it, or the other way round: the change and its interval negated, nothing else. */
function comparison(columns, words, texts, n, before, after) {
  if (before === after || !columns) return null;
  const turned = before > after;
  const at = turned ? pairIndex(n, after, before) : pairIndex(n, before, after);
  const get = (key) => (columns[key] ? columns[key][at] : null);
  const negated = (x) => (x === null || x === undefined ? null : x === 0 ? 0 : -x);
  const word = words && get("word") !== null ? words[get("word")] : null;
  return {
    change: turned ? negated(get("change")) : get("change"),
    low: turned ? negated(get("high")) : get("low"),
    high: turned ? negated(get("low")) : get("high"),
    stderr: get("stderr"),
    p: get("p"),
    holm: get("holm"),
    detectable: get("detectable"),
    n: get("n"),
    clusters: get("clusters"),
    up: turned ? get("down") : get("up"),
    down: turned ? get("up") : get("down"),
    word: turned ? REVERSED[word] || word : word,
    status: texts[get("status") || 0],
    reason: texts[get("reason") || 0],
  };
}

/** Items that changed between two checkpoints: became right, became wrong; of values without a right and wrong all that moved. */
function moved(item, before, after) {
  const found = [];
  for (let i = 0; i < item.ids.length; i++) {
    const was = item.values[before][i], now = item.values[after][i];
    if (item.answers) {
      const then = item.right[before][i], here = item.right[after][i];
      if (then >= 0 && here >= 0 && then !== here) found.push({ i, was, now, better: here > then });
    } else if (was !== null && now !== null && was !== now) found.push({ i, was, now, better: null });
  }
  if (!item.answers) found.sort((x, y) => Math.abs(y.now - y.was) - Math.abs(x.now - x.was));
  return found;
}
