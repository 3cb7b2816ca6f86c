/** The sides: the list and the panel. A narrow page has them as drawers, one at a time; on a wide one they stand beside the messages. */

import { byId } from "./dom.js";

/** As in the style sheet. */
const isNarrow = matchMedia("(max-width: 900px)");

let panel = null;

function openDrawer(name) {
  document.body.dataset.drawer = name;
  byId(name).querySelector("button, input")?.focus();
}

/** Closes the drawer that is open; says whether one was. */
export function closeDrawers() {
  const { drawer } = document.body.dataset;
  if (!drawer) return false;
  delete document.body.dataset.drawer;
  if (drawer === "panel") showPanel(false);
  byId(`show-${drawer}`).focus();
  return true;
}

function showPanel(isShown) {
  byId("panel").hidden = !isShown;
  byId("show-panel").setAttribute("aria-expanded", String(isShown));
  if (isShown) panel.open();
  else panel.close();
}

/** Lets the sides be opened and closed; `used` is told when the panel is. */
export function startSides(used) {
  panel = used;
  byId("show-list").addEventListener("click", () => {
    if (isNarrow.matches) openDrawer("list");
    else document.body.classList.toggle("without-list");
  });
  byId("show-panel").addEventListener("click", () => {
    showPanel(byId("panel").hidden);
    if (isNarrow.matches && !byId("panel").hidden) openDrawer("panel");
  });
  byId("list").querySelector(".close").addEventListener("click", closeDrawers);
  byId("panel")
    .querySelector(".close")
    .addEventListener("click", () => {
      if (!closeDrawers()) showPanel(false);
    });
  document.querySelector("main").addEventListener("click", event => {
    if (!event.target.closest("#show-list, #show-panel")) closeDrawers();
  });
  isNarrow.addEventListener("change", closeDrawers);
}
