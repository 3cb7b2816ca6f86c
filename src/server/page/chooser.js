/** Who answers: the model's own choice, the base, one expert, or a mixture. */

import { el, iconButton } from "./dom.js";
import { areKnown, experts, hasExpert, mixtureChips, onExperts, short, tone } from "./experts.js";
import { expertWords, picker } from "./picker.js";
import { keep, load } from "./store.js";

const MODES = { auto: "Choose for me", base: "Base", one: "One expert", mix: "Mixture" };
const STRATEGIES = { prompt: "By a prompt", classifier: "By the classifier expert", nearest: "By the nearest questions" };

/** The choice as it was made here, `null` until then: the server's default. */
let made = load("who", null);

/** What the server does when it is asked for nothing. */
function serversDefault() {
  const { strategy, mixture } = experts().default;
  const [name, ...others] = Object.keys(mixture ?? {});
  const isOne = name !== undefined && others.length === 0 && mixture[name] === 1;
  const mode = strategy !== "fixed" ? "auto" : isOne ? "one" : name !== undefined ? "mix" : "base";
  return { mode, strategy, threshold: null, expert: isOne ? name : null, mixture: mixture ?? {}, strength: 1 };
}

/** The choice, of what the server has now. */
function who() {
  const choice = { ...serversDefault(), ...made };
  const { strategies } = experts();
  if (!strategies.includes(choice.strategy)) choice.strategy = strategies[0] ?? null;
  choice.mixture = Object.fromEntries(Object.entries(choice.mixture).filter(([name]) => hasExpert(name)));
  if (choice.mode === "auto" && !choice.strategy) choice.mode = "base";
  if (!hasExpert(choice.expert)) choice.expert = null;
  return choice;
}

/** The choice as a request's `svf`; `null`, the server's default, where its experts are not known. */
export function chosen() {
  if (!areKnown()) return null;
  const { mode, strategy, threshold, expert, mixture, strength } = who();
  if (mode === "auto") return { adapt: strategy, ...(threshold === null ? {} : { threshold }) };
  if (mode === "one" && expert) return { mix: { [expert]: 1 }, strength };
  if (mode === "mix") return { mix: mixture, strength };
  return { mix: {} };
}

/** The choice as elements. */
function chosenChips() {
  const svf = chosen();
  if (svf.adapt) return [el("span", { class: "chip" }, MODES.auto)];
  const strength =
    svf.strength !== undefined && svf.strength !== 1
      ? [el("span", { class: "hint" }, ` × ${short(svf.strength)}`)]
      : [];
  return [...mixtureChips(svf.mix), ...strength];
}

/** Draws the choice in `button`, and in `panel` the ways to change it; both follow the server's experts. */
export function startChooser(button, panel) {
  const modes = el("div", { class: "modes", role: "radiogroup", "aria-label": "Who answers" });
  const body = el("div", { class: "mode" });
  panel.append(modes, body);

  const change = (fields, drawn = true) => {
    made = { ...who(), ...fields };
    keep("who", made);
    drawButton();
    if (drawn) draw();
  };
  // Made once: what was searched for stays.
  const pickers = {
    one: picker({
      label: "Find the expert",
      row: pick(
        expert => expert.name === who().expert,
        expert => change({ expert: expert.name }),
      ),
    }),
    mix: picker({
      label: "Find experts",
      row: pick(
        expert => expert.name in who().mixture,
        expert => change({ mixture: toggled(who().mixture, expert.name) }),
      ),
    }),
  };
  const drawButton = () => button.replaceChildren(el("span", { class: "hint" }, "Answers: "), ...chosenChips());
  const draw = () => {
    const { mode } = who();
    const focused = panel.contains(document.activeElement) ? document.activeElement.id : "";
    modes.replaceChildren(...Object.keys(MODES).map(name => modeButton(name, mode, change)));
    body.replaceChildren(...BODIES[mode](change, pickers));
    if (focused) document.getElementById(focused)?.focus();
  };
  button.hidden = true;
  onExperts(() => {
    button.hidden = false;
    drawButton();
    draw();
  });
  return {
    /** Chooses one expert. */
    useExpert: expert => change({ mode: "one", expert, strength: 1 }),
    /** Lets the model choose. */
    useAuto: () => change({ mode: "auto" }),
  };
}

function modeButton(name, mode, change) {
  const isPossible = name !== "auto" || experts().strategies.length > 0;
  const input = el("input", {
    type: "radio",
    name: "mode",
    id: `mode-${name}`,
    checked: name === mode,
    disabled: !isPossible,
    onchange: () => change({ mode: name }),
  });
  return el("label", { class: "segment" }, input, el("span", {}, MODES[name]));
}

/** What there is to say and set in each mode. */
const BODIES = {
  auto: change => [...strategyChoice(change), thresholdSlider(change)],
  base: () => [
    el(
      "p",
      { class: "hint" },
      experts().strategies.length
        ? "The model alone, without any expert."
        : "The model alone, without any expert. This server has no strategy by which it could choose one itself.",
    ),
  ],
  one: (change, pickers) => [updated(pickers.one), strengthSlider(change)],
  mix(change, pickers) {
    const sliders = Object.keys(who().mixture).map(name => weightSlider(name, change));
    const hint = el("p", { class: "hint" }, "Press the experts that the mixture is of.");
    return [...(sliders.length ? [...sliders, strengthSlider(change)] : [hint]), updated(pickers.mix)];
  },
};

/** How an expert of a list is shown: as a button that is pressed where `isChosen`. */
function pick(isChosen, choose) {
  return expert =>
    el(
      "button",
      {
        type: "button",
        id: `pick-${expert.id}`,
        class: "pick",
        "aria-pressed": String(isChosen(expert)),
        onclick: () => choose(expert),
      },
      expertWords(expert),
    );
}

function updated({ element, update }) {
  update();
  return element;
}

/** A mixture with an expert more, or less. */
function toggled(mixture, name) {
  const { [name]: had, ...others } = mixture;
  if (had !== undefined) return others;
  return { ...others, [name]: Object.keys(others).length === 0 ? 1 : 0.5 };
}

function strategyChoice(change) {
  const { strategies } = experts();
  const words = el(
    "p",
    { class: "hint" },
    "Pass 1 reads the question and says which expert fits; pass 2 answers with it.",
  );
  if (strategies.length < 2) return [words];
  const options = strategies.map(name =>
    el(
      "label",
      { class: "check" },
      el("input", {
        type: "radio",
        name: "strategy",
        id: `strategy-${name}`,
        checked: name === who().strategy,
        onchange: () => change({ strategy: name }),
      }),
      STRATEGIES[name] ?? name,
    ),
  );
  return [words, el("div", { role: "radiogroup", "aria-label": "How it is chosen", class: "row" }, options)];
}

const percent = value => `${Math.round(value * 100)} %`;

function thresholdSlider(change) {
  return slider({
    id: "threshold",
    label: "How sure it must be",
    min: 0,
    max: 1,
    step: 0.01,
    value: who().threshold ?? experts().threshold,
    words: value => (value === 0 ? "any" : percent(value)),
    set: threshold => change({ threshold }, false),
  });
}

function strengthSlider(change) {
  return slider({
    id: "strength",
    label: "Strength",
    min: 0,
    max: 2,
    step: 0.05,
    value: who().strength,
    words: short,
    set: strength => change({ strength }, false),
  });
}

/** Weights below 0 turn an expert around; what is above 1 goes on in its direction. */
function weightSlider(name, change) {
  const id = `weight-${experts().data.find(expert => expert.name === name).id}`;
  const row = slider({
    id,
    label: name,
    min: -1,
    max: 2,
    step: 0.05,
    value: who().mixture[name],
    words: short,
    class: tone(name),
    set: value => change({ mixture: { ...who().mixture, [name]: value } }, false),
  });
  row.append(iconButton("close", `Leave ${name} out`, () => change({ mixture: toggled(who().mixture, name) })));
  return row;
}

function slider({ id, label, min, max, step, value, words, set, class: classes = "" }) {
  const shown = el("output", { for: id }, words(value));
  const input = el("input", { type: "range", id, min, max, step, value, "aria-valuetext": words(value) });
  input.addEventListener("input", () => {
    const now = Number(input.value);
    shown.textContent = words(now);
    input.setAttribute("aria-valuetext", words(now));
    set(now);
  });
  return el("div", { class: "slider" }, el("label", { for: id, class: classes }, label), input, shown);
}
