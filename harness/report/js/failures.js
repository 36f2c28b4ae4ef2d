// Every failed or partial measurement, by cause; and what the vectors warn of.

function showFailures(page) {
  const { feed, more } = page;
  if (!feed.label.length) return;
  const home = section("failures", "Failures");
  const names = (of) => of.slice(0, 8).map((at) => feed.label[at]).join(", ") + (of.length > 8 ? " and " + (of.length - 8) + " more" : "");
  if (more.causes.length) {
    const rows = more.causes.map(([status, component, cause, unscored, of]) => [component, [status, status === "failed" ? "bad" : ""], [cause, "text"], String(of.length), unscored.toLocaleString("en"), [names(of), "text"]]);
    put(home, h("div", { class: "scroll" }, table([["component"], ["status"], ["cause"], ["checkpoints", true], ["items without a value", true], ["which"]], rows, { id: "causes" })));
  } else put(home, h("p", null, "Every item of every component was scored on every checkpoint."));
  if (more.warnings.length) {
    const rows = more.warnings.map(([words, of]) => [[words, "text"], String(of.length), [names(of), "text"]]);
    put(home, h("details", null, h("summary", null, count(more.warnings.length, "remark") + " in the vectors"), h("div", { class: "scroll" }, table([["remark"], ["checkpoints", true], ["which"]], rows))));
  }
}
