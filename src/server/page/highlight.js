/** Colours for code, by what nearly all languages share: comments, strings, numbers and common keywords. */

import { el } from "./dom.js";

/** Longer code stays plain. */
const MAX_CHARS = 50000;

const KEYWORDS = new Set(
  (
    "abstract and as async await begin bool break case catch char class const continue crate def default defer delete do double elif else end enum " +
    "except export extends extern false final finally float fn for from func function go if impl implements import in instanceof int interface is " +
    "lambda let long loop match mod module move mut new nil none None not null of or override package pass private protected pub public raise ref " +
    "return self Self short static str struct super switch this throw throws trait True False true try type typeof union unsafe unsigned use using " +
    "var virtual void where while with yield SELECT FROM WHERE INSERT INTO UPDATE SET DELETE CREATE TABLE JOIN ON GROUP BY ORDER LIMIT VALUES"
  ).split(" "),
);
/** Languages whose comments begin with a hash; elsewhere it is a sign like others. */
const HASH =
  /^(py|python|sh|bash|shell|zsh|rb|ruby|ya?ml|toml|r|perl|pl|make|makefile|dockerfile|cmake|elixir|julia|jl)$/i;
/** Languages whose comments begin with two dashes. */
const DASHES = /^(sql|lua|haskell|hs|ada|elm)$/i;
/** What is no program. */
const PLAIN = /^(|text|txt|plain|plaintext|console|output|markdown|md|csv|log|diff)$/i;

const STRING = String.raw`"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|${"`"}(?:[^${"`"}\\]|\\.)*${"`"}`;
const NUMBER = String.raw`\b\d[\w.]*`;
const WORD = String.raw`[A-Za-z_]\w*`;

function commentOf(language) {
  if (HASH.test(language)) return "#[^\\n]*";
  return DASHES.test(language) ? "--[^\\n]*" : String.raw`\/\/[^\n]*|\/\*[^]*?\*\/`;
}

/** `code` as text and coloured pieces of it. */
export function highlighted(code, language) {
  if (PLAIN.test(language) || code.length > MAX_CHARS) return [code];
  const nodes = [];
  let plain = 0;
  const put = (at, text, kind) => {
    nodes.push(code.slice(plain, at), el("span", { class: `code-${kind}` }, text));
    plain = at + text.length;
  };
  const pattern = new RegExp(
    `(?<comment>${commentOf(language)})|(?<string>${STRING})|(?<number>${NUMBER})|(?<word>${WORD})`,
    "g",
  );
  for (const { index, groups } of code.matchAll(pattern)) {
    const { comment, string, number, word } = groups;
    if (comment) put(index, comment, "comment");
    else if (string) put(index, string, "string");
    else if (number) put(index, number, "number");
    else if (KEYWORDS.has(word)) put(index, word, "keyword");
  }
  return [...nodes, code.slice(plain)].filter(node => node !== "");
}
