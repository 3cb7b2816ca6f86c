/** Prometheus' text format. */

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { n: "\n" };

/** The samples of a text: name, labels, value. */
export function samples(text) {
  return text
    .split("\n")
    .map(line => LINE.exec(line.trim()))
    .filter(Boolean)
    .map(([, name, labels, value]) => ({
      name,
      labels: labelsOf(labels ?? ""),
      value: Number(value.replace(/Inf$/, "Infinity")),
    }));
}

function labelsOf(text) {
  const pairs = [...text.matchAll(LABEL)].map(([, name, value]) => [
    name,
    value.replace(/\\(.)/g, (_, char) => ESCAPES[char] ?? char),
  ]);
  return Object.fromEntries(pairs);
}

/** The value of the first sample of this name, or `null`. */
export const valueOf = (found, name) => found.find(sample => sample.name === name)?.value ?? null;
