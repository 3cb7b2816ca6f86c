/** Which expert answered and why, and what it cost. */

import { el } from "./dom.js";
import { mixtureChips, mixtureParts, short, tone } from "./experts.js";

/** More labels than these are summed up. */
const MAX_BARS = 6;

const BY = {
  prompt: "chosen by a prompt",
  classifier: "chosen by the classifier",
  nearest: "chosen by the nearest questions",
  fixed: "as you chose",
};

const isNumber = value => typeof value === "number" && Number.isFinite(value);
const percent = value => `${(value * 100).toFixed(1)} %`;
const ms = value => (value >= 1000 ? `${short(value / 1000)} s` : `${short(value)} ms`);

/** The strip above an answer. `isOpen` shows the probabilities at once. */
export function strip(svf, isOpen) {
  const bars = probabilities(svf);
  const sure = isNumber(svf.confidence) && svf.strategy !== "fixed" ? `, ${percent(svf.confidence)} sure` : "";
  const line = [
    ...mixtureChips(svf.mixture ?? {}),
    el("span", { class: "hint" }, `${BY[svf.strategy] ?? svf.strategy ?? ""}${sure}`),
  ];
  if (!bars.length) return el("div", { class: "strip" }, line);
  return el(
    "details",
    { class: "strip", open: isOpen },
    el("summary", {}, line, spectrum(bars)),
    fallbackNote(svf),
    el(
      "dl",
      { class: "bars" },
      shownBars(bars).map(bar => drawBar(bar, svf.label)),
    ),
  );
}

/** Pass 1's labels, the likeliest first. */
function probabilities(svf) {
  const entries = Object.entries(svf.probabilities ?? {}).filter(([, p]) => isNumber(p));
  return entries.map(([label, p]) => ({ label, p: Math.min(Math.max(p, 0), 1) })).sort((a, b) => b.p - a.p);
}

function shownBars(bars) {
  if (bars.length <= MAX_BARS) return bars;
  const others = bars.slice(MAX_BARS - 1);
  const sum = others.reduce((total, { p }) => total + p, 0);
  return [...bars.slice(0, MAX_BARS - 1), { label: `${others.length} others`, p: Math.min(sum, 1) }];
}

/** All probabilities as one line, for a look in passing. */
function spectrum(bars) {
  const parts = bars.slice(0, MAX_BARS).map(({ label, p }) => {
    const part = el("span", { class: tone(label) });
    part.style.flexGrow = p;
    return part;
  });
  return el("span", { class: "spectrum", "aria-hidden": "true" }, parts);
}

function drawBar({ label, p }, chosen) {
  const filled = el("span", { class: `filled ${tone(label)}` });
  filled.style.width = `${p * 100}%`;
  return el(
    "div",
    { class: label === chosen ? "bar likeliest" : "bar" },
    el("dt", {}, label),
    el("dd", { class: "track", "aria-hidden": "true" }, filled),
    el("dd", { class: "value" }, percent(p)),
  );
}

function fallbackNote(svf) {
  if (!svf.fallback) return null;
  const answered = mixtureParts(svf.mixture ?? {})
    .map(part => part.words)
    .join(", ");
  return el(
    "p",
    { class: "fallback" },
    `The label was “${svf.label}”, but not sure enough for the threshold: ${answered} answered.`,
  );
}

/** What pass 1, the prompt and the answer took, in a line; empty where nothing is known. */
export function costs(svf, timings) {
  const parts = [];
  const tokens = n => `${n} ${n === 1 ? "token" : "tokens"}`;
  if (isNumber(svf?.pass1_tokens) && isNumber(svf?.pass1_ms))
    parts.push(`Pass 1: ${tokens(svf.pass1_tokens)} in ${ms(svf.pass1_ms)}`);
  if (isNumber(timings?.prompt_n) && isNumber(timings?.prompt_ms)) {
    const cached = timings.cache_n > 0 ? `, ${timings.cache_n} kept` : "";
    parts.push(`Prompt: ${tokens(timings.prompt_n)} in ${ms(timings.prompt_ms)}${cached}`);
  }
  if (isNumber(timings?.predicted_n)) {
    const speed = isNumber(timings.predicted_per_second) ? ` at ${short(timings.predicted_per_second)} tokens/s` : "";
    parts.push(`Answer: ${tokens(timings.predicted_n)}${speed}`);
  }
  return parts;
}
