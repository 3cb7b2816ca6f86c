/** The field for the question, what is below it, and its keys. */

import { byId, notice } from "./dom.js";

/** Larger files would not fit into a context anyway. */
const MAX_FILE_BYTES = 1 << 20;

const question = byId("question");

/** Puts a text into the field. */
export function setQuestion(text) {
  question.value = text;
  fit();
}

/** Puts the cursor into the field. */
export const focusQuestion = () => question.focus();

/** Makes the field as high as its text, within limits. */
function fit() {
  question.style.height = "auto";
  question.style.height = `${Math.min(question.scrollHeight + 2, innerHeight * 0.4)}px`;
}

function showChooser(isShown) {
  byId("chooser").hidden = !isShown;
  byId("who").setAttribute("aria-expanded", String(isShown));
}

/**
 * Starts the field. `send` gets a question and says whether it was taken, `keepDraft` gets one that is not sent yet, `stop` ends the
 * answer, and `escape` closes what else is open, and says whether something was.
 */
export function startComposer({ send, keepDraft, stop, escape }) {
  const sendIt = () => {
    const text = question.value.trim();
    if (!text || !send(text)) return;
    setQuestion("");
    showChooser(false);
  };
  const keepIt = () => keepDraft(question.value);
  byId("composer").addEventListener("submit", event => {
    event.preventDefault();
    sendIt();
  });
  question.addEventListener("input", fit);
  question.addEventListener("change", keepIt);
  addEventListener("pagehide", keepIt);
  question.addEventListener("keydown", event => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    sendIt();
  });
  byId("stop").addEventListener("click", () => {
    stop();
    question.focus();
  });
  startChooserButton();
  startFiles(keepIt);
  document.addEventListener("keydown", event => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (!closeChooser() && !escape()) stop();
  });
}

function startChooserButton() {
  byId("who").addEventListener("click", () => showChooser(byId("chooser").hidden));
  document.addEventListener("pointerdown", event => {
    if (!byId("composer").contains(event.target)) showChooser(false);
  });
}

function closeChooser() {
  if (byId("chooser").hidden) return false;
  showChooser(false);
  byId("who").focus();
  return true;
}

/** Text files are picked, or dropped onto the page. */
function startFiles(changed) {
  const take = async files => {
    for (const file of files) setQuestion(await withFile(question.value, file));
    changed();
    question.focus();
  };
  const picked = byId("attach-file");
  byId("attach").addEventListener("click", () => picked.click());
  picked.addEventListener("change", async () => {
    await take(picked.files);
    picked.value = "";
  });
  const main = document.querySelector("main");
  main.addEventListener("dragover", event => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  main.addEventListener("drop", event => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take([...event.dataTransfer.files]);
  });
}

/** A question with a file's text, fenced below its name. */
async function withFile(before, file) {
  const text = file.size > MAX_FILE_BYTES ? null : await file.text();
  if (text === null || /[\0\uFFFD]/.test(text)) {
    notice(`${file.name} is no text, or larger than 1 MiB.`);
    return before;
  }
  const runs = [...text.matchAll(/`+/g)].map(([run]) => run.length);
  const fence = "`".repeat(Math.max(2, ...runs) + 1);
  const above = before.trimEnd();
  return `${above}${above && "\n\n"}${file.name}:\n${fence}\n${text.trimEnd()}\n${fence}\n`;
}
