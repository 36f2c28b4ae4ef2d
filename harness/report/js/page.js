// Elements, blocks of data, and the address. All text goes in as text nodes: nothing that a model wrote becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties and children. A string is a text node; null and false are left out. */
function h(tag, props, ...children) {
  return filled(document.createElement(tag), props, children);
}

function svg(tag, props, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(element, props, children) {
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  put(element, ...children);
  return element;
}

/** Adds children to an element. */
function put(element, ...children) {
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** Replaces what an element holds. */
function fill(element, ...children) {
  element.replaceChildren();
  return put(element, ...children);
}

/** A table. A column is [heading, numeric?]; a cell is text, a node, or [node or text, class]. */
function table(columns, rows, props) {
  const body = h("tbody");
  for (const row of rows) {
    const cells = row.map((cell, at) => {
      const [content, look] = Array.isArray(cell) ? cell : [cell, ""];
      const kind = ((columns[at][1] ? "n " : "") + (look || "")).trim();
      return at === 0 ? h("th", { scope: "row", class: kind || null }, content) : h("td", { class: kind || null }, content);
    });
    body.append(h("tr", null, cells));
  }
  const head = h("tr", null, columns.map(([name, numeric]) => h("th", { scope: "col", class: numeric ? "n" : null }, name)));
  return h("table", props, h("thead", null, head), body);
}

/** A choice of options, [value, text] each. */
function select(name, options, value, change) {
  const box = h("select", { onchange: () => change(box.value) });
  for (const [key, text] of options) box.append(h("option", { value: key }, text));
  box.value = value;
  return h("label", null, name + " ", box);
}

const SECTIONS = [];

/** A section of the page, and its place in the navigation. */
function section(id, title, ...aside) {
  const made = h("section", { id, "aria-labelledby": id + "-title" }, h("h2", { id: id + "-title" }, title, aside));
  document.getElementById("main").append(made);
  SECTIONS.push([id, title]);
  return made;
}

/** The address: #section?key=value. What is chosen stands in it, so that a link shows the same again. */
const address = {
  read() {
    const [id, query] = location.hash.slice(1).split("?");
    return { id: decodeURIComponent(id || ""), chosen: Object.fromEntries(new URLSearchParams(query || "")) };
  },
  write(id, chosen) {
    const query = new URLSearchParams(Object.entries(chosen).filter(([, value]) => value !== null && value !== undefined));
    const text = "#" + id + (String(query) ? "?" + query : "");
    if (location.hash !== text) history.replaceState(null, "", text);
  },
};
