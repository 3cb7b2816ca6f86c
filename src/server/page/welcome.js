/** What stands where there are no messages yet: who could answer. */

import { byId, el } from "./dom.js";
import { experts, tone } from "./experts.js";
import { focusQuestion } from "./composer.js";

/** The experts that are shown. */
const MAX_SHOWN = 6;

/** Draws it; a card that is pressed chooses who answers. */
export function drawWelcome(chooser) {
  const { data, base, strategies } = experts();
  byId("model").textContent = base;
  byId("welcome-text").textContent =
    data.length === 0
      ? "This server has no experts now: the model answers alone."
      : "Each question can have an expert of its own, or a mixture. Press one, or ask: the button below the field says who answers.";
  const auto = card(
    [el("b", {}, "Choose for me"), hint("The model reads the question first, and says which expert fits.")],
    chooser.useAuto,
  );
  const cards = data
    .slice(0, MAX_SHOWN)
    .map(({ name, description }) =>
      card([el("b", { class: tone(name) }, name), hint(description ?? "")], () => chooser.useExpert(name)),
    );
  byId("welcome-experts").replaceChildren(...(strategies.length ? [auto] : []), ...cards);
}

const hint = words => el("span", { class: "hint" }, words);

function card(content, choose) {
  const press = () => {
    choose();
    focusQuestion();
  };
  return el("button", { type: "button", class: "card", onclick: press }, content);
}
