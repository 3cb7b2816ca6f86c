/** A list of experts with a search: of a thousand only the first that fit are drawn. */

import { el } from "./dom.js";
import { experts, tone } from "./experts.js";

const MAX_SHOWN = 40;

/** Experts whose name or description has every word of `words`. */
export function matching(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return experts().data.filter(expert => {
    const text = `${expert.name} ${expert.description ?? ""}`.toLowerCase();
    return wanted.every(word => text.includes(word));
  });
}

/** The list. `row` makes an expert's element; the answer's `update` draws all anew. */
export function picker({ label, row }) {
  const search = el("input", {
    type: "search",
    placeholder: "Find an expert",
    "aria-label": label,
    autocomplete: "off",
  });
  const list = el("ul", { class: "experts" });
  const more = el("p", { class: "hint", role: "status" });
  const update = () => {
    const found = matching(search.value);
    list.replaceChildren(...found.slice(0, MAX_SHOWN).map(expert => el("li", {}, row(expert))));
    search.hidden = experts().data.length <= 5;
    const hidden = found.length - MAX_SHOWN;
    more.textContent =
      found.length === 0 ? "No expert has this name." : hidden > 0 ? `And ${hidden} more: type to find them.` : "";
    if (experts().data.length === 0) more.textContent = "The server has no experts.";
  };
  search.addEventListener("input", update);
  return { element: el("div", { class: "picker" }, search, list, more), update };
}

/** An expert's name with its colour and what it is for. */
export function expertWords(expert) {
  return [el("b", { class: tone(expert.name) }, expert.name), el("span", { class: "hint" }, expert.description ?? "")];
}
