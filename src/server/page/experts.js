/** The experts that the server has now, and how they are shown everywhere. */

import { el } from "./dom.js";
import { getJson } from "./api.js";

/** Colours in the style sheet. */
const TONES = 8;

const NONE = {
  data: [],
  strategies: [],
  default: { strategy: "fixed", mixture: {} },
  threshold: 0,
  base: "",
  can_load: false,
};
const listeners = [];
let info = NONE;
let ids = new Map();

/** What `GET v1/experts` said last. */
export const experts = () => info;
export const areKnown = () => info !== NONE;
export const hasExpert = name => ids.has(name);

/** Calls `listener` whenever the experts were read anew. */
export const onExperts = listener => listeners.push(listener);

/** Reads the experts anew. */
export async function readExperts(options) {
  info = { ...NONE, ...(await getJson("v1/experts", options)) };
  ids = new Map(info.data.map(expert => [expert.name, expert.id]));
  for (const listener of listeners) listener(info);
}

/** A class that gives an expert its colour; labels that are no expert's are grey. */
export function tone(name) {
  return ids.has(name) ? `tone tone-${ids.get(name) % TONES}` : "tone";
}

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** A number with three digits that count. */
export const short = value => number.format(value);

/** The parts of a mixture with their weights: `math`, or `math 0.7` and `code 0.3`; `base` for none. */
export function mixtureParts(mixture) {
  const parts = Object.entries(mixture);
  if (parts.length === 0) return [{ name: "base", words: "base" }];
  const isOne = parts.length === 1 && parts[0][1] === 1;
  return parts.map(([name, alpha]) => ({ name, words: isOne ? name : `${name} ${short(alpha)}` }));
}

/** A mixture's experts, each with its colour. */
export const mixtureChips = mixture =>
  mixtureParts(mixture).map(({ name, words }) => el("span", { class: `chip ${tone(name)}` }, words));
