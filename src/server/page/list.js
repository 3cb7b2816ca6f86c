/** The list of conversations. */

import { titleOf } from "./conversation.js";
import { byId, el, iconButton } from "./dom.js";
import * as store from "./store.js";

/** Draws the conversations that fit what is searched for; `current` is the one shown. */
export function drawList(current, actions) {
  const wanted = byId("find").value.trim().toLowerCase();
  const fits = conversation => titleOf(conversation).toLowerCase().includes(wanted);
  const found = store.all().filter(fits);
  byId("conversations").replaceChildren(
    ...found.map(conversation => row(conversation, conversation.id === current?.id, actions)),
  );
}

function row(conversation, isCurrent, actions) {
  const title = titleOf(conversation);
  const open = el(
    "button",
    {
      type: "button",
      class: "open",
      title,
      "aria-current": isCurrent ? "true" : null,
      onclick: () => actions.open(conversation.id),
    },
    title,
  );
  const element = el(
    "li",
    { class: isCurrent ? "current" : "" },
    open,
    iconButton("edit", `Rename ${title}`, () => rename(element, conversation, actions)),
    iconButton("trash", `Delete ${title}`, () => actions.forget(conversation)),
  );
  return element;
}

function rename(element, conversation, actions) {
  const field = el("input", { value: titleOf(conversation), maxLength: 120, "aria-label": "The conversation's name" });
  let isOver = false;
  const end = isKept => {
    if (isOver) return;
    isOver = true;
    if (isKept) actions.rename(conversation, field.value.trim());
    else actions.redraw();
  };
  field.addEventListener("blur", () => end(true));
  field.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.isComposing) end(true);
    if (event.key === "Escape") {
      event.stopPropagation();
      end(false);
    }
  });
  element.replaceChildren(field);
  field.select();
}

/** Offers all conversations as a file. */
export function exportAll() {
  const address = URL.createObjectURL(new Blob([store.exported()], { type: "application/json" }));
  el("a", { href: address, download: `llama-svf-conversations-${new Date().toISOString().slice(0, 10)}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
