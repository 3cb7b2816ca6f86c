/** Elements made in code: text goes in as text, never as HTML. */

/** Paths of the icons, drawn as lines on a field of 24 by 24. */
const ICONS = {
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  menu: "M4 7h16M4 12h16M4 17h16",
  panel: "M4 5h16v14H4zM14 5v14",
  settings: "M4 8h9M17 8h3M4 16h3M11 16h9M13 6v4M17 6v4M13 6h4M13 10h4M7 14v4M11 14v4M7 14h4M7 18h4",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  check: "M5 12l5 5 9-10",
  edit: "M4 20l1-4L16 5l3 3L8 19z",
  again: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
  on: "M5 5l8 7-8 7zM18 5v14",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  attach: "M19 11l-7 7a4 4 0 0 1-6-6l8-8a3 3 0 0 1 4 4l-8 8a1 1 0 0 1-2-2l7-7",
  down: "M12 5v13M6 12l6 6 6-6",
  up: "M12 19V6M6 12l6-6 6 6",
};

/** The element with this id. */
export const byId = id => document.getElementById(id);

/** Sets properties: `class`, handlers (`onclick`), whatever the element knows, and attributes for the rest. */
function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !(element instanceof SVGElement)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
}

/** An element with properties and children (nodes or text; `null` is left out). */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { class: classes, ...others } = properties;
  if (classes) element.className = classes;
  set(element, others);
  element.append(...children.flat().filter(child => child !== null && child !== undefined));
  return element;
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

/** One of [`ICONS`], hidden from readers of the screen: what holds it has the words. */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "drawn", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** A button that shows an icon alone; `words` says what it does. */
export function iconButton(name, words, onclick) {
  return el("button", { type: "button", class: "icon", title: words, "aria-label": words, onclick }, icon(name));
}

/** Copies `text` and shows for a moment on `button` that it did. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // Where the page came over plain HTTP from another machine, browsers have no clipboard.
  }
  const before = [...button.childNodes];
  button.replaceChildren(icon("check"), ...(before.length > 1 ? [" Copied"] : []));
  setTimeout(() => button.replaceChildren(...before), 1200);
}

function copyBySelection(text) {
  const field = el("textarea", { value: text, class: "hidden" });
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  focused?.focus();
}

/** A line at the page's edge that goes by itself, with something to press where `action` is given. */
export function notice(text, action = null) {
  const line = el("div", { class: "notice" }, el("span", {}, text));
  if (action) {
    const press = () => {
      line.remove();
      action.run();
    };
    line.append(el("button", { type: "button", onclick: press }, action.words));
  }
  line.append(iconButton("close", "Close", () => line.remove()));
  byId("notices").append(line);
  setTimeout(() => line.remove(), action ? 10000 : 6000);
}
