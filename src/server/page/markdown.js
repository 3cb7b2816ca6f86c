/** Markdown as elements. What a model wrote becomes text nodes only, and links lead to http(s) only. */

import { copy, el, icon } from "./dom.js";
import { highlighted } from "./highlight.js";

/** Nests deeper than this are shown as written. */
const MAX_DEPTH = 12;
/** A link's text is looked for this far. */
const MAX_LINK_CHARS = 500;

/** What a container shows now: the source of each block. */
const shown = new WeakMap();

/** Shows `text` in `container`. Blocks that are as before stay, so that a growing text costs its last block alone. */
export function renderMarkdown(container, text) {
  const blocks = split(text.split("\n"));
  const sources = blocks.map(block => block.lines.join("\n"));
  const before = shown.get(container) ?? [];
  let same = 0;
  while (same < before.length && before[same] === sources[same]) same++;
  while (container.childNodes.length > same) container.lastChild.remove();
  container.append(...blocks.slice(same).map(block => draw(block, 0)));
  shown.set(container, sources);
}

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+|$)/;

const isBlank = line => line.trim() === "";
const indent = line => line.length - line.trimStart().length;
const isTable = (line, next) =>
  line.includes("|") && next?.includes("|") && cells(next).every(cell => /^:?-+:?$/.test(cell));

/** What a line begins, other than a paragraph; `null` for nothing. */
function begins(line, next) {
  if (FENCE.test(line)) return "code";
  if (HEADING.test(line)) return "heading";
  if (RULE.test(line)) return "rule";
  if (QUOTE.test(line)) return "quote";
  if (ITEM.test(line)) return "list";
  return isTable(line, next) ? "table" : null;
}

/** The blocks that lines make, each with its lines. */
function split(lines) {
  const blocks = [];
  for (let i = 0; i < lines.length;) {
    if (isBlank(lines[i])) {
      i++;
      continue;
    }
    const kind = begins(lines[i], lines[i + 1]) ?? "paragraph";
    const end = ENDS[kind](lines, i);
    blocks.push({ kind, lines: lines.slice(i, end) });
    i = end;
  }
  return blocks;
}

function endWhile(lines, from, belongs) {
  let i = from + 1;
  while (i < lines.length && belongs(lines[i], lines[i + 1])) i++;
  return i;
}

/** For each kind of block: the line after its last. */
const ENDS = {
  code(lines, from) {
    const mark = FENCE.exec(lines[from])[1];
    const end = endWhile(lines, from, line => !closes(line, mark));
    return Math.min(end + 1, lines.length);
  },
  heading: (_, from) => from + 1,
  rule: (_, from) => from + 1,
  quote: (lines, from) => endWhile(lines, from, line => QUOTE.test(line)),
  table: (lines, from) => endWhile(lines, from, line => line.includes("|")),
  paragraph: (lines, from) => endWhile(lines, from, (line, next) => !isBlank(line) && !begins(line, next)),
  list(lines, from) {
    const isOrdered = /\d/.test(ITEM.exec(lines[from])[2]);
    let last = from;
    for (let i = from + 1; i < lines.length; i++) {
      if (isBlank(lines[i])) continue;
      const item = RULE.test(lines[i]) ? null : ITEM.exec(lines[i]);
      const isNext = item && /\d/.test(item[2]) === isOrdered;
      const goesOn = i === last + 1 && !begins(lines[i], lines[i + 1]);
      if (!isNext && indent(lines[i]) < 2 && !goesOn) break;
      last = i;
    }
    return last + 1;
  },
};

function closes(line, mark) {
  const text = line.trim();
  return text.length >= mark.length && text === mark[0].repeat(text.length);
}

function draw(block, depth) {
  if (depth > MAX_DEPTH) return el("p", {}, block.lines.join("\n"));
  return DRAWN[block.kind](block.lines, depth);
}

const drawAll = (lines, depth) => split(lines).map(block => draw(block, depth + 1));

const DRAWN = {
  paragraph: lines => el("p", {}, inline(lines.map(line => line.trimStart()).join("\n"))),
  rule: () => el("hr"),
  quote: (lines, depth) =>
    el(
      "blockquote",
      {},
      drawAll(
        lines.map(line => line.replace(QUOTE, "")),
        depth,
      ),
    ),
  heading([line]) {
    const [, marks, text] = HEADING.exec(line);
    // The page has headings of its own above.
    return el(`h${Math.min(marks.length + 2, 6)}`, {}, inline(text.replace(/[ \t]#+[ \t]*$/, "").trim()));
  },
  code(lines) {
    const [, mark, language] = FENCE.exec(lines[0]);
    const isClosed = lines.length > 1 && closes(lines[lines.length - 1], mark);
    return codeBlock(lines.slice(1, isClosed ? -1 : undefined).join("\n"), language.trim());
  },
  table(lines) {
    const [head, marks, ...rows] = lines.map(cells);
    const align = marks.map(mark => (mark.endsWith(":") ? (mark.startsWith(":") ? "center" : "right") : ""));
    const row = (tag, texts) =>
      el(
        "tr",
        {},
        align.map((side, i) => el(tag, { class: side }, inline(texts[i] ?? ""))),
      );
    const table = el(
      "table",
      {},
      el("thead", {}, row("th", head)),
      el(
        "tbody",
        {},
        rows.map(texts => row("td", texts)),
      ),
    );
    return el("div", { class: "table", tabIndex: 0 }, table);
  },
  list(lines, depth) {
    const isOrdered = /\d/.test(ITEM.exec(lines[0])[2]);
    const margin = indent(lines[0]);
    const items = [];
    for (const line of lines) {
      const item = ITEM.exec(line);
      if (item && indent(line) < margin + 2) {
        items.push({ width: item[0].length, lines: [line.slice(item[0].length)] });
      } else {
        const { width, lines: inner } = items[items.length - 1];
        inner.push(line.slice(Math.min(indent(line), width)));
      }
    }
    const start = isOrdered ? parseInt(ITEM.exec(lines[0])[2], 10) : undefined;
    return el(
      isOrdered ? "ol" : "ul",
      { start },
      items.map(item => el("li", {}, unwrapped(drawAll(item.lines, depth)))),
    );
  },
};

/** The first paragraph of an item stands beside its mark. */
function unwrapped(nodes) {
  return nodes[0]?.tagName === "P" ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes;
}

function codeBlock(code, language) {
  const button = el(
    "button",
    { type: "button", class: "small", onclick: () => copy(code, button) },
    icon("copy"),
    " Copy",
  );
  return el(
    "figure",
    { class: "code" },
    el("figcaption", {}, el("span", {}, language || "text"), button),
    el("pre", { tabIndex: 0 }, el("code", {}, highlighted(code, language))),
  );
}

/** A table row's cells; `\|` is no border. */
function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split(/(?<!\\)\|/).map(cell => cell.trim().replaceAll("\\|", "|"));
}

const SPECIAL = /[\\`*_~[!<\n]|https?:\/\//g;

/** What stands in a line: code, emphasis, links, line breaks. */
function inline(text, depth = 0) {
  if (depth > MAX_DEPTH) return [text];
  const nodes = [];
  const missing = new Set(); // Marks that nothing closes any more: looked for once.
  let at = 0;
  let plain = 0;
  const pattern = new RegExp(SPECIAL);
  for (;;) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) break;
    const made = span(text, found.index, missing, depth);
    if (made.node !== undefined) {
      nodes.push(text.slice(plain, found.index), made.node);
      plain = made.end;
    }
    at = made.end;
  }
  nodes.push(text.slice(plain));
  return nodes.filter(node => node !== "");
}

/** The element that begins at a special character, and where it ends; without a `node` it is as written. */
function span(text, at, missing, depth) {
  switch (text[at]) {
    case "\\":
      return escaped(text, at);
    case "`":
      return codeSpan(text, at);
    case "*":
    case "_":
    case "~":
      return emphasis(text, at, missing, depth);
    case "[":
      return link(text, at, at, depth);
    case "!":
      return text[at + 1] === "[" ? link(text, at, at + 1, depth) : { end: at + 1 };
    case "<":
      return bracketed(text, at);
    case "\n":
      return { node: el("br"), end: at + 1 };
    default:
      return bareLink(text, at);
  }
}

/** Brackets keep their backslash: models write formulas between them. */
function escaped(text, at) {
  if (text[at + 1] === "\n") return { node: el("br"), end: at + 2 };
  return /[!-'*-/:-@^-`{-~]/.test(text[at + 1] ?? "") ? { node: text[at + 1], end: at + 2 } : { end: at + 2 };
}

function runLength(text, at) {
  let end = at;
  while (text[end] === text[at]) end++;
  return end - at;
}

function codeSpan(text, at) {
  const length = runLength(text, at);
  const mark = "`".repeat(length);
  let end = text.indexOf(mark, at + length);
  while (end >= 0 && runLength(text, end) !== length) end = text.indexOf(mark, end + runLength(text, end));
  if (end < 0) return { end: at + length };
  const code = text.slice(at + length, end);
  const isPadded = code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "";
  return { node: el("code", {}, isPadded ? code.slice(1, -1) : code), end: end + length };
}

const isWord = char => char !== undefined && /[\p{L}\p{N}]/u.test(char);
const isSpace = char => char === undefined || /\s/.test(char);

function emphasis(text, at, missing, depth) {
  const char = text[at];
  const run = runLength(text, at);
  const length = Math.min(run, 2);
  const asWritten = { end: at + run };
  if (char === "~" && run !== 2) return asWritten;
  if (run > 3 || isSpace(text[at + length]) || (char === "_" && isWord(text[at - 1]))) return asWritten;
  const end = closing(text, at + length, char, length, missing);
  if (end < 0) return asWritten;
  const tag = char === "~" ? "del" : length === 2 ? "strong" : "em";
  return { node: el(tag, {}, inline(text.slice(at + length, end), depth + 1)), end: end + length };
}

/** Where emphasis ends, or −1. */
function closing(text, from, char, length, missing) {
  const mark = char.repeat(length);
  if (missing.has(mark)) return -1;
  for (let at = text.indexOf(mark, from + 1); at >= 0; at = text.indexOf(mark, at)) {
    const run = runLength(text, at);
    const fits = length === 2 ? run >= 2 : run === 1 || run === 3;
    const isInside = char === "_" && isWord(text[at + run]);
    if (fits && !isSpace(text[at - 1]) && !isInside) return at + run - length;
    at += run;
  }
  missing.add(mark);
  return -1;
}

/** A link whose text begins at `open`; pictures are links too, as nothing is loaded from elsewhere. */
function link(text, at, open, depth) {
  let nested = 0;
  let close = open;
  for (; close < text.length && close < open + MAX_LINK_CHARS; close++) {
    if (text[close] === "[") nested++;
    else if (text[close] === "]" && --nested === 0) break;
  }
  if (nested !== 0 || text[close + 1] !== "(") return { end: open + 1 };
  const found = /\(\s*<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:\s+"[^"\n]*")?\s*\)/y;
  found.lastIndex = close + 1;
  const address = found.exec(text);
  if (!address) return { end: open + 1 };
  const words = inline(text.slice(open + 1, close), depth + 1).map(node =>
    node.tagName === "A" ? node.textContent : node,
  );
  return { node: anchor(address[1], words.length ? words : [address[1]]), end: found.lastIndex };
}

function bracketed(text, at) {
  const found = /<(?:(br)\s*\/?|(https?:\/\/[^\s<>]+))>/iy;
  found.lastIndex = at;
  const made = found.exec(text);
  if (!made) return { end: at + 1 };
  return { node: made[1] ? el("br") : anchor(made[2], [made[2]]), end: found.lastIndex };
}

function bareLink(text, at) {
  const found = /https?:\/\/[^\s<>"'`|*]+/iy;
  found.lastIndex = at;
  const written = found.exec(text)?.[0];
  if (!written || isWord(text[at - 1])) return { end: at + 4 };
  let address = written.replace(/[.,;:!?]+$/, "");
  while (address.endsWith(")") && !address.includes("(")) address = address.slice(0, -1);
  return { node: anchor(address, [address]), end: at + address.length };
}

/** A link, or its words alone where the address is none of http(s). */
function anchor(address, words) {
  const isHttp = /^https?:\/\//i.test(address) && URL.canParse(address);
  return isHttp
    ? el("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, words)
    : el("span", {}, words);
}
